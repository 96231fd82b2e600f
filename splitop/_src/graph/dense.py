"""Recognising the gradients of a dense layer's kernel, bias and input."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from splitop._src.graph import reach
from splitop._src.graph.gradient_graph import GradientGraph

# What layers compute in, in mixed precision; their variables are float32.
SHORT_DTYPES = (tf.bfloat16, tf.float16)

WAITS = "its gradient waits for other operations (control dependencies)"


@dataclasses.dataclass(frozen=True, eq=False)
class KernelGradient:
    """dL/dW = xᵀ G.

    Attributes:
        x: The layer's input, [rows, inputs].
        output_gradient: G = dL/dz, [rows, outputs].
        op: The product.
    """

    x: Any
    output_gradient: Any
    op: Any


@dataclasses.dataclass(frozen=True, eq=False)
class BiasGradient:
    """dL/db = sum of G over its rows.

    Attributes:
        output_gradient: G = dL/dz, of any rank; [..., outputs].
        op: The sum.
    """

    output_gradient: Any
    op: Any


def match_kernel(gradients: GradientGraph, gradient: Any) -> KernelGradient | str:
    """The product that computes a rank-2 variable's gradient, or why it is none."""
    op = through_identity(gradient).op
    if op not in gradients or op.type != "MatMul":
        made_by = producer(gradient).type
        return f"its gradient is computed by {made_by}; the fused op takes dense layers"
    if op.control_inputs:
        return WAITS
    transposed = op.get_attr("transpose_a"), op.get_attr("transpose_b")
    if transposed == (False, True) and op.inputs[0].op in gradients:
        return "it is the input of a layer; the fused op takes W in x·W"
    if transposed != (True, False):
        return "its layer transposes its input; the fused op takes x·W"
    x, output_gradient = op.inputs
    if output_gradient.op not in gradients:
        # (x Wᵀ) has the gradient Gᵀ x: the two factors have changed places.
        return "its layer multiplies by its transpose; the fused op takes x·W"
    return KernelGradient(x, output_gradient, op)


def match_bias(gradients: GradientGraph, gradient: Any) -> BiasGradient | None:
    """The sum that computes a rank-1 variable's gradient, if it is one over all rows."""
    op = producer(gradient)
    if op not in gradients or op.control_inputs:
        return None
    if op.type == "BiasAddGrad" and op.get_attr("data_format") == b"NHWC":
        return BiasGradient(op.inputs[0], op)
    if op.type == "Sum" and _sums_rows(op):
        return BiasGradient(op.inputs[0], op)
    return None


def match_input_gradient(
    gradients: GradientGraph, output_gradient: Any, kernel_handle: Any
) -> Any | None:
    """The live op that computes dL/dx = G Wᵀ from a read of the kernel.

    None too where the kernel may be written after the read: the fused op would use the
    new value. In mixed precision it takes the same copy that this op does.
    """
    root = gradients.root(output_gradient)
    for op in gradients.row_consumers(root):
        if op.type != "MatMul" or op.get_attr("transpose_a") or not op.get_attr("transpose_b"):
            continue
        if op.control_inputs or gradients.root(op.inputs[0]) is not root:
            continue
        factor = through_identity(op.inputs[1])
        read = through_identity(uncast_value(factor)).op
        if read.type == "ReadVariableOp" and read.inputs[0] is kernel_handle:
            is_copy = read is not factor.op
            return op if is_copy or not reach.may_be_stale(read, root) else None
    return None


def producer(gradient: Any) -> Any:
    """The op that computes a gradient, seen through what only renames or reshapes it."""
    op = through_identity(gradient).op
    while op.type == "Reshape" and not op.control_inputs:
        op = through_identity(op.inputs[0]).op
    return op


def uncast(gradient: Any) -> Any:
    """A gradient as the layer has computed it, before mixed precision made it float32."""
    tensor = through_identity(gradient)
    op = tensor.op
    if op.type != "Cast" or op.control_inputs or tensor.dtype != tf.float32:
        return gradient
    return op.inputs[0] if op.inputs[0].dtype in SHORT_DTYPES else gradient


def uncast_value(tensor: Any) -> Any:
    """A variable's value as it was read, before mixed precision made it short."""
    op = tensor.op
    if op.type != "Cast" or tensor.dtype not in SHORT_DTYPES:
        return tensor
    return op.inputs[0] if op.inputs[0].dtype == tf.float32 else tensor


def through_identity(tensor: Any) -> Any:
    """The tensor that `tensor` is another name of; one that waits for more is no mere name."""
    while tensor.op.type == "Identity" and not tensor.op.control_inputs:
        tensor = tensor.op.inputs[0]
    return tensor


def _sums_rows(op: Any) -> bool:
    """Whether a Sum runs over all dimensions but the last."""
    rank = op.inputs[0].shape.rank
    axes = tf.get_static_value(op.inputs[1])
    if rank is None or axes is None:
        return False
    return sorted(axis % rank for axis in axes.ravel()) == list(range(rank - 1))
