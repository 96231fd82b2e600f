"""`SplitModel.fit` under tf.distribute: the steps of one replica on the joined batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import splitop
from tests.distribute import fitting

Run = Callable[..., Any]


@pytest.mark.parametrize("backend", ["fused", "reference"])
@pytest.mark.parametrize("model", ["dense", "embeddings"])
def test_equals_one_replica(run: Run, model: str, backend: str) -> None:
    two = run(fitting.fit, model, backend)
    one = run(fitting.fit, model, "reference", count=1)
    fitting.assert_equal(two, one)
    assert ("0 of" in two.path) is (backend == "reference")


@pytest.mark.parametrize("clipping", [{"clipvalue": 0.01}, {"global_clipnorm": 0.05}])
def test_clipping(run: Run, clipping: dict[str, float]) -> None:
    """Keras clips the gradients of each replica by themselves, on one path as on the other."""
    fused = run(fitting.fit, "dense", "auto", clipping=clipping)
    reference = run(fitting.fit, "dense", "reference", clipping=clipping)
    fitting.assert_equal(fused, reference)
    free = run(fitting.fit, "dense", "reference")
    assert not np.allclose(fused.weights[0], free.weights[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"micro_batch_size": 3}, r"in one piece.*Received: micro_batch_size=3"),
        ({"run_eagerly": True}, r"run_eagerly=False.*Received: run_eagerly=True"),
        ({"second_steps": 2}, r"both parts train in every batch.*first_steps=1, second_steps=2"),
    ],
)
def test_what_replicas_can_not_do(run: Run, options: dict[str, Any], message: str) -> None:
    with pytest.raises(splitop.SplitError, match=message):
        run(fitting.fit, "dense", "auto", **options)


def test_a_dynamic_loss_scale_of_the_first_part(run: Run) -> None:
    with pytest.raises(splitop.SplitError, match=r"dynamic loss scale.*Received: first_optimizer"):
        run(fitting.fit_with_loss_scale)


def test_stored_seeds(run: Run) -> None:
    with pytest.raises(splitop.SplitError, match=r"seed_on_batch.*MirroredStrategy of 2 replicas"):
        run(fitting.seeds_of_several)


def test_strategies_that_keep_no_order(run: Run) -> None:
    with pytest.raises(splitop.SplitError, match=r"no order.*MirroredStrategy of 2 replicas"):
        run(fitting.made_where_no_order_is_kept)
