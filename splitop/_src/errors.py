"""The errors that splitop raises; every message ends with what was received."""

from __future__ import annotations


class SplitError(ValueError):
    """Base class of the errors about how a model is split or trained."""

    # AutoGraph would turn a class that it does not know into one of its own.
    ag_pass_through = True


class SeedError(SplitError):
    """The seed (`grad_ys`, dL/dIV) does not fit the intermediate vector."""


class CutError(SplitError):
    """The intermediate vector does not cut the model into two parts."""


class VariableListError(SplitError):
    """A variable in `var_list` can't be trained through the intermediate vector."""


class StashError(SplitError):
    """What the second part's step needs of its forward pass is missing, or not of this step."""


class NotFusableError(SplitError):
    """`backend="fused"` was asked for, and some variables can't be fused."""


class CheckpointError(SplitError):
    """A checkpoint can't be written, is damaged, or does not fit the parts that it is read into."""


class ClusterError(SplitError):
    """The hosts of a cluster are not those that its specification says, or not as they must be."""


class WorkerError(SplitError):
    """Another worker process of the training is lost: all of them have to be restarted."""


class AlignmentError(SplitError):
    """Parts with data of their own do not have the same samples, in the same order."""


class PartError(SplitError):
    """A part that runs in another process has failed."""


class PartTimeoutError(PartError):
    """A part that runs in another process has not answered in time."""


class PartLostError(PartError):
    """A part that runs in another process has died more often than it may."""


class VerifyError(SplitError):
    """`splitop.verify` has found that a model does not train in two parts as in one."""


class LibraryError(ImportError):
    """The compiled library is missing, or was built for another TensorFlow."""
