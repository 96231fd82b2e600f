"""Whether shared objects are all there.

Loading one whose end is missing may end the process (SIGBUS).
"""

from __future__ import annotations

import io
import pathlib
import struct
from collections.abc import Iterable

# ELF for 64 bits: offset of the section headers, which come last; size and number of them.
_HEADER = struct.Struct("<4sB35xQ10xHH2x")
_MAGIC, _CLASS_64 = b"\x7fELF", 2


def cut_short(paths: Iterable[pathlib.Path]) -> pathlib.Path | None:
    """The first of these shared objects whose end is missing; None if there is none."""
    return next(filter(_is_cut_short, paths), None)


def _is_cut_short(path: pathlib.Path) -> bool:
    """False for what is no such object, or can't be read: the system's loader says so itself."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
            length = file.seek(0, io.SEEK_END)
    except OSError:
        return False
    if len(header) < _HEADER.size:
        return False
    magic, word_size, sections, size, number = _HEADER.unpack(header)
    return (magic, word_size) == (_MAGIC, _CLASS_64) and length < sections + size * number
