"""What parts and trainer send each other: NumPy arrays, and plain values about them.

All of it is made of the classes that are here, of NumPy's and of Python's own: no class of a
party's code is needed, or imported, where it is received.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from splitop._src.parties.compression import Sent
from splitop._src.parties.once import RestartedError

_LOG = logging.getLogger("splitop")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_FILE, _TRACEBACK = 'File "', "(most recent call last)"
_ERROR = r"[\w.]*(Error|Exception|Warning)\b.*: "


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all parts of a training have in common.

    Attributes:
        first: The first part's party.
        seconds: Those of the second parts, in the order in which the first part takes their ivs.
        staleness: How many steps a second part's weights may be behind.
        compression: Of IV and seed.
        keep: How many checkpoints stay.
    """

    first: str
    seconds: tuple[str, ...]
    staleness: int
    compression: str | None
    keep: int


@dataclasses.dataclass(frozen=True)
class Message:
    """IV, or dL/dIV, of one step.

    Attributes:
        party: The second part that it comes from, or goes to.
        step: The step, from 1; in a prediction how many steps have been made.
        keys: The digest of the batch's keys.
        arrays: The tensors of iv, flat.
        structure: The structure of iv, with anything in the place of its tensors.
    """

    party: str
    step: int
    keys: str
    arrays: Sequence[Sent]
    structure: Any

    @property
    def size(self) -> Size:
        """What is sent."""
        return Size(
            sum(each.nbytes for each in self.arrays),
            sum(each.nbytes_before for each in self.arrays),
        )

    def received(self) -> list[np.ndarray]:
        """The arrays, in the dtypes that they had before."""
        return [each.received() for each in self.arrays]


class Size(NamedTuple):
    """Bytes of IV or of dL/dIV.

    Attributes:
        sent: As it is sent.
        plain: Without compression.
    """

    sent: int
    plain: int


@dataclasses.dataclass(frozen=True)
class Reply:
    """What a part answers to a call, besides messages to other parts.

    Attributes:
        value: Plain values, or arrays.
        error: The name of the error's class; None: there was none.
        text: The error's message.
        lost: Whether the part does not know of the training: its process is a new one.
    """

    value: Any = None
    error: str | None = None
    text: str = ""
    lost: bool = False


def failed(error: Exception) -> Reply:
    """The reply to a call that has failed; the traceback goes to the log of the part's owner.

    The exception itself would need its class, and so its owner's code, where it is received.
    """
    if isinstance(error, RestartedError):
        return Reply(error="RestartedError", text=str(error), lost=True)
    _LOG.error("a call of a trainer has failed", exc_info=error)
    name = type(error).__name__
    return Reply(
        error=name, text=_without_traceback(str(error), name).removeprefix(f"{name}:").strip()
    )


def place() -> dict[str, Any]:
    """Which process this is."""
    return {"process": os.getpid(), "host": socket.gethostname()}


def _without_traceback(text: str, name: str) -> str:
    """A message without the traceback and the colours that TensorFlow and Keras put into it.

    Args:
        text: The message.
        name: Of the error's class.
    """
    lines = [line.strip() for line in _COLOUR.sub("", text).splitlines() if line.strip()]
    last = max((n for n, line in enumerate(lines) if line.startswith(_FILE)), default=-1)
    after = range(last + 1, len(lines)) if last >= 0 else range(0)
    error = re.compile(rf"([\w.]*\.)?{name}\b|{_ERROR}")
    found = next((number for number in after if error.match(lines[number])), None)
    if found is not None:
        lines = lines[found:]
    elif _TRACEBACK in text:
        lines = [line for line in lines if not line.startswith(_FILE)]
    return "\n".join(lines)
