"""The ops Splitop>LayerNorm and Splitop>LayerNormGrad."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from splitop._src import library, own_norm  # noqa: F401  (it registers the gradient)

EPSILON = 1e-3


@pytest.fixture(autouse=True)
def _on_the_cpu():
    """There is no GPU kernel."""
    with tf.device("/CPU:0"):
        yield


def norm(x: Any, gamma: Any, beta: Any, epsilon: Any = EPSILON) -> Any:
    epsilon = tf.constant(epsilon, x.dtype)
    return library.load().splitop_layer_norm(x=x, gamma=gamma, beta=beta, epsilon=epsilon)


def by_tensorflow(x: Any, gamma: Any, beta: Any) -> Any:
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + EPSILON) * gamma + beta


def gradients(dy: Any, x: Any, gamma: Any) -> list[np.ndarray]:
    epsilon = tf.constant(EPSILON, x.dtype)
    raw = library.load().splitop_layer_norm_grad(dy=dy, x=x, gamma=gamma, epsilon=epsilon)
    return [each.numpy() for each in raw]


def _tensors(shape: tuple[int, ...], dtype: str) -> tuple[np.ndarray, ...]:
    """x, far from zero, and dy, gamma, beta."""
    random = np.random.default_rng(0)
    x, dy = random.normal(size=(2, *shape))
    gamma, beta = random.normal(size=(2, shape[-1]))
    return tuple(each.astype(dtype) for each in (3 * x + 5, dy, 1 + gamma / 2, beta))


def _expected(x: Any, dy: Any, gamma: Any, beta: Any) -> list[np.ndarray]:
    """y, dx, dgamma and dbeta in long double."""
    x, dy, gamma, beta = (each.astype(np.longdouble) for each in (x, dy, gamma, beta))
    scale = 1 / np.sqrt(x.var(-1, keepdims=True) + np.longdouble(EPSILON))
    h, g = (x - x.mean(-1, keepdims=True)) * scale, dy * gamma
    dx = scale * (g - g.mean(-1, keepdims=True) - h * (g * h).mean(-1, keepdims=True))
    leading = tuple(range(x.ndim - 1))
    return [h * gamma + beta, dx, (dy * h).sum(leading), dy.sum(leading)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "shape", [(7,), (1, 1), (3, 2), (5, 31), (2, 3, 32), (70, 33), (3, 5, 7, 257), (20_000, 5)]
)
def test_values(shape: tuple[int, ...], dtype: str, isa: str) -> None:
    x, dy, gamma, beta = _tensors(shape, dtype)
    received = [norm(x, gamma, beta).numpy(), *gradients(dy, x, gamma)]
    # In float32 the mean is off by a few units of its last place: times 1 / deviation.
    units = 200 * np.finfo(dtype).eps
    for value, exact in zip(received, _expected(x, dy, gamma, beta), strict=True):
        assert value.dtype == dtype
        largest = 1 + np.abs(exact).max(initial=0)
        np.testing.assert_allclose(value, exact.astype("float64"), rtol=0, atol=units * largest)


def test_no_rows() -> None:
    x, gamma = tf.zeros([2, 0, 3]), tf.ones([3])
    assert norm(x, gamma, gamma).shape == (2, 0, 3)
    dx, dgamma, dbeta = gradients(x, x, gamma)
    assert dx.shape == (2, 0, 3)
    np.testing.assert_array_equal([dgamma, dbeta], np.zeros([2, 3]))


def test_gradient() -> None:
    """The registered one is the op's, and that of TensorFlow's operations."""
    x, dy, gamma, beta = (tf.constant(each) for each in _tensors((4, 9), "float64"))

    received = []
    for call in (norm, by_tensorflow):
        with tf.GradientTape() as tape:
            tape.watch([x, gamma, beta])
            y = call(x, gamma, beta)
        received.append([y, *tape.gradient(y, [x, gamma, beta], dy)])
    for own, tensorflows in zip(*received, strict=True):
        np.testing.assert_allclose(own, tensorflows, rtol=1e-10, atol=1e-12)


def test_gradient_of_the_gradient() -> None:
    x, dy, gamma, beta = (tf.constant(each) for each in _tensors((4, 9), "float64"))

    received = []
    for call in (norm, by_tensorflow):
        with tf.GradientTape() as outer:
            outer.watch([x, gamma, dy])
            with tf.GradientTape() as inner:
                inner.watch([x, gamma])
                y = tf.sin(call(x, gamma, beta))
            first = inner.gradient(y, [x, gamma], dy)
            total = sum(tf.reduce_sum(tf.sin(each)) for each in first)
        received.append(outer.gradient(total, [x, gamma, dy]))
    for own, tensorflows in zip(*received, strict=True):
        np.testing.assert_allclose(own, tensorflows, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_bits(threads: int) -> None:
    """In a function, whatever else runs; the rows are summed up in blocks."""
    x, dy, gamma, _ = _tensors((999, 65), "float32")
    run = tf.function(lambda: [gradients_in_graph(dy, x, gamma) for _ in range(threads)])
    first, *others = [[each.numpy() for each in result] for result in [*run(), *run()]]
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_array_equal(a, b)


def gradients_in_graph(dy: Any, x: Any, gamma: Any) -> Any:
    return library.load().splitop_layer_norm_grad(dy=dy, x=x, gamma=gamma, epsilon=EPSILON)


@pytest.mark.parametrize(
    ("x", "gamma", "beta", "epsilon"),
    [
        ([2, 3], [2], [3], 1.0),
        ([2, 3], [3], [2], 1.0),
        ([2, 3], [1, 3], [3], 1.0),
        ([], [1], [1], 1.0),
        ([2, 0], [0], [0], 1.0),
        ([2, 3], [3], [3], [1.0]),
    ],
)
def test_shapes_that_do_not_fit(x: Any, gamma: Any, beta: Any, epsilon: Any) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"LayerNorm.*a scalar\. Received: "):
        norm(tf.zeros(x), tf.zeros(gamma), tf.zeros(beta), epsilon)


def test_ranks_that_do_not_fit_in_a_graph() -> None:
    """XLA, say, has no other check."""
    with tf.Graph().as_default(), pytest.raises(ValueError, match="at least rank 1 but is rank 0"):
        norm(tf.constant(1.0), tf.zeros(1), tf.zeros(1))


def test_a_gradient_of_another_shape() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"the shape of x, \[2, 3\]\. Rec"):
        gradients(tf.zeros([3, 2]), tf.zeros([2, 3]), tf.zeros([3]))
