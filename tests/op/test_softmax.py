"""The ops Splitop>Softmax and Splitop>SoftmaxGrad."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from splitop._src import library, own_softmax  # noqa: F401  (it registers the gradient)

# A row, rows of one element, both sides of a vector, of four of them, of the exponentials that are
# made at a time, and of a block of rows, and many rows.
SHAPES = [
    (5,), (7, 1), (4, 8), (700, 7), (3, 4, 64), (2, 65), (9, 33), (5, 31), (2, 2047), (3, 2049),
    (3, 16384), (2, 20001), (70000, 3),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _on_the_cpu():
    """There is no GPU kernel."""
    with tf.device("/CPU:0"):
        yield


def softmax(x: Any) -> Any:
    return library.load().splitop_softmax(x=x)


def own(dy: Any, y: Any) -> Any:
    return library.load().splitop_softmax_grad(dy=dy, y=y)


def _tensors(shape: tuple[int, ...], dtype: str) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    y = tf.nn.softmax(random.normal(size=shape)).numpy().astype(dtype)
    return tf.constant(random.normal(size=shape).astype(dtype)), tf.constant(y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_is_softmax(shape: tuple[int, ...], dtype: str, isa: str) -> None:
    """Off by the rounding of a difference, an exponential, a sum and a scale at most."""
    x = np.random.default_rng(0).normal(scale=20, size=shape).astype(dtype)
    off = x.astype(np.longdouble) - x.max(-1, keepdims=True)
    exact = np.exp(off) / np.sum(np.exp(off), -1, keepdims=True)
    received = softmax(x)
    assert received.dtype == dtype
    info = np.finfo(dtype)
    # exp(off) is off by as much as off is, relatively; exponentials of less than -87 may be 0. Sums
    # are made in two parts at least.
    bound = exact * (shape[-1] / 2 + 16 + abs(off)) * info.eps + 2 * info.tiny
    assert np.all(abs(received - exact) <= bound)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [1, 3, 8, 15, 16, 17, 31, 33, 63, 64, 65, 130])
def test_finds_the_largest_anywhere(width: int, dtype: str, isa: str) -> None:
    """Without it, the difference would be an exponent that overflows."""
    np.testing.assert_array_equal(softmax(np.eye(width, dtype=dtype) * 1e4), np.eye(width))


def test_what_is_no_number_makes_none_of_its_row() -> None:
    """As TensorFlow's, where an infinity is masked out, too."""
    x = np.random.default_rng(0).normal(size=(7, 37)).astype("float32")
    x[1, 5], x[2, 0], x[3, 36], x[4], x[5, 1:] = np.nan, np.nan, np.inf, -np.inf, -np.inf
    received, expected = softmax(x).numpy(), tf.nn.softmax(x).numpy()
    np.testing.assert_array_equal(np.isnan(received), np.isnan(expected))
    np.testing.assert_array_equal(np.isnan(received).any(-1), [0, 1, 1, 1, 1, 0, 0])
    np.testing.assert_allclose(received, expected, rtol=1e-6)
    np.testing.assert_array_equal(received[5], [1, *[0] * 36])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_far_apart(dtype: str) -> None:
    """Of any size: nothing overflows, and what is too small is 0."""
    most = np.finfo(dtype).max
    x = np.array([[most, -most, 0], [-most, -most, -most], [0, -86, -2000]], dtype)
    expected = [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [1, np.exp(-86.0), 0]]
    np.testing.assert_allclose(softmax(x), expected, rtol=1e-5)


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
    assert softmax(tf.zeros(shape)).shape == shape


def test_what_is_no_number_stays_in_its_row() -> None:
    dy, y = (each.numpy() for each in _tensors((4, 37), "float32"))
    expected = own(dy, y).numpy()
    dy[2, 5] = np.nan
    expected[2] = np.nan
    np.testing.assert_array_equal(own(dy, y), expected)


def test_its_inputs_stay() -> None:
    """The ops may write into x's or dy's memory, but only where nobody else has it."""
    dy, y = _tensors((64, 64), "float32")
    before = dy.numpy(), y.numpy()
    own(dy, y), softmax(dy)
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
    """Or of x: which nobody else has in these functions."""
    dy, y = _tensors((33, width), "float32")
    assert np.array_equal(tf.function(lambda x: softmax(x * 2.0))(dy), softmax(dy * 2.0))
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
    received = tf.function(softmax, jit_compile=True)(dy)
    np.testing.assert_allclose(received, softmax(dy), rtol=1e-12, atol=1e-15)


def test_gradients_of_softmax() -> None:
    """And that of its gradient."""
    x = tf.constant(np.random.default_rng(0).normal(size=(3, 7, 9)))
    received = []
    for function in (softmax, tf.nn.softmax):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(tf.sin(function(x)))
            once = tape.gradient(loss, x)
            loss = tf.reduce_sum(tf.sin(once))
        received.append([once, outer.gradient(loss, x)])
    for value, expected in zip(*received, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-11, atol=1e-13)


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


def test_a_scalar_has_no_rows() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Softmax.*rank 1.* Received: shape "):
        softmax(tf.zeros(()))
