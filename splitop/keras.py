"""What splitop adds to Keras: optimizers and callbacks, which are Keras' own kinds of objects."""

from __future__ import annotations

from splitop._src.rowwise_adagrad import RowwiseAdagrad
from splitop._src.split_checkpoint import SplitCheckpoint

__all__ = ["RowwiseAdagrad", "SplitCheckpoint"]
