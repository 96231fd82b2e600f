"""Convolutions by ops of splitop's own."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.python.util import _pywrap_util_port

from splitop._src import library
from splitop._src.graph.convolutions import Convolution
from splitop._src.graph.epilogues import LINEAR, RELU
from splitop._src.graph.rewire import beside

# Of images of fewer channels TensorFlow's gradient is faster: the op makes as many at a time.
_FEWEST_CHANNELS = 8
# Of images of more channels TensorFlow's convolution is as fast.
_MOST_CHANNELS = 128
# With AVX-512 the op multiplies by 32 filters at a time, however few there are.
_FEWEST_FILTERS = 4


def is_faster(convolution: Convolution) -> bool:
    """Whether the op's forward pass is faster than TensorFlow's.

    That of a filter of one element is a product to both, and oneDNN's, where TensorFlow uses it, is
    as fast.
    """
    if _pywrap_util_port.IsMklEnabled():
        return False
    rows, columns, channels, filters = convolution.filter.shape
    return rows * columns > 1 and channels <= _MOST_CHANNELS and filters >= _FEWEST_FILTERS


def emit_convolution(convolution: Convolution) -> Any:
    """Adds the op `Splitop>Conv2D` (csrc/tf/convolution_op.cpp); returns its result."""
    biases = [] if convolution.bias is None else [convolution.bias]
    with beside(convolution.y.op):
        result = _convolve(
            convolution.x,
            convolution.filter,
            biases,
            convolution.activation,
            _attributes(convolution.convolution),
            convolution.y.op.name,
        )
    result.set_shape(convolution.y.shape)
    return result


def _attributes(op: Any) -> dict[str, Any]:
    """What a convolution and its gradients have in common."""
    names = ("strides", "explicit_paddings", "dilations")
    return {
        "padding": op.get_attr("padding").decode(),
        **{name: list(op.get_attr(name)) for name in names},
    }


def _convolve(
    x: Any,
    weights: Any,
    biases: list[Any],
    activation: str,
    attributes: dict[str, Any],
    name: str | None = None,
) -> Any:
    return library.load().splitop_conv2d(
        x=x, filter=weights, biases=biases, activation=activation, name=name, **attributes
    )


def _filter_gradient(dz: Any, x: Any, weights: Any, attributes: dict[str, Any]) -> list[Any]:
    """dL/dW and dL/db."""
    return library.load().splitop_conv2d_filter_grad(dz=dz, x=x, filter=weights, **attributes)


def _input_gradient(dz: Any, x: Any, weights: Any, attributes: dict[str, Any]) -> Any:
    is_dense = set(attributes["strides"]) == {1}
    is_dilated = set(attributes["dilations"]) != {1}  # TensorFlow has no gradient of that on CPUs
    channels = weights.shape[2] if weights.shape.rank == 4 else None
    is_narrow = channels is not None and channels < _FEWEST_CHANNELS
    if is_dense and (is_dilated or not is_narrow):
        return library.load().splitop_conv2d_input_grad(dz=dz, x=x, filter=weights, **attributes)
    return tf.raw_ops.Conv2DBackpropInput(
        input_sizes=tf.shape(x), filter=weights, out_backprop=dz, **attributes
    )


@tf.RegisterGradient("Splitop>Conv2D")
def _gradient(op: Any, dz: Any) -> list[Any]:
    x, weights, *biases = op.inputs
    attributes = _attributes(op)
    if op.get_attr("activation") == RELU.encode():
        dz = tf.raw_ops.ReluGrad(gradients=dz, features=op.outputs[0])
    dfilter, dbias = _filter_gradient(dz, x, weights, attributes)
    return [_input_gradient(dz, x, weights, attributes), dfilter, *(dbias for _ in biases)]


@tf.RegisterGradient("Splitop>Conv2DFilterGrad")
def _gradient_of_filter_gradient(op: Any, d_filter: Any, d_bias: Any) -> list[Any]:
    """Both results are linear in dz, and dL/dW in x, too."""
    dz, x, _ = op.inputs
    attributes = _attributes(op)
    d_dz = _convolve(x, d_filter, [d_bias], LINEAR, attributes)
    return [d_dz, _input_gradient(dz, x, d_filter, attributes), None]


@tf.RegisterGradient("Splitop>Conv2DInputGrad")
def _gradient_of_input_gradient(op: Any, d_x: Any) -> list[Any]:
    """The result is linear in dz and in the filter."""
    dz, _, weights = op.inputs
    attributes = _attributes(op)
    d_filter, _ = _filter_gradient(dz, d_x, weights, attributes)
    return [_convolve(d_x, weights, [], LINEAR, attributes), None, d_filter]
