"""Parts that train at different frequencies."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop._src.split_model.frequency import Frequency
from splitop.keras import SplitModel
from tests.keras.models import CASES, Case, State, adam, build, momentum, split_model, state

CASE = CASES["everything"]


@pytest.mark.parametrize(
    ("steps", "first", "second"),
    [
        ((1, 1), "111111", "111111"),
        ((2, 2), "111111", "111111"),
        ((1, 3), "001001", "111111"),
        ((3, 1), "111111", "001001"),
        ((2, 3), "011011", "111111"),
        ((5, 3), "111111", "010110"),
    ],
)
def test_schedule(steps: tuple[int, int], first: str, second: str) -> None:
    frequency = Frequency(*steps)

    @tf.function
    def batch() -> Any:
        return frequency.run(lambda *trains: tf.constant(trains))

    trained = np.array([batch().numpy() for _ in range(6)]).T.astype(int)
    assert ["".join(map(str, part)) for part in trained] == [first, second]


@pytest.mark.parametrize("steps", [(1, 3), (2, 1), (2, 3)])
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_like_a_loop_by_hand(steps: tuple[int, int], backend: str) -> None:
    model = split_model(
        CASE, momentum, first_steps=steps[0], second_steps=steps[1], backend=backend
    )
    received, expected = _batches(model), _by_hand(steps)
    assert received.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(received[name], value, 1e-4, 1e-6, err_msg=name)
    counts = [int(o.iterations.numpy()) for o in (model.optimizer, model.second_optimizer)]
    assert counts == [sum(_trains(s, max(steps), n) for n in range(7)) for s in steps]
    assert model.plans is not None
    assert bool(model.plans.first.fused) == bool(model.plans.second.fused) == (backend == "auto")


def test_a_part_that_does_not_train_stays_as_it_is() -> None:
    # Pitfall 21.
    model = split_model(CASE, adam, first_steps=1, second_steps=3)
    x, y = CASE.data()
    first = [*model.first_part.trainable_variables, *model.optimizer.variables]
    second = model.second_part.trainable_variables
    for expected in (False, False, True, False):
        before = [[v.numpy() for v in part] for part in (first, second)]
        model.train_on_batch(x, y)
        moved = [
            any(np.any(v.numpy() != old) for v, old in zip(part, olds, strict=True))
            for part, olds in zip((first, second), before, strict=True)
        ]
        assert moved == [expected, True]


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # Keras' own
def test_goes_on_where_it_was_saved(tmp_path: Any) -> None:
    model = split_model(CASE, adam, first_steps=1, second_steps=3)
    x, y = CASE.data()
    for _ in range(2):
        model.train_on_batch(x, y)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    loaded.train_on_batch(x, y)
    assert int(loaded.optimizer.iterations.numpy()) == 1


def test_in_one_execution_of_several_steps() -> None:
    models = [
        split_model(CASES["dense"], first_steps=2, second_steps=3, steps_per_execution=steps)
        for steps in (1, 4)
    ]
    x, y = CASES["dense"].data()
    for model in models:
        model.fit(x, y, batch_size=6, verbose=0, shuffle=False)
    a, b = map(state, models)
    for name, value in a.items():
        np.testing.assert_allclose(value, b[name], 1e-5, 1e-7, err_msg=name)


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, None])
def test_unfit_numbers(steps: Any) -> None:
    message = f"first_steps must be a whole number from 1;.*Received: {steps}"
    with pytest.raises(splitop.SplitError, match=message):
        split_model(CASE, first_steps=steps)


def _batches(model: SplitModel) -> State:
    x, y = CASE.data()
    keras.utils.set_random_seed(5)
    for _ in range(7):
        model.train_on_batch(x, y)
    return state(model)


def _trains(steps: int, cycle: int, batch: int) -> bool:
    n = batch % cycle
    return (n + 1) * steps // cycle > n * steps // cycle


def _by_hand(steps: tuple[int, int]) -> State:
    """The same with a tape, of the model in one piece."""
    case: Case = CASE
    x, y = case.data()
    model = build(case)
    split = SplitModel.cut(model, case.at)
    optimizers = [momentum(), momentum()]
    parts = [split.first_part.trainable_variables, split.second_part.trainable_variables]
    for optimizer, part in zip(optimizers, parts, strict=True):
        optimizer.build(part)
    keras.utils.set_random_seed(5)
    for batch in range(7):
        with tf.GradientTape() as tape:
            y_pred = model(x, training=True)
            loss = tf.reduce_mean(tf.square(y_pred - y)) + tf.add_n(model.losses)
        gradients = tape.gradient(loss, parts)
        for number in range(2):
            if _trains(steps[number], max(steps), batch):
                optimizers[number].apply_gradients(
                    zip(gradients[number], parts[number], strict=True)
                )
    split.optimizer, split.second_optimizer = optimizers
    return state(split)
