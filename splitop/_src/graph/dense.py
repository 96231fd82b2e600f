"""Recognising the gradients of a dense layer's kernel, bias and input."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import tensorflow as tf

from splitop._src.graph import reach
from splitop._src.graph.gradient_graph import GradientGraph
from splitop._src.graph.products import BATCHED, Labels, Product, read_product

# What layers compute in, in mixed precision; their variables are float32.
SHORT_DTYPES = (tf.bfloat16, tf.float16)

WAITS = "its gradient waits for other operations (control dependencies)"


@dataclasses.dataclass(frozen=True, eq=False)
class KernelGradient:
    """dL/dW = xᵀ G.

    Attributes:
        x: The layer's input; as a matrix [rows, inputs].
        output_gradient: G = dL/dz; as a matrix [rows, outputs].
        inputs: How many inputs the layer has.
        outputs: How many outputs.
        op: The product.
        others: The products that are added to this one, where W is used in several places.
    """

    x: Any
    output_gradient: Any
    inputs: int
    outputs: int
    op: Any
    others: tuple[KernelGradient, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class BiasGradient:
    """dL/db = sum of G over its rows.

    Attributes:
        output_gradient: G = dL/dz; as a matrix [rows, outputs].
        outputs: Elements of the bias.
        op: The sum.
        otherwise: Why it is not fused if no layer has this bias.
        others: The sums that are added to this one, where b is used in several places.
    """

    output_gradient: Any
    outputs: int
    op: Any
    otherwise: str = "it is not the bias of a fused dense layer"
    others: tuple[BiasGradient, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class InputGradient:
    """dL/dx = G Wᵀ.

    Attributes:
        tensor: It, seen through views of it.
        is_matrix: Whether that is [rows, inputs]; else it has the shape of the layer's x.
        factor: What W was for the product.
        is_copy: Whether that is a copy of the variable's value, in mixed precision.
        op: The product.
    """

    tensor: Any
    is_matrix: bool
    factor: Any
    is_copy: bool
    op: Any


def match_kernel(
    gradients: GradientGraph, gradient: Any, shape: tf.TensorShape
) -> KernelGradient | str:
    """The product that computes a variable's gradient, or why it is none of x and G."""
    source = _through_views(gradient)
    product = read_product(source) if source.op in gradients else None
    if product is None:
        return _no_product(source.op)
    if product.waits:
        return WAITS
    split = _split(product)
    if split is None:
        return _no_dense_layer(gradients, product)
    first, inputs_of_x, outputs_of_g = split
    x, output_gradient = product.factors[first], product.factors[1 - first]
    if output_gradient.op not in gradients:
        # (x Wᵀ) has the gradient Gᵀ x: the two factors have changed places.
        return "its layer multiplies by its transpose; the fused op takes x·W"
    inputs, outputs = product.size(inputs_of_x), product.size(outputs_of_g)
    if inputs is None or outputs is None or not _splits(shape, inputs, outputs):
        return f"its shape {shape} is not that of a layer's inputs, then of its outputs"
    return KernelGradient(x, output_gradient, inputs, outputs, product.op)


def match_bias(
    gradients: GradientGraph, gradient: Any, shape: tf.TensorShape
) -> BiasGradient | None:
    """The sum that computes a variable's gradient, if it is one over all rows of a matrix."""
    op = producer(gradient)
    if op not in gradients or op.control_inputs:
        return None
    outputs = shape.num_elements()
    if op.type == "BiasAddGrad" and op.get_attr("data_format") == b"NHWC":
        return BiasGradient(op.inputs[0], outputs, op)
    if op.type == "Sum" and _sums_rows(op, outputs):
        return BiasGradient(op.inputs[0], outputs, op)
    return None


def match_input_gradient(
    gradients: GradientGraph, kernel: KernelGradient, handle: Any
) -> InputGradient | None:
    """The live op that computes dL/dx = G Wᵀ from a read of the kernel.

    None too where the kernel may be written after the read: the fused op would use the
    new value. In mixed precision it takes the same copy that this op does.
    """
    root = gradients.root(kernel.output_gradient)
    for op in gradients.consumers(root):
        product = read_product(op.outputs[0])
        if product is None or product.waits or gradients.root(op.inputs[0]) is not root:
            continue
        if not _is_input_gradient(product, kernel):
            continue
        factor = _through_views(op.inputs[1])
        value = _through_views(uncast_value(factor))
        read = value.op
        if read.type != "ReadVariableOp" or read.inputs[0] is not handle:
            continue
        is_copy = value is not factor
        if not is_copy and reach.may_be_stale(read, root):
            return None
        tensor = _as_input(gradients, product, kernel)
        if tensor is None:
            return None
        return InputGradient(tensor, op.type == "MatMul", op.inputs[1], is_copy, op)
    return None


def is_bias_of(gradients: GradientGraph, bias: BiasGradient, kernel: KernelGradient) -> bool:
    """Whether a bias is added to a kernel's product, in every place."""
    of_bias, of_kernel = (
        collections.Counter(gradients.root(each.output_gradient).ref() for each in (of, *of.others))
        for of in (bias, kernel)
    )
    return bias.outputs == kernel.outputs and of_bias == of_kernel


