"""What splitop adds to Keras: optimizers, which are Keras' own kind of object."""

from __future__ import annotations

from splitop._src.rowwise_adagrad import RowwiseAdagrad

__all__ = ["RowwiseAdagrad"]
