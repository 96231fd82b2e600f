"""What splitop adds to Keras, as Keras' own kinds of object: models, optimizers, callbacks."""

from __future__ import annotations

from splitop._src.rowwise_adagrad import RowwiseAdagrad
from splitop._src.split_checkpoint import SplitCheckpoint
from splitop._src.split_model.callbacks import ForSecondPart
from splitop._src.split_model.compiling import Plans
from splitop._src.split_model.model import SplitModel

__all__ = ["ForSecondPart", "Plans", "RowwiseAdagrad", "SplitCheckpoint", "SplitModel"]
