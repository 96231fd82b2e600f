"""What can't be saved or restored: a named error, and every variable as it was."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import pytest
import tensorflow as tf

import splitop
from splitop import CheckpointError
from tests.checkpoint.parts import Training

# --- other variables


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"units": 6},
            r'part "first" .*step 2: variable "\S*/kernel" must be float32 \[7, 3\].*'
            r"Received: float32 \[6, 3\]\.",
        ),
        ({"dtype": "float64"}, r"must be float32 .*Received: float64 \[7, 3\]\."),
        (
            {"make_second": lambda: keras.optimizers.Adam()},
            r'part "second" .*must have the optimizers "optimizer" of AdamW, as when it was saved'
            r'\. Received: the optimizers "optimizer" of Adam\.',
        ),
        (
            {"make_second": lambda: keras.optimizers.AdamW(amsgrad=True)},
            r'part "second" .*must have variable "\S*velocity_hat" .* too\. Received: a checkpoint',
        ),
        (
            {"make_first": lambda: keras.optimizers.SGD(0.1)},
            r'part "first" .*must have the variables \S*momentum, \S*momentum too',
        ),
    ],
)
@pytest.mark.parametrize("trained", [True, False])
def test_other_variables(
    options: dict[str, Any], message: str, trained: bool, saved: pathlib.Path
) -> None:
    run = Training(seed=1, **options)
    if trained:
        run.train(0, 1)
    before = [run.first.get_weights(), run.second.get_weights()]
    with pytest.raises(CheckpointError, match=message):
        splitop.Checkpoint(saved, **run.parts()).restore()
    after = [run.first.get_weights(), run.second.get_weights()]
    assert all(
        (a == b).all()
        for old, new in zip(before, after, strict=True)
        for a, b in zip(old, new, strict=True)
    )
    assert run.second_optimizer.iterations.numpy() == trained


def test_extra_and_missing_variables(saved: pathlib.Path) -> None:
    run = Training()
    parts = run.parts()
    parts["second"]["more"] = tf.Variable([1.0], name="mine")
    with pytest.raises(CheckpointError, match=r'must have variable "mine:0" \(more\) too\. Rec'):
        splitop.Checkpoint(saved, **parts).restore()
    del parts["second"]["more"], parts["second"]["model"]
    with pytest.raises(CheckpointError, match=r"the variables \S+/kernel, .* and \d more"):
        splitop.Checkpoint(saved, **parts).restore()


def test_a_model_that_is_not_built(saved: pathlib.Path, tmp_path: pathlib.Path) -> None:
    parts = Training().parts()
    parts["second"] = {"model": keras.Sequential([keras.layers.Dense(3)])}
    with pytest.raises(CheckpointError, match=r'"second" must have variables; a model .*once it'):
        splitop.Checkpoint(tmp_path, **parts).save(1)
    assert list(tmp_path.glob("save-*")) == []
    parts["second"]["optimizer"] = keras.optimizers.AdamW()
    with pytest.raises(CheckpointError, match=r"a model that is not built has none"):
        splitop.Checkpoint(saved, **parts).restore()


def test_an_optimizer_without_its_variables(tmp_path: pathlib.Path) -> None:
    run = Training()
    run.train(0, 1)
    splitop.Checkpoint(tmp_path, part={"optimizer": run.second_optimizer}).save(1)
    new = keras.optimizers.AdamW()
    with pytest.raises(CheckpointError, match=r"has no state yet.*optimizer\.build\(variables\)"):
        splitop.Checkpoint(tmp_path, part={"optimizer": new}).restore()
    new.build(Training().second.trainable_variables)
    assert splitop.Checkpoint(tmp_path, part={"optimizer": new}).restore() == 1

    run = Training(make_second=tf.compat.v1.train.AdamOptimizer)
    run.train(0, 1)
    message = r'"part" must hold the variables that its optimizer "optimizer" trains\. Received: '
    with pytest.raises(CheckpointError, match=message):
        splitop.Checkpoint(tmp_path, part={"optimizer": run.second_optimizer}).save(1)


# --- arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"needs parts.*Received: none"),
        ({"part": tf.Module()}, r'"part" must be a dictionary.*Received: '),
        ({"part": {}}, r'"part" must be a dictionary.*Received: {} \(dict\)'),
        ({"part": {"x": 3}}, r'"x" of the part "part" must be a model.*Received: 3 \(int\)'),
        ({"part": {"root": tf.Module()}}, r"names in the part .*Received: 'root'"),
        ({"part": {"a/b": tf.Module()}}, r"names in the part .*Received: 'a/b'"),
        ({"../x": {"m": tf.Module()}}, r"part names must be Python names.*Received: '../x'"),
        ({"part": {"m": tf.Module()}, "keep": 0}, r"keep must be .*Received: 0 \(int\)\."),
        ({"part": {"m": tf.Module()}, "keep": True}, r"keep must be .*Received: True \(bool\)\."),
    ],
)
def test_arguments(options: dict[str, Any], message: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        splitop.Checkpoint(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("step", [-1, 1.0, "1", None, True])
def test_step(step: Any, tmp_path: pathlib.Path) -> None:
    checkpoint = splitop.Checkpoint(tmp_path, part={"v": tf.Variable(1)})
    with pytest.raises(CheckpointError, match=r"step must be a whole number.*Received: "):
        checkpoint.save(step)
    assert list(tmp_path.iterdir()) == []


def test_in_a_function(tmp_path: pathlib.Path) -> None:
    checkpoint = splitop.Checkpoint(tmp_path, part={"v": tf.Variable(1)})
    with pytest.raises(CheckpointError, match="Received: no session, in a graph"):
        tf.function(lambda: checkpoint.save(1), autograph=False)()


def test_a_save_that_fails_leaves_nothing(tmp_path: pathlib.Path) -> None:
    """TensorFlow can't save an iterator over Python's own state."""
    data = iter(tf.data.Dataset.from_generator(lambda: iter([1, 2]), tf.int32))
    splitop.Checkpoint(tmp_path, part={"v": tf.Variable(1)}).save(1)
    with pytest.raises(tf.errors.FailedPreconditionError):
        splitop.Checkpoint(tmp_path, part={"v": tf.Variable(1), "data": data}).save(2)
    assert [path.name for path in tmp_path.glob("save-*")] == ["save-000001-step-1"]
    assert not (tmp_path / ".writing").exists()
