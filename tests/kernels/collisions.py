"""Variables and slots whose lines a first-level cache can't hold together.

As of `same_way` in csrc/kernels/cpu/cache_lines.h: of the bits of these pages that a cache looks at
none differ, or none but those by which the variable's differ from all of its slots'.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests import oracle

# How far slots lie behind their variable, in bytes.
_DISTANCES = {
    "all": (0x4002000, 0x8001000, 0x2004000),
    "the first slot and the variable": (0x4002000, 0x106000, 0x20A000),
    "slots and slots": (0x4103000, 0x101000, 0x2105000),
    "a few bytes further on": (0x4002080, 0x80010C0, 0x2003F00),
}
# What lies between the closest two.
ROOM = 0x100000

COLLISIONS = [
    pytest.param(rule, distances, id=f"{rule}, {name}")
    for rule, how in oracle.RULES.items()
    for name, distances in _DISTANCES.items()
    if how.num_slots >= (2 if name == "slots and slots" else 1)
]


def placed(
    variable: np.ndarray, slots: Sequence[np.ndarray], distances: Sequence[int], begin: int
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Copies of a variable, from byte `begin` of a page on, and of its slots."""
    memory = np.frombuffer(mmap.mmap(-1, 3 << 28), np.uint8)  # only touched pages are there
    first = -memory.ctypes.data % (1 << 28) + begin

    def at(distance: int, values: np.ndarray) -> Any:
        assert values.nbytes + begin <= ROOM
        room = memory[first + distance :][: values.nbytes].view(values.dtype)
        array = room.reshape(values.shape)
        array[...] = values
        return array

    return at(0, variable), tuple(map(at, distances, slots))
