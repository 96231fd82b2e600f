"""Which products an op of splitop's makes; those of the backward pass in every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop._src import library
from splitop._src.own_product import own_product
from tests.planner.models import Weights, dense
from tests.planner.steps import FLAVOURS, Steps, run_as_reference
from tests.planner.training import seed_for

BATCH, TIME, WIDTH = 5, 7, 8
Build = Callable[[Weights, Any], Any]


def _run(build: Build, flavour: str = "keras", **options: Any) -> Steps:
    batches = list(np.random.default_rng(0).normal(size=(3, BATCH, TIME, WIDTH)))
    return run_as_reference(build, flavour, batches, 0.1, **options)


def _projected(w: Weights, name: str, x: Any) -> Any:
    return tf.reshape(dense(w, name, tf.reshape(x, [-1, WIDTH]), WIDTH), [-1, TIME, WIDTH])


def _attention(product: Callable[..., Any], cast: Any = tf.float64) -> Build:
    """Attention of one head between dense layers, its two products by `product`."""

    def build(w: Weights, x: Any) -> Any:
        q, k, v = (tf.cast(_projected(w, name, x), cast) for name in "qkv")
        weights = tf.nn.softmax(product(q, k, transpose_b=True))
        return _projected(w, "out", tf.cast(product(weights, v), tf.float64))

    return build


def _by_einsum(a: Any, b: Any, transpose_b: bool = False) -> Any:
    return tf.einsum("zab,zcb->zac" if transpose_b else "zab,zbc->zac", a, b)


def multi_head(w: Weights, x: Any) -> Any:
    h = w.layer("mha", keras.layers.MultiHeadAttention, x, x, num_heads=2, key_dim=3)
    return w.layer("top", keras.layers.Dense, h, units=5)


def grouped(w: Weights, x: Any) -> Any:
    heads = dict(head_dim=3, num_query_heads=4, num_key_value_heads=2)
    h = w.layer("gqa", keras.layers.GroupQueryAttention, x, x, **heads)
    return w.layer("top", keras.layers.Dense, h, units=5)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("build", [multi_head, grouped, _attention(_by_einsum)])
def test_attention(build: Build, flavour: str, static: bool) -> None:
    assert _run(build, flavour, static=static).fused_ops["Einsum"] == 4


def test_matmul_broadcasts_what_is_not_known() -> None:
    """A batch of 1 in one factor."""
    assert _run(_attention(tf.matmul), static=True).fused_ops["Einsum"] == 4
    assert _run(_attention(tf.matmul), static=False).fused_ops["Einsum"] == 0


def test_only_what_comes_after_a_fused_op() -> None:
    """The rest of the reference graph is not copied, so that nothing of it is replaced."""

    def build(w: Weights, x: Any) -> Any:
        h = _projected(w, "low", x)
        return _by_einsum(h, h, transpose_b=True)

    steps = _run(build, static=True)
    assert len(steps.plan.chains) == 1
    assert steps.fused_ops["Einsum"] == 0


def test_not_of_16_bits() -> None:
    assert _run(_attention(_by_einsum, tf.bfloat16), static=True).fused_ops["Einsum"] == 0


def test_xla_makes_its_own() -> None:
    steps = _run(multi_head, jit=True)
    assert steps.fused_ops["DenseChain"] > 0
    assert steps.fused_ops["Einsum"] == 0


def test_not_on_a_gpu() -> None:
    # Off for good where the first thing that a process does with TensorFlow is to build a graph.
    tf.config.set_soft_device_placement(True)

    def build(w: Weights, x: Any) -> Any:
        with tf.device("/GPU:0"):
            return multi_head(w, x)

    steps = _run(build)
    assert steps.fused_ops["DenseChain"] > 0
    assert steps.fused_ops["Einsum"] == 0


def test_not_where_tensorflow_may_choose_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with tf.Graph().as_default():
        x = tf.compat.v1.placeholder(tf.float32, [2, 3, 4])
        op = _by_einsum(x, x, transpose_b=True).op
        assert own_product(op) is not None
        visible = [tf.config.LogicalDevice("/device:GPU:0", "GPU")]
        monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind=None: visible)
        assert own_product(op) is None


def test_not_with_results_of_another_type() -> None:
    with tf.Graph().as_default():
        x = tf.compat.v1.placeholder(tf.bfloat16, [2, 3, 4])
        op = tf.raw_ops.BatchMatMulV3(x=x, y=x, Tout=tf.float32, adj_y=True).op
        assert own_product(op) is None


def test_a_step_that_was_traced_before_xla_compiles_it() -> None:
    """XLA compiles the op by a product of its own."""
    if library.xla_reason() is not None:
        pytest.skip(str(library.xla_reason()))
    library.load_xla()
    steps, weights = [], []
    for jit in (False, True):
        keras.utils.set_random_seed(0)
        w = Weights()
        x = tf.constant(np.random.default_rng(0).normal(size=(BATCH, TIME, WIDTH)))
        multi_head(w, x)
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(w.variables)

        @tf.function(autograph=False)
        def step(x: Any, w: Weights = w, optimizer: Any = optimizer) -> None:
            iv = multi_head(w, x)
            splitop.minimize(optimizer, iv, w.variables, seed_for(iv), backend="fused")

        traced = step.get_concrete_function(x)
        steps.append({op.type for op in traced.graph.get_operations()})
        tf.function(lambda x, traced=traced: traced(x), autograph=False, jit_compile=jit)(x)
        weights.append([variable.numpy() for variable in w.variables])
    assert all("Splitop>Einsum" in types for types in steps)
    for inside, outside in zip(*weights, strict=True):
        np.testing.assert_allclose(inside, outside, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("equation", "a", "b", "expected"),
    [
        ("aecd,abcd->acbe", [2, 3, 4, 5], [2, 6, 4, 5], (1, 0)),
        ("acbe,aecd->abcd", [2, 4, 6, 3], [2, 3, 4, 5], (0, 1)),
        ("...ab,...bc->...ac", [2, 3, 4], [2, 4, 5], (0, 1)),
        ("...ab,...bc->...ac", [2, 3, 4], [1, 4, 5], None),
        ("...ab,...bc->...ac", [2, 3, 4], [4, 5], (0, 1)),
        ("...ab,...bc->...ac", [4, 5], [2, 5, 6], None),
        ("zab,zbc->zca", [2, 3, 4], [2, 4, 5], (1, 0)),
        ("ab,bc->ac", [3, 4], [4, 5], (0, 1)),
        ("bc,ab->ac", [4, 5], [3, 4], (1, 0)),
        ("abcd,de->abce", [2, 3, 4, 5], [5, 6], (0, 1)),
        ("ab,bc->ca", [3, 4], [4, 5], None),
        ("ab,cb->ac", [3, 4], [5, 4], None),
        ("ba,bc->ac", [4, 3], [4, 5], None),
        ("abc,cd->bad", [2, 3, 4], [4, 5], None),
        ("abc,cd->abd", [1, 1, 4], [4, 5], None),
        ("ab,bc->ac", [3, 4], [4, 1], None),
        ("ab,bcd->acd", [3, 4], [4, 5, 6], None),
        ("zab,zbc->zac", [1, 3, 4], [1, 4, 5], None),
        ("zab,zbc->zac", [2, 1, 4], [2, 4, 5], None),
        ("zab,zbc->zac", [2, 3, 4], [2, 4, 1], None),
        ("zab,zbc->acz", [2, 3, 4], [2, 4, 5], None),
        ("zab,zbc->ac", [2, 3, 4], [2, 4, 5], None),
        ("zab,zb->za", [2, 3, 4], [2, 4], None),
        ("zaab,zbc->zac", [2, 3, 3, 4], [2, 4, 5], None),
        ("ab,cd->abcd", [2, 3], [4, 5], None),
        ("abz,b->az", [2, 3, 4], [3], None),
    ],
)
def test_equations(equation: str, a: list[int], b: list[int], expected: Any) -> None:
    with tf.Graph().as_default():
        factors = [tf.compat.v1.placeholder(tf.float32, shape) for shape in (a, b)]
        op = tf.raw_ops.Einsum(inputs=factors, equation=equation).op
        found = own_product(op)
    assert (None if found is None else found.factors) == expected
