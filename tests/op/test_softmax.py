"""The op Splitop>SoftmaxGrad."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from splitop._src import library, own_softmax  # noqa: F401  (it registers the gradient)

# A row, rows of one element, both sides of a vector and of a block of rows, and many rows.
SHAPES = [(5,), (7, 1), (3, 4, 64), (2, 65), (9, 33), (3, 16384), (2, 20001), (70000, 3)]


@pytest.fixture(autouse=True)
def _on_the_cpu():
    """There is no GPU kernel."""
    with tf.device("/CPU:0"):
        yield


def own(dy: Any, y: Any) -> Any:
    return library.load().splitop_softmax_grad(dy=dy, y=y)


def _tensors(shape: tuple[int, ...], dtype: str) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    y = tf.nn.softmax(random.normal(size=shape)).numpy().astype(dtype)
    return tf.constant(random.normal(size=shape).astype(dtype)), tf.constant(y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_gradient(shape: tuple[int, ...], dtype: str, isa: str) -> None:
    """Off by the rounding of a sum and of three operations at most."""
    dy, y = _tensors(shape, dtype)
    wide, other = (each.numpy().astype(np.longdouble) for each in (dy, y))
    along, size = (np.sum(each, -1, keepdims=True) for each in (wide * other, abs(wide) * other))
    exact, terms = (wide - along) * other, (abs(wide) + size) * other
    received = own(dy, y)
    assert received.dtype == dtype
    assert np.all(abs(received - exact) <= (shape[-1] + 3) * np.finfo(dtype).eps * terms)


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (2, 0, 3)])
def test_no_elements(shape: tuple[int, ...]) -> None:
    assert own(tf.zeros(shape), tf.zeros(shape)).shape == shape


def test_what_is_no_number_stays_in_its_row() -> None:
    dy, y = (each.numpy() for each in _tensors((4, 37), "float32"))
    expected = own(dy, y).numpy()
    dy[2, 5] = np.nan
    expected[2] = np.nan
    np.testing.assert_array_equal(own(dy, y), expected)


def test_its_inputs_stay() -> None:
    """The op may write into dy's memory, but only where nobody else has it."""
    dy, y = _tensors((64, 64), "float32")
    before = dy.numpy(), y.numpy()
    own(dy, y)
    np.testing.assert_array_equal(dy, before[0])
    np.testing.assert_array_equal(y, before[1])

    @tf.function
    def run() -> Any:
        grown = dy * 2.0
        return own(grown, y), grown

    received, grown = run()
    np.testing.assert_array_equal(grown, before[0] * 2)
    np.testing.assert_array_equal(received, own(dy * 2.0, y))


@pytest.mark.parametrize("width", [3, 64, 4099])
def test_into_the_memory_of_dy(width: int) -> None:
    """Which nobody else has in these functions."""
    dy, y = _tensors((33, width), "float32")
    expected = own(dy * 2.0, y), own(y * 1.0, y)
    assert np.array_equal(tf.function(lambda dy, y: own(dy * 2.0, y))(dy, y), expected[0])
    assert np.array_equal(tf.function(lambda y: own(y * 1.0, y))(y), expected[1])
    assert np.array_equal(tf.function(lambda y: own(y, y))(y), expected[1])


@pytest.mark.parametrize("shape", [(5,), (3, 4, 64), (0, 5)])
def test_inside_xla(shape: tuple[int, ...]) -> None:
    if library.xla_reason() is not None:
        pytest.skip(str(library.xla_reason()))
    dy, y = _tensors(shape, "float64")
    received = tf.function(own, jit_compile=True)(dy, y)
    np.testing.assert_allclose(received, own(dy, y), rtol=1e-12, atol=1e-15)


def test_gradient_of_the_gradient() -> None:
    dy, y = _tensors((3, 7, 9), "float64")
    received = []
    for gradient in (own, lambda dy, y: (dy - tf.reduce_sum(dy * y, -1, keepdims=True)) * y):
        with tf.GradientTape() as tape:
            tape.watch([dy, y])
            loss = tf.reduce_sum(tf.sin(gradient(dy, y)))
        received.append(tape.gradient(loss, [dy, y]))
    for value, expected in zip(*received, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    ("dy", "y"), [((2, 3), (3, 2)), ((2, 3), (1, 3)), ((6,), (2, 3)), ((), ())]
)
def test_shapes_that_do_not_fit(dy: tuple[int, ...], y: tuple[int, ...]) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"same shape.* Received: \["):
        own(tf.zeros(dy), tf.zeros(y))
