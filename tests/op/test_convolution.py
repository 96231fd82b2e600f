"""The ops Splitop>Conv2D, Splitop>Conv2DFilterGrad and Splitop>Conv2DInputGrad."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from splitop._src import library, own_convolution  # noqa: F401  (it registers the gradients)
from tests import convolutions
from tests.convolutions import CASES, LARGE, Case


@pytest.fixture(autouse=True)
def _on_the_cpu():
    """There is no GPU kernel."""
    with tf.device("/CPU:0"):
        yield


def convolve(case: Case, x: Any, weights: Any, *biases: Any, activation: str = "linear") -> Any:
    return library.load().splitop_conv2d(
        x=x, filter=weights, biases=list(biases), activation=activation, **case.attributes
    )


def filter_gradient(case: Case, dz: Any, x: Any, weights: Any) -> Any:
    return library.load().splitop_conv2d_filter_grad(dz=dz, x=x, filter=weights, **case.attributes)


def input_gradient(case: Case, dz: Any, x: Any, weights: Any) -> Any:
    return library.load().splitop_conv2d_input_grad(dz=dz, x=x, filter=weights, **case.attributes)


def _all(case: Case, x: Any, weights: Any, bias: Any, dz: Any) -> list[Any]:
    """Each result; dL/dx where the op makes it."""
    z = convolve(case, x, weights)
    results = [z, *filter_gradient(case, dz, x, weights)]
    if case.strides == (1, 1):
        results.append(input_gradient(case, dz, x, weights))
    return results


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values(case: Case, dtype: str, isa: str) -> None:
    x, weights, bias, dz = convolutions.tensors(case, dtype)
    exact = convolutions.exact(case, x, weights, dz)
    received = [each.numpy() for each in _all(case, x, weights, bias, dz)]
    terms = convolutions.terms(case, exact[0])
    for value, expected, count in zip(received, exact, terms, strict=False):
        convolutions.assert_close(value, expected, count, dtype)
    y = convolve(case, x, weights, bias, activation="relu").numpy()
    convolutions.assert_close(y, np.maximum(exact[0] + bias, 0), terms[0], dtype)


@pytest.mark.parametrize("images", [(0, 4, 5, 3), (2, 1, 5, 3)], ids=["batch", "rows"])
def test_nothing_to_do(images: Any) -> None:
    """No image, or none as large as the filter."""
    case = Case(images, (2, 2), 4)
    z = convolve(case, tf.zeros(images), tf.ones([2, 2, 3, 4]))
    dfilter, dbias = filter_gradient(case, z, tf.zeros(images), tf.ones([2, 2, 3, 4]))
    assert z.shape == (images[0], max(images[1] - 1, 0), max(images[2] - 1, 0), 4)
    np.testing.assert_array_equal(dfilter, np.zeros([2, 2, 3, 4]))
    np.testing.assert_array_equal(dbias, np.zeros(4))
    dx = input_gradient(case, z, tf.zeros(images), tf.ones([2, 2, 3, 4]))
    np.testing.assert_array_equal(dx, np.zeros(images))


@pytest.mark.parametrize("case", [CASES[2], CASES[4], CASES[6]], ids=str)
@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_gradients_of_two_orders(case: Case, activation: str) -> None:
    """The registered ones are those of TensorFlow's operations."""
    x, weights, bias, dz = (tf.constant(each) for each in convolutions.tensors(case, "float64"))
    act = tf.nn.relu if activation == "relu" else tf.identity
    attributes = {k: v for k, v in case.attributes.items() if k != "explicit_paddings"}

    def by_tensorflow(x: Any, weights: Any, bias: Any) -> Any:
        return act(tf.raw_ops.Conv2D(input=x, filter=weights, **attributes) + bias)

    def own(x: Any, weights: Any, bias: Any) -> Any:
        return convolve(case, x, weights, bias, activation=activation)

    sources = [x, weights, bias]
    received = []
    for call in (own, by_tensorflow):
        with tf.GradientTape() as outer:
            outer.watch([*sources, dz])
            with tf.GradientTape() as inner:
                inner.watch(sources)
                y = tf.sin(call(*sources))
            first = inner.gradient(y, sources, dz)
            total = sum(tf.reduce_sum(tf.sin(each)) for each in first)
        received.append([y, *first, *outer.gradient(total, [*sources, dz])])
    for own_value, expected in zip(*received, strict=True):
        np.testing.assert_allclose(own_value, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("case", [CASES[5], CASES[12], LARGE], ids=str)
def test_the_same_bits(case: Case) -> None:
    """In a function, whatever else runs."""
    tensors = convolutions.tensors(case, "float32")
    alone = [each.numpy() for each in _all(case, *tensors)]
    together = tf.function(lambda: [_all(case, *tensors) for _ in range(3)])
    for results in together():
        for a, b in zip(results, alone, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_value_that_is_not_finite_stays_where_it_is() -> None:
    case = Case((2, 6, 7, 3), (3, 3), 20, padding="SAME")
    x, weights, _, dz = convolutions.tensors(case, "float32")
    x[1, 0, 0, 2] = dz[0, 5, 6, 19] = np.nan
    z, dfilter, dbias, dx = (each.numpy() for each in _all(case, x, weights, None, dz))
    exact = convolutions.exact(case, x, weights, dz)
    for received, expected in zip([z, dfilter, dbias, dx], exact, strict=True):
        np.testing.assert_array_equal(np.isnan(received), np.isnan(expected))


@pytest.mark.parametrize("case", [CASES[2], CASES[6]], ids=str)
def test_inside_xla(case: Case) -> None:
    if library.xla_reason() is not None:
        pytest.skip(str(library.xla_reason()))
    library.load_xla()
    tensors = convolutions.tensors(case, "float64")

    def run() -> Any:
        x, weights, bias, _ = tensors
        return [*_all(case, *tensors), convolve(case, x, weights, bias, activation="relu")]

    inside, outside = (tf.function(run, jit_compile=jit)() for jit in (True, False))
    for a, b in zip(inside, outside, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


SQUARE = Case((2, 5, 5, 3), (2, 2), 4)


@pytest.mark.parametrize(
    ("x", "weights"),
    [
        ([2, 5, 5, 2], [2, 2, 3, 4]),
        ([2, 5, 5, 3], [2, 2, 3, 0]),
        ([2, 5, 5, 3], [0, 2, 3, 4]),
    ],
)
def test_shapes_that_do_not_fit(x: Any, weights: Any) -> None:
    expected = r"x must be of shape \[batch, rows, columns, channels\].*Received: x of "
    for call in (
        lambda: convolve(SQUARE, tf.zeros(x), tf.zeros(weights)),
        lambda: filter_gradient(SQUARE, tf.zeros([2, 4, 4, 4]), tf.zeros(x), tf.zeros(weights)),
        lambda: input_gradient(SQUARE, tf.zeros([2, 4, 4, 4]), tf.zeros(x), tf.zeros(weights)),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=expected):
            call()


def test_a_gradient_of_another_shape() -> None:
    x, weights, dz = tf.zeros([2, 5, 5, 3]), tf.zeros([2, 2, 3, 4]), tf.zeros([2, 4, 5, 4])
    for call in (filter_gradient, input_gradient):
        with pytest.raises(
            tf.errors.InvalidArgumentError,
            match=r"dz must be of shape \[2, 4, 4, 4\]\. Received: \[2, 4, 5, 4\]",
        ):
            call(SQUARE, dz, x, weights)


def test_a_bias_of_another_shape() -> None:
    x, weights = tf.zeros([2, 5, 5, 3]), tf.zeros([2, 2, 3, 4])
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"bias must be of shape \[4\]\. Received: \[3\]"
    ):
        convolve(SQUARE, x, weights, tf.zeros([3]))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"one bias\. Received: 2"):
        convolve(SQUARE, x, weights, tf.zeros([4]), tf.zeros([4]))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"strides": [2, 1, 1, 1]}, r"strides and dilations must be .* Received: \[2, 1, 1, 1\]"),
        ({"strides": [1, 0, 1, 1]}, r"strides and dilations must be |[Ss]tride"),
        ({"dilations": [1, 1, 1, 2]}, r"strides and dilations must be .* and \[1, 1, 1, 2\]"),
        ({"explicit_paddings": [0] * 8}, r"explicit_paddings must be 8 numbers"),
        ({"padding": "EXPLICIT"}, r"explicit_paddings must be 8 numbers"),
        ({"padding": "EXPLICIT", "explicit_paddings": [1] * 8}, r"explicit_paddings must be 8"),
    ],
)
def test_attributes_that_do_not_fit(changes: dict[str, Any], expected: str) -> None:
    attributes = {**SQUARE.attributes, **changes}
    x, weights = tf.zeros([2, 5, 5, 3]), tf.zeros([2, 2, 3, 4])
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match=expected):
        library.load().splitop_conv2d_filter_grad(
            dz=tf.zeros([2, 4, 4, 4]), x=x, filter=weights, **attributes
        )


def test_strides_that_have_no_input_gradient() -> None:
    case = Case((2, 5, 5, 3), (2, 2), 4, strides=(2, 2))
    expected = r"strides must be 1\. Received: \[1, 2, 2, 1\]"
    with pytest.raises(tf.errors.InvalidArgumentError, match=expected):
        input_gradient(case, tf.zeros([2, 2, 2, 4]), tf.zeros([2, 5, 5, 3]), tf.zeros([2, 2, 3, 4]))
