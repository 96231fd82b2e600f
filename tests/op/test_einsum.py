"""The op Splitop>Einsum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from splitop._src import library
from splitop._src.own_product import OwnProduct, emit_product

# Those of attention and of its gradients, and others.
EQUATIONS = (
    "abcd,aecd->acbe",
    "acbe,aecd->abcd",
    "acbe,abcd->aecd",
    "ab,bc->ac",
    "ba,bc->ac",
    "zab,zcb->zac",
    "pqrab,rqpbc->qarpc",
    "XaY,YXb->aXb",
    "abcd,de->abce",
    "zd,da->za",
)
EXTENTS = dict(zip("abcdepqrzXY", (13, 6, 37, 64, 9, 2, 3, 2, 4, 5, 7), strict=True))


@pytest.fixture(autouse=True)
def _on_the_cpu():
    """There is no GPU kernel."""
    with tf.device("/CPU:0"):
        yield


def einsum(equation: str, a: Any, b: Any) -> Any:
    return emit_product(OwnProduct((0, 1), equation), [a, b], "einsum")


def _factors(equation: str, dtype: str, extents: dict[str, int]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    terms = equation.split("->")[0].split(",")
    return [random.normal(size=[extents[x] for x in term]).astype(dtype) for term in terms]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("equation", EQUATIONS)
def test_is_an_einsum(equation: str, dtype: str) -> None:
    a, b = _factors(equation, dtype, EXTENTS)
    wide, other = a.astype(np.longdouble), b.astype(np.longdouble)
    exact, terms = (np.einsum(equation, *pair) for pair in ((wide, other), (abs(wide), abs(other))))
    received = einsum(equation, a, b)
    assert received.dtype == dtype
    assert received.shape == exact.shape
    assert np.all(abs(received.numpy() - exact) <= 64 * np.finfo(dtype).eps * terms)


@pytest.mark.parametrize("empty", "abcde")
@pytest.mark.parametrize("equation", [EQUATIONS[0], "abcd,de->abce"])
def test_no_elements(equation: str, empty: str) -> None:
    """Nothing to sum up gives zeros."""
    a, b = _factors(equation, "float32", EXTENTS | {empty: 0})
    np.testing.assert_array_equal(einsum(equation, a, b), np.einsum(equation, a, b))


@pytest.mark.parametrize("equation", EQUATIONS)
def test_gradient(equation: str) -> None:
    """The gradient of TensorFlow's einsum, and its gradient."""
    a, b = (tf.constant(factor) for factor in _factors(equation, "float64", EXTENTS))
    received = []
    for product in (einsum, tf.einsum):
        with tf.GradientTape() as outer:
            outer.watch(a)
            with tf.GradientTape() as inner:
                inner.watch([a, b])
                c = tf.sin(product(equation, a, b))
            first = inner.gradient(c, [a, b])
        received.append([*first, outer.gradient(first[1], a)])
    for own, tensorflows in zip(*received, strict=True):
        np.testing.assert_allclose(own, tensorflows, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("equation", ["abcd,de->abce", "zab,zcb->zac"])
def test_a_bias_and_an_activation(equation: str, activation: str) -> None:
    """The values, the gradient and its gradient, as TensorFlow's operations have them."""
    a, b = (tf.constant(factor) for factor in _factors(equation, "float64", EXTENTS))
    columns = EXTENTS[equation[-1]]
    bias = tf.constant(np.random.default_rng(1).normal(size=columns))

    def own(bias: Any) -> Any:
        return emit_product(OwnProduct((0, 1), equation), [a, b], "einsum", bias, activation)

    def tensorflows(bias: Any) -> Any:
        z = tf.einsum(equation, a, b) + bias
        return tf.nn.relu(z) if activation == "relu" else z

    received = []
    for product in (own, tensorflows):
        with tf.GradientTape() as outer:
            outer.watch(a)
            with tf.GradientTape() as inner:
                inner.watch([a, b, bias])
                c = product(bias)
                loss = tf.reduce_sum(tf.sin(c))
            first = inner.gradient(loss, [a, b, bias])
        received.append([c, *first, outer.gradient(first[1], a)])
    for value, expected in zip(*received, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-10)


def test_biases_that_do_not_fit() -> None:
    a, b = tf.zeros([2, 3, 4]), tf.zeros([2, 5, 4])
    for bias in (tf.zeros([3]), tf.zeros([1, 5]), tf.zeros([])):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"one, of shape \[5\]\. Received"):
            emit_product(OwnProduct((0, 1), "zab,zcb->zac"), [a, b], "einsum", bias)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"one, of shape \[5\]\. Received: 2"):
        library.load().splitop_einsum(
            a=a, b=b, biases=[tf.zeros(5), tf.zeros(5)], equation="zab,zcb->zac"
        )
    product = OwnProduct((0, 1), "zab,zcb->zac")
    traced = tf.function(lambda: emit_product(product, [a, b], "einsum", tf.zeros(3)))
    with pytest.raises(ValueError, match=r"must be equal, but are 5 and 3"):
        traced()


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("has_bias", [False, True])
def test_inside_xla(has_bias: bool, activation: str) -> None:
    if library.xla_reason() is not None:
        pytest.skip(str(library.xla_reason()))
    a, b = (tf.constant(each) for each in _factors("abcd,de->abce", "float64", EXTENTS))
    a = tf.tensor_scatter_nd_update(a, [[0, 0, 0, 0]], [np.nan])
    bias = tf.constant(np.linspace(-9, 9, b.shape[1])) if has_bias else None

    def run() -> Any:
        product = OwnProduct((0, 1), "abcd,de->abce")
        return emit_product(product, [a, b], "einsum", bias, activation)

    received = tf.function(run, jit_compile=True)()
    np.testing.assert_allclose(received, run(), rtol=1e-12, atol=1e-12)


def test_the_shape_is_known_in_a_function() -> None:
    shapes = []

    @tf.function(input_signature=[tf.TensorSpec([None, 3, 4]), tf.TensorSpec([None, 5, 4])])
    def run(a: Any, b: Any) -> Any:
        c = einsum("zab,zcb->zac", a, b)
        shapes.append(c.shape.as_list())
        return c

    assert run(tf.zeros([2, 3, 4]), tf.zeros([2, 5, 4])).shape == (2, 3, 5)
    assert shapes == [[None, 3, 5]]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([2, 3, 4], [2, 5, 6]),
        ([2, 3, 4], [1, 5, 4]),
        ([2, 3, 4], [2, 5]),
        ([3, 4], [2, 5, 4]),
    ],
)
def test_shapes_that_do_not_fit(a: list[int], b: list[int]) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"labels equal extents\. Received: "):
        einsum("zab,zcb->zac", tf.zeros(a), tf.zeros(b))


@pytest.mark.parametrize(
    "equation",
    [
        "",
        "ab",
        "ab->ab",
        "ab,bc",
        "ab,bc,cd->ad",
        "ab,bc->ca",
        "ab,bc->abc",
        "ab,cd->acbd",
        "aab,bc->ac",
        "ab,bc->aac",
        "...ab,...bc->...ac",
        "abk,kbc->c",
        "abc,cd->bad",
        "abc,dc->abd",
        "acb,cd->abd",
        "c,cd->d",
        "abkl,klc->abc",
        "za,zb->zb",
        "ab,bc->ad",
        "a b,bc->ac",
    ],
)
def test_other_equations(equation: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="equation must be of one product of"):
        einsum(equation, tf.zeros([2, 2]), tf.zeros([2, 2]))