def summands(gradient: Any) -> list[Any]:
    """The terms of the sum that a gradient is, where its variable is used in several places."""
    op = producer(gradient)
    if op.type != "AddN" or op.control_inputs:
        return [gradient]
    return [term for part in op.inputs for term in summands(part)]


def producer(gradient: Any) -> Any:
    """The op that computes a gradient, seen through what only renames or reshapes it."""
    return _through_views(gradient).op


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


def _through_views(tensor: Any) -> Any:
    """The tensor that `tensor` is another name or another shape of."""
    tensor = through_identity(tensor)
    while tensor.op.type == "Reshape" and not tensor.op.control_inputs:
        tensor = through_identity(tensor.op.inputs[0])
    return tensor


def _no_product(op: Any) -> str:
    if op.type == "Sum" and op.inputs[0].op.type in BATCHED:
        op = op.inputs[0].op
    if op.type in BATCHED:
        return _batched(op)
    return (
        f"its gradient is computed by {op.type}; "
        "the fused op takes the kernels and biases of dense layers"
    )


def _batched(op: Any) -> str:
    return f"its gradient is a batched product ({op.type}); the fused op takes x·W of matrices"


def _no_dense_layer(gradients: GradientGraph, product: Product) -> str:
    if product.op.type in BATCHED:
        return _batched(product.op)
    transposed = product.op.get_attr("transpose_a"), product.op.get_attr("transpose_b")
    if transposed == (False, True) and product.factors[0].op in gradients:
        return "it is the input of a layer; the fused op takes W in x·W"
    return "its layer transposes its input; the fused op takes x·W"


def _split(product: Product) -> tuple[int, Labels, Labels] | None:
    """Which factor is x in xᵀ G, the names of its inputs, and of the outputs; None if none is.

    Both factors have to be matrices in memory, of the same rows in the same order.
    """
    for first in (0, 1):
        of_x, of_g = product.labels[first], product.labels[1 - first]
        inputs = tuple(name for name in product.result if name in of_x)
        outputs = tuple(name for name in product.result if name in of_g)
        rows = of_x[: len(of_x) - len(inputs)]
        if not rows or not inputs or not outputs or product.result != inputs + outputs:
            continue
        if of_x == rows + inputs and of_g == rows + outputs:
            return first, inputs, outputs
    return None


def _splits(shape: tf.TensorShape, inputs: int, outputs: int) -> bool:
    """Whether the first dimensions of a shape have `inputs` elements, the others `outputs`."""
    return any(
        (shape[:split].num_elements(), shape[split:].num_elements()) == (inputs, outputs)
        for split in range(1, shape.rank)
    )


def _is_input_gradient(product: Product, kernel: KernelGradient) -> bool:
    """Whether a product of G and something of the kernel's shape is G Wᵀ."""
    of_g, of_w = product.labels
    outputs = tuple(name for name in of_w if name not in product.result)
    inputs = of_w[: len(of_w) - len(outputs)]
    rows = of_g[: len(of_g) - len(outputs)]
    if of_g != rows + outputs or of_w != inputs + outputs or product.result != rows + inputs:
        return False
    shape = product.factors[1].shape
    return (shape[: len(inputs)].num_elements(), shape[len(inputs) :].num_elements()) == (
        kernel.inputs,
        kernel.outputs,
    )


def _as_input(gradients: GradientGraph, product: Product, kernel: KernelGradient) -> Any | None:
    """dL/dx as TensorFlow goes on with it; None if that is not the shape of x for sure."""
    tensor, x = product.op.outputs[0], kernel.x
    if product.op.type == "MatMul":
        return tensor
    if through_identity(product.factors[0]) is not through_identity(kernel.output_gradient):
        return None
    users = [op for op in tensor.consumers() if op in gradients.live]
    if not any(op.type == "Sum" for op in users):
        same_inputs = list(tensor.shape[1:]) == list(x.shape[1:])
        return tensor if tensor.shape.rank == x.shape.rank and same_inputs else None
    # W has no batch, so that only dimensions of 1 are summed: else it would not fit the shape of x.
    if len(users) != 1 or users[0].control_inputs:
        return None
    total = users[0].outputs[0]
    readers = [op for op in total.consumers() if op in gradients.live]
    if len(readers) != 1 or readers[0].type != "Reshape" or readers[0].control_inputs:
        return None
    return total if _reshapes_like(readers[0], x) else None


def _reshapes_like(op: Any, x: Any) -> bool:
    """Whether a Reshape's output has the shape of x."""
    shape = op.inputs[1].op
    if shape.type == "Shape":
        return shape.inputs[0] is x
    return x.shape.is_fully_defined() and op.outputs[0].shape.as_list() == x.shape.as_list()


def _sums_rows(op: Any, outputs: int) -> bool:
    """Whether a Sum runs over the first dimensions, and leaves `outputs` elements."""
    shape = op.inputs[0].shape
    axes = tf.get_static_value(op.inputs[1])
    if shape.rank is None or axes is None:
        return False
    summed = {int(axis) % shape.rank for axis in axes.ravel()}
    left = [axis for axis in range(shape.rank) if axis not in summed and shape[axis] != 1]
    last = max((axis for axis in summed if shape[axis] != 1), default=-1)
    extents = tf.TensorShape([shape[axis] for axis in left])
    return extents.num_elements() == outputs and all(axis > last for axis in left)
