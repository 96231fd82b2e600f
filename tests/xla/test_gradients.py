"""Inside jit_compile=True: gradients that are scaled, clipped, checked or added up."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from tests.planner.test_clipping import CLIPS, PLANTED, _batches, _mixed, long_batches
from tests.xla.test_models import inside_and_outside

SGD = keras.optimizers.SGD


@pytest.mark.parametrize("clip", CLIPS)
def test_clipping(clip: str) -> None:
    inside_and_outside(
        _mixed, lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, **CLIPS[clip]), _batches()
    )


def test_clipping_where_gradients_are_kept() -> None:
    inside_and_outside(
        _mixed, lambda: keras.optimizers.Adam(0.01, global_clipnorm=2.0), long_batches(3)
    )


def test_a_step_that_is_left_out() -> None:
    batches = _batches()
    batches[1][0, -1] = batches[3][0, -1] = PLANTED

    def build(w: Any, x: Any) -> Any:
        return _mixed(w, x, planted=2)

    inside, _ = inside_and_outside(
        build, lambda: SGD(0.05, momentum=0.9), batches, skip_nonfinite=True
    )
    assert all(np.all(np.isfinite(value)) for _, value in inside.values)


def test_dynamic_loss_scale() -> None:
    batches = _batches()
    batches[1][0, -1] = PLANTED

    def build(w: Any, x: Any) -> Any:
        return _mixed(w, x, planted=0)

    inside_and_outside(
        build, lambda: keras.optimizers.LossScaleOptimizer(SGD(0.05), 2.0**6), batches
    )


@pytest.mark.parametrize("options", [{}, {"global_clipnorm": 2.0}], ids=["plain", "clipped"])
def test_accumulation(options: dict[str, float]) -> None:
    def build(w: Any, x: Any) -> Any:
        return _mixed(w, x, bound=False)

    inside_and_outside(
        build, lambda: SGD(0.05, momentum=0.9, gradient_accumulation_steps=2, **options), _batches()
    )


def test_moving_average() -> None:
    inside_and_outside(
        _mixed, lambda: SGD(0.05, use_ema=True, ema_overwrite_frequency=2), _batches()
    )


def test_a_schedule() -> None:
    def make() -> Any:
        schedule = keras.optimizers.schedules.ExponentialDecay(0.05, 1, 0.5)
        return keras.optimizers.Adam(schedule)

    inside_and_outside(_mixed, make, _batches())
