"""The op Splitop>MaxPoolGrad."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from splitop._src import library, own_pool  # noqa: F401  (it registers the gradient)

SHAPES = [
    ((1, 1, 1, 1), (1, 1), (1, 1)),
    ((2, 7, 8, 5), (2, 2), (2, 2)),
    ((2, 7, 8, 5), (3, 2), (2, 3)),
    ((2, 9, 9, 33), (3, 3), (1, 1)),
    ((3, 9, 10, 19), (2, 2), (3, 4)),
    ((2, 3, 3, 64), (3, 3), (2, 2)),
]


@pytest.fixture(autouse=True)
def _on_the_cpu():
    """There is no GPU kernel."""
    with tf.device("/CPU:0"):
        yield


def _attributes(size: Any, strides: Any, padding: str) -> dict[str, Any]:
    return {"ksize": [1, *size, 1], "strides": [1, *strides, 1], "padding": padding}


def own(x: Any, y: Any, dy: Any, attributes: dict[str, Any], activation: str = "linear") -> Any:
    return library.load().splitop_max_pool_grad(
        x=x, y=y, dy=dy, activation=activation, **attributes
    )


def theirs(x: Any, y: Any, dy: Any, attributes: dict[str, Any], activation: str = "linear") -> Any:
    dx = tf.raw_ops.MaxPoolGrad(orig_input=x, orig_output=y, grad=dy, **attributes)
    return dx if activation == "linear" else tf.raw_ops.ReluGrad(gradients=dx, features=x)


def _tensors(
    shape: Any, attributes: dict[str, Any], dtype: str, activation: str = "linear"
) -> tuple[Any, Any, Any]:
    """Of a few values, many of which are equally large."""
    random = np.random.default_rng(0)
    x = tf.constant(random.integers(-2, 3, size=shape).astype(dtype))
    x = tf.nn.relu(x) if activation == "relu" else x
    y = tf.raw_ops.MaxPool(input=x, **attributes)
    return x, y, tf.constant(random.normal(size=y.shape).astype(dtype))


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "size", "strides"), SHAPES)
def test_the_bits_of_tensorflow(
    shape: Any, size: Any, strides: Any, dtype: str, padding: str, activation: str, isa: str
) -> None:
    attributes = _attributes(size, strides, padding)
    arguments = (*_tensors(shape, attributes, dtype, activation), attributes, activation)
    np.testing.assert_array_equal(own(*arguments), theirs(*arguments))


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_what_is_no_number(activation: str) -> None:
    attributes = _attributes((2, 2), (2, 2), "VALID")
    x, y, dy = (each.numpy() for each in _tensors((3, 8, 8, 9), attributes, "float32", activation))
    x[0, 0, 0], x[1, 1, 0] = np.nan, np.nan
    if activation == "linear":
        x[2, 2:4, 2:4] = -np.inf
    x[1, 4:8, 4:8] = 0  # where relu has left nothing, these are seen, too
    dy[1, 3, 3], dy[1, 2, 2], dy[2, 3, 3] = np.nan, np.inf, -np.inf
    arguments = (x, y, dy, attributes, activation)
    received, expected = own(*arguments), theirs(*arguments)
    assert np.isnan(expected).any()
    np.testing.assert_array_equal(received, expected)


@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (2, 1, 4, 3)])
def test_no_windows(shape: Any) -> None:
    attributes = _attributes((2, 2), (2, 2), "VALID")
    y = tf.zeros([shape[0], shape[1] // 2, shape[2] // 2, 3])
    np.testing.assert_array_equal(own(tf.ones(shape), y, y, attributes), np.zeros(shape))


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_the_gradient_of_the_gradient(activation: str) -> None:
    attributes = _attributes((3, 2), (2, 1), "SAME")
    x, y, dy = _tensors((2, 7, 6, 5), attributes, "float64", activation)
    received = []
    for gradient in (own, theirs):
        with tf.GradientTape() as tape:
            tape.watch(dy)
            total = tf.reduce_sum(tf.sin(gradient(x, y, dy, attributes, activation)))
        received.append(tape.gradient(total, dy))
    np.testing.assert_array_equal(*received)
    assert np.abs(received[0]).max() > 0


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_inside_xla(activation: str) -> None:
    if library.xla_reason() is not None:
        pytest.skip(str(library.xla_reason()))
    library.load_xla()
    for padding in ("SAME", "VALID"):
        attributes = _attributes((3, 2), (2, 2), padding)
        x = tf.constant(np.random.default_rng(0).normal(size=(2, 7, 6, 5)))
        x = tf.nn.relu(x - 1) if activation == "relu" else x
        y = tf.raw_ops.MaxPool(input=x, **attributes)
        run = tf.function(own, jit_compile=True)
        arguments = (x, y, tf.cos(y), attributes, activation)
        np.testing.assert_allclose(run(*arguments), own(*arguments), rtol=1e-12)


@pytest.mark.parametrize(
    ("x", "dy", "changes", "expected"),
    [
        ([2, 4, 4, 3], [2, 2, 3, 3], {}, r"dy must be of shape \[2, 2, 2, 3\]\. Received: \[2, 2"),
        ([2, 4, 4, 0], [2, 2, 2, 0], {}, r"the last at least 1\. Received: \[2, 4, 4, 0\]"),
        ([2, 4, 4, 3], [2, 2, 2, 3], {"ksize": [1, 2, 2, 3]}, r"ksize and strides must be "),
        ([2, 4, 4, 3], [2, 2, 2, 3], {"strides": [1, 0, 2, 1]}, r"ksize and strides must be "),
    ],
)
def test_what_does_not_fit(x: Any, dy: Any, changes: Any, expected: str) -> None:
    attributes = {**_attributes((2, 2), (2, 2), "VALID"), **changes}
    with pytest.raises(tf.errors.InvalidArgumentError, match=expected):
        own(tf.zeros(x), tf.zeros(dy), tf.zeros(dy), attributes)
