"""What the second part's host holds for the first's to see: its versions, and whether to stop."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from splitop._src.cluster.spec import SECOND, device_of
from splitop._src.version import __version__


def versions() -> str:
    """What has to be the same on both hosts."""
    return f"splitop {__version__}, TensorFlow {tf.__version__}"


def show_versions() -> Any:
    """Adds what puts this process's versions up."""
    return tf.raw_ops.AssignVariableOp(resource=_versions(), value=tf.constant(versions()))


def shown_versions() -> Any:
    """Adds what reads the versions; tf.errors.FailedPreconditionError: they are not up (yet)."""
    return tf.raw_ops.ReadVariableOp(resource=_versions(), dtype=tf.string)


def hide_versions() -> Any:
    """Adds what takes the versions down."""
    return tf.raw_ops.DestroyResourceOp(resource=_versions())


def ask_to_stop() -> Any:
    """Adds what tells `serve` to return."""
    return tf.raw_ops.AssignVariableOp(resource=_stop(), value=tf.constant(True))


def is_to_stop() -> Any:
    """Adds the question whether `serve` is to return."""
    return tf.raw_ops.VarIsInitializedOp(resource=_stop())


def forget_stop() -> Any:
    """Adds what makes room for the next `serve` of this process."""
    return tf.raw_ops.DestroyResourceOp(resource=_stop())


def _versions() -> Any:
    return _handle(tf.string, "splitop_cluster_versions")


def _stop() -> Any:
    return _handle(tf.bool, "splitop_cluster_stop")


def _handle(dtype: tf.DType, name: str) -> Any:
    with tf.device(device_of(SECOND)):
        return tf.raw_ops.VarHandleOp(dtype=dtype, shape=[], shared_name=name)
