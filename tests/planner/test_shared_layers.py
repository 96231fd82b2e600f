"""Weights that are used in several places: their gradient is a sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import splitop
from tests.planner.models import FEATURES, Model, Weights, dense
from tests.planner.training import kernels_of, plain_names, train

SEVERAL = "more than one place"


def _two_inputs(w: Weights, x: Any) -> Any:
    left, right = dense(w, "shared", x, 7, "relu"), dense(w, "shared", tf.sin(x), 7, "tanh")
    return dense(w, "top", left * right, 5)


def _batches_of_two_sizes(w: Weights, x: Any) -> Any:
    half = dense(w, "shared", x[::2], 7, "tanh")
    return dense(w, "shared", x, 7, "relu"), half


def _ranks_of_two_sizes(w: Weights, x: Any) -> Any:
    cube = tf.reshape(x, [-1, 2, FEATURES])
    deep = tf.tensordot(cube, w("shared_k", FEATURES, 7), 1) + w("shared_b", 7)
    return dense(w, "shared", x, 7, "relu"), tf.tanh(deep)


def _stacked(count: int) -> Callable[[Weights, Any], Any]:
    def build(w: Weights, x: Any) -> Any:
        h = dense(w, "low", x, 7, "relu")
        for _ in range(count):
            h = dense(w, "shared", h, 7, "tanh")
        return dense(w, "top", h, 5, "relu")

    return build


def _stacked_at_the_ends(w: Weights, x: Any) -> Any:
    h = tf.pad(x, [[0, 0], [0, 1]])
    for _ in range(2):
        h = dense(w, "shared", h, FEATURES + 1, "tanh")
    return h


def _twice_the_same_product(w: Weights, x: Any) -> Any:
    h = dense(w, "low", x, 7, "tanh")
    return dense(w, "shared", h, 5) + dense(w, "shared", h, 5)


def _added_to_itself(w: Weights, x: Any) -> Any:
    kernel = w("shared_k", FEATURES, 7)
    return tf.matmul(x, kernel + kernel)


def _read_once(w: Weights, x: Any) -> Any:
    """Sums of sums: of what is read once, and of the reads."""
    kernel = tf.identity(w("shared_k", FEATURES, FEATURES))
    h = tf.matmul(tf.tanh(tf.matmul(x, kernel)), kernel)
    return tf.matmul(tf.tanh(h), w("shared_k", FEATURES, FEATURES))


def _bias_in_one_place(w: Weights, x: Any) -> Any:
    h = dense(w, "shared", x, FEATURES, "tanh")
    return dense(w, "shared", h, FEATURES, "tanh", bias=False)


def _bias_elsewhere_too(w: Weights, x: Any) -> Any:
    left, right = (dense(w, "shared", part, 7) for part in (x, tf.sin(x)))
    return tf.tanh(left) * tf.sin(right), tf.cos(left) + w("shared_b", 7)


def _two_splits(w: Weights, x: Any) -> Any:
    """A kernel of three dimensions: of 8 inputs in one place, of 2 in the other."""
    kernel = w("shared", FEATURES // 4, 4, 6)
    first = tf.matmul(x, tf.reshape(kernel, [FEATURES, 6]))
    return first, tf.matmul(x[:, :2], tf.reshape(kernel, [2, 24]))


def _tied_head(w: Weights, x: Any) -> Any:
    """A language model's: the table of the ids is the kernel of the logits, transposed."""
    ids = tf.cast(tf.abs(x[:, :2]) * 3, tf.int32) % 10
    h = tf.reshape(tf.gather(w("table", 10, 4), ids), [-1, 8])
    h = dense(w, "low", h, 4, "tanh")
    return tf.matmul(h, w("table", 10, 4), transpose_b=True)


def _table_and_kernel(w: Weights, x: Any) -> Any:
    rows = tf.gather(w("table", FEATURES, 7), tf.cast(tf.abs(x[:, 0]) * 3, tf.int32) % FEATURES)
    return rows + tf.matmul(x, w("table", FEATURES, 7))


def _with_penalty(w: Weights, x: Any) -> Any:
    loss = tf.reduce_sum(dense(w, "shared", x, 7) * dense(w, "shared", tf.sin(x), 7))
    return loss + 0.1 * tf.nn.l2_loss(w("shared_k", FEATURES, 7))


def _in_a_loop_too(w: Weights, x: Any) -> Any:
    kernel = w("shared_k", FEATURES, FEATURES)
    h = tf.while_loop(lambda i, h: i < 2, lambda i, h: (i + 1, tf.tanh(h @ kernel)), (0, x))[1]
    return tf.matmul(h, kernel)


SHARED = (("shared_k",),)
MODELS = {
    "two inputs": Model(_two_inputs, (("top_k",), ("shared_k",))),
    "two batches": Model(_batches_of_two_sizes, SHARED),
    "two ranks": Model(_ranks_of_two_sizes, SHARED),
    "stacked twice": Model(_stacked(2), (("top_k",), ("shared_k",), ("low_k",))),
    "stacked five times": Model(_stacked(5), (("top_k",), ("shared_k",), ("low_k",))),
    "stacked at the ends": Model(_stacked_at_the_ends, SHARED),
    "twice the same": Model(_twice_the_same_product, (("shared_k",), ("low_k",))),
    "added to itself": Model(_added_to_itself, SHARED),
    "read once": Model(_read_once, SHARED),
    "bias in one place": Model(
        _bias_in_one_place, SHARED, {"shared_b": "not the bias of a fused dense layer"}
    ),
    "bias elsewhere too": Model(_bias_elsewhere_too, SHARED, {"shared_b": SEVERAL}),
    "two splits": Model(_two_splits, (), {"shared": SEVERAL}),
    "tied head": Model(_tied_head, (("low_k",),), {"table": SEVERAL}),
    "table and kernel": Model(_table_and_kernel, (), {"table": SEVERAL}),
    "penalty": Model(_with_penalty, (), {"shared_k": SEVERAL, "shared_b": SEVERAL}),
    "loop": Model(_in_a_loop_too, (), {"shared_k": SEVERAL}),
}


@pytest.mark.parametrize("mode", ["graph", "function"])
@pytest.mark.parametrize("name", MODELS)
def test_trains_as_the_reference(name: str, mode: str) -> None:
    model = MODELS[name]
    fused, reference = (train(model, mode, backend) for backend in ("auto", "reference"))
    assert kernels_of(fused.plan) == set(model.chains)
    assert fused.plan.declined == {}
    reasons = plain_names(fused.plan.updated)
    assert reasons.keys() == model.updated.keys()
    for variable, words in model.updated.items():
        assert words in reasons[variable]
    for variable, weights in reference.weights.items():
        np.testing.assert_allclose(
            fused.weights[variable], weights, rtol=1e-9, atol=1e-11, err_msg=variable
        )


def test_its_bias_is_in_the_plan() -> None:
    (chain,) = train(MODELS["two ranks"], "graph", "auto").plan.chains
    assert chain == splitop.PlannedChain(
        (splitop.PlannedLayer("shared_k:0", "shared_b:0", "linear"),), False
    )
