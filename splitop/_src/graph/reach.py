"""Walks over a graph: what reaches what, and where a gradient stops on its way."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.auto_control_deps_utils import get_read_write_resource_inputs
from tensorflow.python.framework.ops import get_gradient_function

# Their gradient functions are registered, and return no gradient.
_ROUNDING = frozenset({"Ceil", "Floor", "Rint", "Round"})

# They write nothing, though TensorFlow does not list them as readers.
_READERS = frozenset(
    {
        "LookupTableFindV2", "LookupTableSizeV2", "ResourceGather", "ResourceGatherNd",
        "Splitop>TableLookup", "VarIsInitializedOp", "VariableShape",
    }
)  # fmt: skip


def handle(graph: Any, variable: Any) -> Any:
    """The tensor that stands for a variable inside `graph`: what ops that read it take."""
    tensor = variable.handle if is_resource(variable) else variable._variable
    # Inside a tf.function it is captured; a nested one captures it once more.
    return graph.capture(tensor) if graph.building_function else tensor


def is_resource(variable: Any) -> bool:
    """Whether it is a resource variable; TF1 has reference variables as well."""
    return getattr(getattr(variable, "handle", None), "dtype", None) == tf.resource


def writers(handle: Any) -> list[Any]:
    """The ops in the handle's graph that may write its variable."""
    return [
        op
        for op in handle.consumers()
        if op.type not in _READERS and handle in get_read_write_resource_inputs(op)[1]
    ]


def may_be_stale(read: Any, tensor: Any) -> bool:
    """Whether the variable may be written between `read`, which reads it, and `tensor`.

    A tf.function runs in the order of creation, and all that there is now comes before what
    will be added. In a TF1 graph only a path tells what comes first.
    """
    writing = writers(read.inputs[0])
    if not writing:
        return False
    if read.graph.building_function:
        operations = read.graph.get_operations()
        later = set(operations[operations.index(read) :])
    else:
        before = ancestors(read.outputs, control=True)
        later = ancestors([tensor], control=True).keys() - before.keys()
    return any(op in later for op in writing)


def ancestors(
    tensors: Iterable[Any],
    *,
    crosses: Callable[[Any], bool] = lambda op: True,
    stop: Iterable[Any] = (),
    control: bool = False,
) -> dict[Any, Any | None]:
    """The ops that `tensors` are computed from, their own producers included.

    Args:
        tensors: Where to start.
        crosses: Whether to go on from an op to its inputs.
        stop: Tensors that are not gone through.
        control: Whether to follow control inputs too.

    Returns:
        Each op with the op that led to it (None for the first ones).
    """
    stopped = {tensor.ref() for tensor in stop}
    found: dict[Any, Any | None] = {}
    stack = [(tensor.op, None) for tensor in tensors if tensor.ref() not in stopped]
    while stack:
        op, via = stack.pop()
        if op in found:
            continue
        found[op] = via
        if not crosses(op):
            continue
        stack += [(tensor.op, op) for tensor in op.inputs if tensor.ref() not in stopped]
        if control:
            stack += [(before, op) for before in op.control_inputs]
    return found


def descendants(tensors: Iterable[Any]) -> set[Any]:
    """The ops that use `tensors`, at any distance."""
    found: set[Any] = set()
    stack = [op for tensor in tensors for op in tensor.consumers()]
    while stack:
        op = stack.pop()
        if op not in found:
            found.add(op)
            stack += [user for tensor in op.outputs for user in tensor.consumers()]
    return found


def is_plain(op: Any) -> bool:
    """Whether an op runs as soon as its inputs are there: in no loop, and waiting for no other."""
    context = op._get_control_flow_context()
    return not op.control_inputs and (context is None or context.IsXLAContext())


def passes_gradient(op: Any) -> bool:
    """Whether TensorFlow's gradient of this op goes on to its inputs."""
    if op.type in _ROUNDING:
        return False
    if op.inputs and op.type == "Cast" and not _differentiable(op.inputs[0]):
        return False
    if op.outputs and not any(_differentiable(tensor) for tensor in op.outputs):
        return False
    try:
        return not op.inputs or get_gradient_function(op) is not None
    except LookupError:  # No gradient is registered: tf.gradients itself raises.
        return True


def blocking_op(sources: Iterable[Any], target: Any) -> Any | None:
    """The op where the gradient on its way from `target` back to `sources` stops."""
    on_the_way = descendants(sources)
    for op in ancestors([target], crosses=passes_gradient):
        if op in on_the_way and not passes_gradient(op):
            return _where_integers_begin(op, on_the_way)
    return None


def path_names(found: dict[Any, Any | None], op: Any) -> list[str]:
    """Names of the ops from `op` to where the walk of `ancestors` started."""
    names = []
    step: Any | None = op
    while step is not None:
        names.append(step.name)
        step = found[step]
    return names


def _where_integers_begin(op: Any, on_the_way: Container[Any]) -> Any:
    """The op that makes integers of floats, if `op` works on such integers."""
    while True:
        inputs = [tensor for tensor in op.inputs if tensor.op in on_the_way]
        if not inputs or any(_differentiable(tensor) for tensor in inputs):
            return op
        op = inputs[0].op


def _differentiable(tensor: Any) -> bool:
    dtype = tensor.dtype.base_dtype
    return dtype.is_floating or dtype.is_complex or dtype in (tf.resource, tf.variant)
