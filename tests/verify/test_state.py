"""Whatever happens, the user's state is as it was, bit by bit."""

from __future__ import annotations

import random
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop._src.planner import Plan
from tests.verify import models
from tests.verify.models import verify

layers = keras.layers
tf1 = tf.compat.v1


class Subject:
    """A model with all kinds of state, halfway through its training."""

    def __init__(self) -> None:
        self.second = models.second_part(
            layers.BatchNormalization(), layers.Dropout(0.5), activity_regularizer="l2"
        )
        self.first = models.first_part(layers.Dropout(0.2), layers.BatchNormalization())
        self.optimizers = {
            "first_optimizer": keras.optimizers.LossScaleOptimizer(
                keras.optimizers.RMSprop(0.01, momentum=0.9)
            ),
            "second_optimizer": keras.optimizers.Adam(0.01, amsgrad=True, use_ema=True),
        }
        self.generator = tf.random.Generator.from_seed(5)
        data = models.batch()
        for _ in range(2):
            with tf.GradientTape(persistent=True) as tape:
                output = self.first(self.second(data["x"], training=True), training=True)
                loss = models.LOSS(data["y"], output)
            for part, optimizer in zip(
                (self.first, self.second), self.optimizers.values(), strict=True
            ):
                variables = part.trainable_variables
                optimizer.apply(tape.gradient(loss, variables), variables)

    def bits(self) -> dict[str, bytes]:
        found = [*self.second.variables, *self.first.variables]
        for optimizer in self.optimizers.values():
            found += optimizer.variables
        values = {f"{n} {v.path}": v.numpy().tobytes() for n, v in enumerate(found)}
        values["generator"] = self.generator.state.numpy().tobytes()
        values["python"] = repr(random.getstate()).encode()
        values["numpy"] = repr(np.random.get_state()).encode()
        return values

    def losses(self) -> list[Any]:
        layers = [*self.second._flatten_layers(), *self.first._flatten_layers()]
        return [tensor for layer in layers for tensor in layer._losses]

    def verify(self, **options: Any) -> splitop.VerifyReport:
        def noisy(x: Any) -> Any:
            noise = self.generator.normal(tf.shape(x)) + np.random.random() + random.random()
            return self.second(x + noise, training=True)

        # A part that is no Keras model has no penalties of its own: the model is passed, too.
        return verify(
            second_part=noisy,
            first_part=self.first,
            second_vars=self.second.trainable_variables,
            **{**self.optimizers, **options},
        )


@pytest.fixture
def subject() -> Subject:
    return Subject()


def test_after_success(subject: Subject) -> None:
    before = subject.bits()
    report = subject.verify()
    assert report.steps == 2
    assert report.updates
    assert subject.bits() == before


def test_of_models_with_penalties(subject: Subject) -> None:
    before, losses = subject.bits(), subject.losses()
    assert losses
    arguments = {"second_part": subject.second, "first_part": subject.first}
    assert verify(**arguments, **subject.optimizers, second_penalties=True).ok
    assert subject.bits() == before
    assert [id(tensor) for tensor in subject.losses()] == [id(tensor) for tensor in losses]


def test_of_the_layers_of_a_model_that_is_cut() -> None:
    cut = layers.Dense(4, name="cut", activity_regularizer="l2")
    top = layers.Dense(models.CLASSES, name="top", activity_regularizer="l2")
    model = models.chain(models.FEATURES, layers.Dense(6), cut, top)
    model(models.batch()["x"])
    before = [loss for layer in model._flatten_layers() for loss in layer._losses]
    assert len(before) == 2
    assert verify(model=model, cut=cut, second_penalties=True).ok
    after = [loss for layer in model._flatten_layers() for loss in layer._losses]
    assert list(map(id, after)) == list(map(id, before))


def test_after_a_failure_while_a_step_is_planned(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = subject.bits()

    def failing(self: Any, **options: Any) -> Any:
        raise RuntimeError("half way")

    monkeypatch.setattr(Plan, "apply", failing)
    with pytest.raises(RuntimeError, match="half way"):
        subject.verify()
    assert subject.bits() == before


# The second step of joint training, of a reference run, and of the fused one.
@pytest.mark.parametrize("count", [2, 4, 10])
def test_after_a_failure_in_a_step(subject: Subject, count: int) -> None:
    before = subject.bits()
    calls = []

    def stop(output: np.ndarray) -> np.ndarray:
        calls.append(len(calls))
        if len(calls) == count:
            assert subject.bits() != before
            raise RuntimeError("half way")
        return output

    def loss(y: Any, output: Any) -> Any:
        checked = tf.numpy_function(stop, [output], tf.float32)
        with tf.control_dependencies([checked]):
            return models.LOSS(y, output)

    with pytest.raises(tf.errors.UnknownError, match="half way"):
        subject.verify(loss=loss)
    assert len(calls) == count
    assert subject.bits() == before


def test_a_failure_while_the_forward_pass_is_traced(subject: Subject) -> None:
    before = subject.bits()

    def loss(y: Any, output: Any) -> Any:
        raise RuntimeError("no loss today")

    with pytest.raises(RuntimeError, match="no loss today"):
        subject.verify(loss=loss)
    assert subject.bits() == before


def test_an_optimizer_without_slots_stays_without() -> None:
    arguments = models.optimizers()
    assert verify(**arguments).ok
    for optimizer in arguments.values():
        assert not optimizer.built
        assert len(optimizer.variables) == 2  # The iterations and the learning rate.
        assert optimizer.iterations.numpy() == 0


def test_a_learning_rate_that_was_changed_is_used() -> None:
    arguments = models.optimizers()
    arguments["second_optimizer"].learning_rate.assign(0.0)
    report = verify(**arguments)
    (rate,) = (row for row in report.updates if row.name == "second_adam/learning_rate"
               and row.compared.startswith("split"))  # fmt: skip
    assert rate.bound < 1e-30


def test_the_names_of_layers_to_come() -> None:
    keras.Sequential()  # The first one has no number.
    numbers = []
    for _ in range(2):
        numbers.append(int(keras.Sequential().name.removeprefix("sequential_")))
        model = models.chain(models.FEATURES, layers.Dense(4, name="cut"), layers.Dense(3))
        number = int(f"0{model.name.removeprefix('functional')}".replace("_", ""))
        verify(model=model, cut="cut")
        after = models.chain(models.FEATURES, layers.Dense(3)).name
        assert after == f"functional_{number + 1}"
    assert numbers[1] == numbers[0] + 1


def test_the_same_report_twice(subject: Subject) -> None:
    first, second = subject.verify(), subject.verify()
    assert first.to_dict()["updates"] == second.to_dict()["updates"]
