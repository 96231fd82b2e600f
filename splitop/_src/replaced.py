"""Operations of splitop's own in the place of TensorFlow's, in a function that trains.

This is the last that happens to its graph: whoever asks for a gradient after it, by the result of a
product, of the bias or relu after it, of a norm, of a convolution or of softmax, would get none.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from splitop._src.graph import reach
from splitop._src.graph.convolutions import match_convolution
from splitop._src.graph.epilogues import Epilogue, match_epilogue
from splitop._src.graph.layer_norms import match_layer_norm
from splitop._src.graph.rewire import beside, give_instead, is_taken_by_functions
from splitop._src.own_convolution import emit_convolution, is_faster
from splitop._src.own_norm import emit_norm
from splitop._src.own_product import OwnProduct, emit_product, own_product
from splitop._src.own_softmax import emit_softmax, is_own_softmax
from splitop._src.xla import in_xla


def with_own_ops(returned: Any) -> Any:
    """Gives all that uses the result of a product, norm, convolution or softmax that of an own op.

    TensorFlow prunes the operations that nothing uses any more. Nothing happens where no fused op
    trains, or where XLA, which makes them as fast, compiles the function.

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
    refs = {each.ref() for each in results if isinstance(each, tf.Tensor)}
    new: dict[Any, Any] = {}
    for op in operations:
        if op in running:
            new |= _replaced(op, running, refs)
    if not refs & new.keys():
        return returned
    return tf.nest.map_structure(
        lambda each: new.get(each.ref(), each) if isinstance(each, tf.Tensor) else each, returned
    )


def is_untouched() -> bool:
    """Whether the current graph has nothing but the inputs of a function."""
    graph = tf.compat.v1.get_default_graph()
    return graph.building_function and all(
        op.type == "Placeholder" for op in graph.get_operations()
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


def _replaced(op: Any, running: set[Any], results: set[Any]) -> dict[Any, Any]:
    """What stands for the result of an operation, or of one after it, by reference to that."""
    if not op.outputs or op._control_outputs or is_taken_by_functions(op.outputs[0]):
        return {}
    norm, product = match_layer_norm(op), own_product(op)
    convolution = match_convolution(op, activated=True)
    old = op.outputs[0]
    if norm is not None:
        new = emit_norm(norm)
    elif convolution is not None and is_faster(convolution):
        new = emit_convolution(convolution)
    elif is_own_softmax(op):
        new = emit_softmax(op)
    elif product is not None and reach.is_plain(op):
        epilogue = match_epilogue(old, running, results)
        old, new = epilogue.y, _emit_product(product, op, epilogue)
    else:
        return {}
    give_instead(old, new)
    return {old.ref(): new}


def _emit_product(product: OwnProduct, op: Any, epilogue: Epilogue) -> Any:
    bias = epilogue.bias
    with beside(op):
        if bias is not None and bias.shape.rank != 1:
            bias = tf.reshape(bias, [-1])
        new = emit_product(product, op.inputs, op.name, bias, epilogue.activation)
        new.set_shape(op.outputs[0].shape)
        for reshape in epilogue.reshapes:
            new = tf.reshape(new, reshape.inputs[1])
    new.set_shape(epilogue.y.shape)
    return new
