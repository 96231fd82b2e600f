"""Save, restore and go on: to the same bits as a run that was never interrupted."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop.keras import RowwiseAdagrad
from tests.checkpoint.parts import Training

ko, v1 = keras.optimizers, tf.compat.v1.train

OPTIMIZERS = pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: ko.SGD(0.1), id="sgd"),
        pytest.param(lambda: ko.SGD(0.1, momentum=0.9), id="momentum"),
        pytest.param(lambda: ko.Adam(0.01, amsgrad=True), id="amsgrad"),
        pytest.param(
            lambda: ko.AdamW(ko.schedules.ExponentialDecay(0.01, 2, 0.5)), id="adamw-schedule"
        ),
        pytest.param(lambda: ko.Nadam(0.01, use_ema=True), id="nadam-averaged"),
        pytest.param(lambda: ko.Adam(0.01, gradient_accumulation_steps=2), id="accumulated"),
        pytest.param(lambda: ko.LossScaleOptimizer(ko.Adam(0.01)), id="loss-scale"),
        pytest.param(lambda: RowwiseAdagrad(0.1), id="rowwise-adagrad"),
        pytest.param(lambda: ko.Lamb(0.01), id="lamb-not-fused"),
        pytest.param(lambda: v1.GradientDescentOptimizer(0.1), id="tf1-sgd"),
        pytest.param(lambda: v1.AdamOptimizer(0.01), id="tf1-adam"),
        pytest.param(lambda: v1.FtrlOptimizer(0.1), id="tf1-ftrl"),
        pytest.param(lambda: v1.ProximalAdagradOptimizer(0.1), id="tf1-not-fused"),
    ],
)


@OPTIMIZERS
def test_a_new_process_goes_on_to_the_same_bits(
    make: Callable[[], Any], tmp_path: pathlib.Path
) -> None:
    run = Training(make_second=make)
    run.train(0, 3)
    checkpoint = splitop.Checkpoint(tmp_path / "run", **run.parts())
    path = checkpoint.save(3)
    assert pathlib.Path(path).parent == checkpoint.directory
    saved = run.bits()
    run.train(3, 5)
    assert run.bits() != saved

    other = Training(make_second=make, seed=1)  # An optimizer without any slots.
    assert splitop.Checkpoint(tmp_path / "run", **other.parts()).restore() == 3
    assert other.bits() == saved
    other.train(3, 5)
    assert other.bits() == run.bits()


@pytest.mark.parametrize(("writer", "reader"), [("fused", "reference"), ("reference", "fused")])
def test_the_paths_share_their_state(writer: str, reader: str, tmp_path: pathlib.Path) -> None:
    run, other, third = (
        Training(backend="auto" if b == "fused" else b, seed=s)
        for s, b in enumerate((writer, reader, reader))
    )
    run.train(0, 3)
    splitop.Checkpoint(tmp_path, **run.parts()).save(3)
    other.train(0, 1)  # Its state is another one now.
    for each in (other, third):
        assert splitop.Checkpoint(tmp_path, **each.parts()).restore() == 3
        assert each.bits() == run.bits()
        each.train(3, 4)
    assert other.bits() == third.bits()


def test_steps_latest_and_keep(tmp_path: pathlib.Path) -> None:
    variable = tf.Variable(0)
    checkpoint = splitop.Checkpoint(tmp_path, keep=2, part={"v": variable})
    assert (checkpoint.steps, checkpoint.latest, checkpoint.restore()) == ((), None, None)
    for step in (10, 20, 30):
        variable.assign(step)
        checkpoint.save(np.int64(step))
    assert (checkpoint.steps, checkpoint.latest) == ((20, 30), 30)
    assert len(list(tmp_path.glob("save-*"))) == 2
    assert checkpoint.restore(20) == 20
    assert variable.numpy() == 20


def test_a_run_that_goes_on_from_an_earlier_step(tmp_path: pathlib.Path) -> None:
    """What was saved last is the latest, not what has the highest step."""
    variable = tf.Variable(0)
    checkpoint = splitop.Checkpoint(tmp_path, keep=None, part={"v": variable})
    for step in (10, 20):
        checkpoint.save(step)
    checkpoint.restore(10)
    variable.assign(15)
    checkpoint.save(15)
    assert (checkpoint.steps, checkpoint.restore()) == ((10, 20, 15), 15)
    variable.assign(99)
    checkpoint.save(20)
    assert (checkpoint.steps, checkpoint.restore()) == ((10, 15, 20), 20)
    assert variable.numpy() == 99


def test_parts_with_directories_of_their_own(tmp_path: pathlib.Path) -> None:
    run = Training()
    parts = run.parts()
    first = splitop.Checkpoint(tmp_path / "first", first=parts["first"])
    second = splitop.Checkpoint(tmp_path / "second", second=parts["second"])
    run.train(0, 2)
    first.save(2)
    second.save(2)
    at_two = run.bits()
    run.train(2, 4)
    first.save(4)  # Then the second part's owner was stopped.

    step = splitop.common_step(first=first.steps, second=second.steps)
    assert step == first.restore(step) == second.restore(step) == 2
    assert run.bits() == at_two


def test_a_part_of_a_checkpoint_of_both(tmp_path: pathlib.Path) -> None:
    run, other = Training(), Training(seed=1)
    run.train(0, 2)
    splitop.Checkpoint(tmp_path, **run.parts()).save(2)
    second = splitop.Checkpoint(tmp_path, second=other.parts()["second"])
    first_before = other.part_bits("first")
    assert second.restore() == 2
    assert other.part_bits("second") == run.part_bits("second")
    assert other.part_bits("first") == first_before
    # Its own saves do not push out those of both parts.
    for step in (3, 4, 5, 6):
        second.save(step)
    assert second.steps == (2, 4, 5, 6)
    assert splitop.Checkpoint(tmp_path, **run.parts()).steps == (2,)


def test_other_kinds_of_state(tmp_path: pathlib.Path) -> None:
    def make() -> dict[str, Any]:
        return {
            "data": iter(tf.data.Dataset.range(10).shuffle(4, seed=1)),
            "random": tf.random.Generator.from_seed(3),
            "lists": [tf.Variable([1.0]), {"a": keras.Variable([2.0])}],
            "table": tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, -1),
        }

    def draw(values: dict[str, Any]) -> list[float]:
        return [next(values["data"]).numpy(), *values["random"].normal([2]).numpy()]

    values = make()
    draw(values)
    values["lists"][0].assign([5.0])
    values["lists"][1]["a"].assign([6.0])
    values["table"].insert([1], [7])
    splitop.Checkpoint(tmp_path, part=values).save(1)
    expected = draw(values)

    other = make()
    assert splitop.Checkpoint(tmp_path, part=other).restore() == 1
    assert draw(other) == expected
    assert other["lists"][0].numpy() == 5
    assert other["lists"][1]["a"].numpy() == 6
    assert other["table"].lookup(tf.constant([1], tf.int64)).numpy() == 7


def test_files_are_read_without_splitop(tmp_path: pathlib.Path) -> None:
    run = Training()
    run.train(0, 1)
    path = splitop.Checkpoint(tmp_path, **run.parts()).save(1)
    reader = tf.train.load_checkpoint(f"{path}/second/variables")
    value = reader.get_tensor("model/0/kernel/.ATTRIBUTES/VARIABLE_VALUE")
    assert value.tobytes() == run.part_bits("second")[0]


def test_compiled_models(tmp_path: pathlib.Path) -> None:
    """Metrics and what compile adds are no state of a part."""
    run, other = Training(), Training(seed=1)
    run.train(0, 1)
    run.second.compile("adam", "mse", metrics=["mae"])
    run.second.fit(np.ones((4, 5)), np.ones((4, 7)), verbose=0)
    splitop.Checkpoint(tmp_path, **run.parts()).save(1)
    assert splitop.Checkpoint(tmp_path, **other.parts()).restore() == 1
    assert other.bits() == run.bits()


def test_variables_that_keras_does_not_name_or_track(tmp_path: pathlib.Path) -> None:
    class Scale(keras.Layer):
        def build(self, _: Any) -> None:
            self.weight = self.add_weight((2,))
            self.count = tf.Variable(0)

    def make() -> Any:
        layer = Scale()
        layer.build(None)
        return layer

    one, other = make(), make()
    assert one.weight.name != other.weight.name
    one.weight.assign([1.0, 2.0])
    one.count.assign(3)
    splitop.Checkpoint(tmp_path, part={"layer": one}).save(1)
    assert splitop.Checkpoint(tmp_path, part={"layer": other}).restore() == 1
    assert (other.weight.numpy().tolist(), other.count.numpy()) == ([1, 2], 3)


def test_a_layer_that_is_frozen_later(tmp_path: pathlib.Path) -> None:
    run, other = Training(), Training(seed=1)
    run.train(0, 1)
    splitop.Checkpoint(tmp_path, **run.parts()).save(1)
    other.second_optimizer.build(other.second.trainable_variables)
    other.second.layers[-1].trainable = False
    assert splitop.Checkpoint(tmp_path, **other.parts()).restore() == 1
    assert other.bits() == run.bits()


def test_variables_of_a_mirrored_strategy(tmp_path: pathlib.Path) -> None:
    strategy = tf.distribute.MirroredStrategy(["cpu:0"])
    with strategy.scope():
        variable = tf.Variable([1.0, 2.0])
    checkpoint = splitop.Checkpoint(tmp_path, part={"v": variable})
    checkpoint.save(1)
    variable.assign([3.0, 4.0])
    checkpoint.restore()
    assert variable.numpy().tolist() == [1, 2]
    # And into a plain one.
    plain = tf.Variable([0.0, 0.0])
    assert splitop.Checkpoint(tmp_path, part={"v": plain}).restore() == 1
    assert plain.numpy().tolist() == [1, 2]
