"""Parts on many machines, as Ray actors: `pip install "splitop[ray]"`.

A Trainer needs no TensorFlow; the parts do.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from splitop._src.parties.keys import Batches
from splitop._src.parties.party import Party
from splitop._src.parties.trainer import Trainer
from splitop._src.parties.waiting import Traffic

if TYPE_CHECKING:
    from splitop._src.parties.parts import FirstPart, SecondPart
    from splitop._src.parties.rows import Rows

__all__ = ["Batches", "FirstPart", "Party", "Rows", "SecondPart", "Traffic", "Trainer"]

_LAZY = {"FirstPart": "parts", "Rows": "rows", "SecondPart": "parts"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"splitop._src.parties.{_LAZY[name]}"), name)
    globals()[name] = value
    return value
