"""Where variables are, and whether the fused op can work there."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf

from splitop._src import library, replicas
from splitop._src.cluster import hosts

_XLA_SCOPE = "_XlaCompile"  # of operations that XLA compiles together
OTHER_GRADIENT = "_gradient_op_type"  # what tf.gradients asks for before an operation's type


@dataclasses.dataclass(frozen=True)
class Place:
    """A device; the same one however a device string is written.

    Attributes:
        kind: "CPU", "GPU", ...; None: TensorFlow has yet to choose, when the graph runs.
        index: Which of that kind; None: any.
        host: The host of a cluster that has it, such as "/job:second/task:0"; "": this process.
    """

    kind: str | None
    index: int | None
    host: str = ""

    def __str__(self) -> str:
        if self.kind is None:
            return self.host or "not set"
        return f"{self.host}/device:{self.kind}:{'*' if self.index is None else self.index}"


def place_of(variable: Any) -> Place:
    """Where a variable is."""
    spec = _spec_of(variable)
    return Place(spec.device_type, spec.device_index, hosts.host_of(spec) or "")


def device_reason(variable: Any) -> str | None:
    """Why the fused op can't work where a variable is, or None."""
    spec = _spec_of(variable)
    if hosts.host_of(spec) is None and not _is_in_this_process(spec):
        return f"it is placed on another machine's device, {variable.device}"
    if spec.device_type not in (None, "CPU", "GPU"):
        return f"it is placed on {variable.device}; the fused op runs on CPUs and NVIDIA GPUs"
    if spec.device_type == "GPU":
        cause = library.cuda_reason()
        return None if cause is None else f"it is placed on {variable.device}. {cause}"
    if spec.device_type is None and tf.config.get_visible_devices("GPU"):
        # TensorFlow finds a GPU kernel for every operation on it, the fused one too.
        cause = library.cuda_reason()
        if cause is not None:
            return (
                "it has no device, and TensorFlow would place it on the GPU: create it under "
                f'tf.device("/CPU:0"). {cause}'
            )
    return None


def may_be_on_gpu(variable: Any) -> bool:
    """Whether a variable is on a GPU, or TensorFlow may put it on one."""
    kind = _spec_of(variable).device_type
    return kind == "GPU" or (kind is None and bool(tf.config.get_visible_devices("GPU")))


def is_on_cpu(op: Any) -> bool:
    """Whether TensorFlow puts an operation on a CPU."""
    return _spec_of(op).device_type in (None, "CPU") and not may_be_on_gpu(op)


def is_replaceable(op: Any) -> bool:
    """Whether an op of splitop's for CPUs may stand for an operation.

    XLA has ways of its own, and whoever has given the operation another gradient would lose it.
    """
    attributes = op.node_def.attr
    return is_on_cpu(op) and _XLA_SCOPE not in attributes and OTHER_GRADIENT not in attributes


@contextlib.contextmanager
def on_device_of(graph: Any, variable: Any) -> Iterator[None]:
    """Adds operations where a variable is, whatever device the caller is under.

    If that is not set, none is asked for: TensorFlow puts an operation that takes the
    variable's handle where the variable goes.
    """
    with graph.colocate_with(None, ignore_existing=True), tf.device(variable.device or None):
        yield


@contextlib.contextmanager
def on_host_of(variables: Iterable[Any]) -> Iterator[None]:
    """Adds operations on the host of a cluster that has all of some variables, if one has.

    That is where operations without a device of their own go; TensorFlow would put these, gradients
    above all, on the host of the session.

    Args:
        variables: tf.Variable objects.
    """
    found = {place_of(variable).host for variable in variables} if hosts.are_known() else set()
    host = found.pop() if len(found) == 1 else ""
    with tf.device(host) if host else contextlib.nullcontext():
        yield


def _is_in_this_process(spec: Any) -> bool:
    if spec.job in (None, "localhost") and spec.task in (None, 0):
        return True
    own = map(tf.DeviceSpec.from_string, replicas.devices_of_worker())
    return any((spec.job, spec.task) == (each.job, each.task) for each in own)


def _spec_of(variable: Any) -> Any:
    return tf.DeviceSpec.from_string(variable.device or "")
