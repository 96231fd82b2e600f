"""Products of splitop's own in the place of TensorFlow's, in a function that trains.

This is the last that happens to its graph: whoever asks for a gradient after it, by the result of a
product, would get none.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from splitop._src.graph import reach
from splitop._src.graph.copy import calls_functions
from splitop._src.own_product import emit_product, own_product
from splitop._src.xla import in_xla


def with_own_products(returned: Any) -> Any:
    """Gives all that uses the result of a product that of an op of splitop's own.

    TensorFlow prunes the operations that nothing uses any more. Nothing happens where no fused op
    trains, or where XLA, which makes products as fast, compiles the function.

    Args:
        returned: What the Python function returns that has made the current graph.

    Returns:
        The same, with the new results.
    """
    graph = tf.compat.v1.get_default_graph()
    if not graph.building_function or in_xla(graph):
        return returned
    operations = graph.get_operations()
    if not any(op.type.startswith("Splitop>") and op.op_def.is_stateful for op in operations):
        return returned
    results = [each for each in tf.nest.flatten(returned) if tf.is_tensor(each)]
    running = _running(operations, [each for each in results if hasattr(each, "op")])
    new = {
        op.outputs[0].ref(): _replace(op)
        for op in operations
        if op in running and _can_be_replaced(op)
    }
    if not any(each.ref() in new for each in results if isinstance(each, tf.Tensor)):
        return returned
    return tf.nest.map_structure(
        lambda each: new.get(each.ref(), each) if isinstance(each, tf.Tensor) else each, returned
    )


def _running(operations: list[Any], results: list[Any]) -> set[Any]:
    """The operations that a tf.function runs: those with effects, and all that is needed."""
    found: set[Any] = set()
    stack = [op for op in operations if op.op_def.is_stateful]
    stack += [tensor.op for tensor in results]
    while stack:
        op = stack.pop()
        if op not in found:
            found.add(op)
            stack += [*(tensor.op for tensor in op.inputs), *op.control_inputs]
    return found


def _can_be_replaced(op: Any) -> bool:
    if own_product(op) is None or not reach.is_plain(op) or op._control_outputs:
        return False
    # A function has the tensors it takes listed elsewhere, too.
    return not any(calls_functions(user) for user in op.outputs[0].consumers())


def _replace(op: Any) -> Any:
    product, old, graph = own_product(op), op.outputs[0], op.graph
    assert product is not None
    users = old.consumers()
    with (
        graph.control_dependencies(None),
        graph.colocate_with(None, ignore_existing=True),
        graph.device(op.device),
    ):
        new = emit_product(product, op.inputs, op.name)
    new.set_shape(old.shape)
    for user in users:
        for index, tensor in enumerate(user.inputs):
            if tensor is old:
                user._update_input(index, new)
    return new
