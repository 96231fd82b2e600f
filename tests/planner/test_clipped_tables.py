"""Clipped gradients of embedding tables: what is clipped is what the optimizer itself is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.planner.lookups import IDS, LOOKUPS, table
from tests.planner.models import Weights, dense
from tests.planner.steps import assert_same_values, run_steps

optimizers = keras.optimizers

BATCHES = [np.roll(IDS, step, axis=1) for step in range(3)]
CLIPS = {
    "clipnorm": {"clipnorm": 0.3},
    "global_clipnorm": {"global_clipnorm": 0.5},
    "clipvalue": {"clipvalue": 0.05},
}
LOOKED_UP = (
    "gather",
    "keras, average",
    "sparse, sum",
    "sparse, mean",
    "sparse, sqrtn",
    "sparse, weighted mean",
    "safe, mean",
    "ragged, sum",
    "ragged, mean",
)


def _check(build: Callable[..., Any], make: Callable[[], Any], **options: Any) -> None:
    fused, reference = (
        run_steps("keras", build, make, BATCHES, backend=backend, **options)
        for backend in ("auto", "reference")
    )
    assert fused.plan.declined == {}
    assert_same_values(fused, reference)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("name", LOOKED_UP)
def test_every_lookup(name: str, clip: str) -> None:
    _check(LOOKUPS[name].build, lambda: optimizers.SGD(0.1, momentum=0.9, **CLIPS[clip]))


def test_repeated_ids_are_added_up_where_gradients_are_accumulated() -> None:
    for make in (optimizers.Adadelta, optimizers.Adamax):
        _check(LOOKUPS["gather"].build, lambda make=make: make(0.1, gradient_accumulation_steps=2))


@pytest.mark.parametrize("options", [CLIPS["global_clipnorm"], {}])
def test_what_an_empty_bag_has_is_not_read(options: dict[str, float]) -> None:
    def norms_of_bags(w: Weights, ids: Any) -> Any:
        some = tf.where(tf.range(tf.shape(ids)[0])[:, tf.newaxis] == 2, tf.zeros_like(ids), ids)
        sparse = tf.sparse.from_dense(tf.cast(some, tf.int64))
        rows = tf.nn.embedding_lookup_sparse(table(w), sparse, None, combiner="mean")
        # The gradient of this root is NaN where all is 0.
        norms = tf.sqrt(tf.reduce_sum(rows * rows, 1, keepdims=True))
        return tf.where(norms > 0, dense(w, "top", norms, 5), 0.0)

    _check(norms_of_bags, lambda: optimizers.SGD(0.1, **options), skip_nonfinite=False)
