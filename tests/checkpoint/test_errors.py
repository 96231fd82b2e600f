"""What can't be saved or restored: a named error, and every variable as it was."""

from __future__ import annotations

import os
import pathlib
import shutil
from typing import Any

import keras
import pytest
import tensorflow as tf

import splitop
from splitop import CheckpointError
from tests.checkpoint.parts import Training


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory with a checkpoint of step 2."""
    directory = tmp_path_factory.mktemp("checkpoints") / "saved"
    run = Training()
    run.train(0, 2)
    splitop.Checkpoint(directory, **run.parts()).save(2)
    return directory


@pytest.fixture
def directory(saved: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy that a test may damage."""
    return pathlib.Path(shutil.copytree(saved, tmp_path / "copy"))


@pytest.fixture(scope="module")
def victim() -> Training:
    """A training in another state than what was saved."""
    run = Training(seed=1)
    run.train(0, 1)
    return run


def _check_refused(run: Training, directory: pathlib.Path, message: str) -> None:
    before = run.bits()
    with pytest.raises(CheckpointError, match=message):
        splitop.Checkpoint(directory, **run.parts()).restore()
    assert run.bits() == before


def _folder(directory: pathlib.Path, part: str) -> pathlib.Path:
    (folder,) = directory.glob(f"save-*/{part}")
    return folder


# --- damage


@pytest.mark.parametrize("part", ["first", "second"])
@pytest.mark.parametrize(
    "name", ["variables.index", "variables.data-00000-of-00001", "manifest.json"]
)
@pytest.mark.parametrize("damage", ["truncated", "empty", "longer", "flipped", "missing"])
def test_damaged_file(
    part: str, name: str, damage: str, directory: pathlib.Path, victim: Training
) -> None:
    path = _folder(directory, part) / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        middle = len(content) // 2
        flipped = bytes([content[middle] ^ 1])
        path.write_bytes(content[:middle] + flipped + content[middle + 1 :])
    else:
        damaged = {"truncated": content[:-1], "empty": b"", "longer": content + b" "}[damage]
        path.write_bytes(damaged)
    _check_refused(victim, directory, f"is damaged: .*{part}.*{name}.*Received: ")


def test_every_flipped_bit_of_a_manifest(directory: pathlib.Path) -> None:
    variable = tf.Variable(1)
    checkpoint = splitop.Checkpoint(directory, part={"v": variable})
    checkpoint.save(7)
    (path,) = directory.glob("save-*-step-7/part/manifest.json")
    content = path.read_bytes()
    for place in range(len(content)):
        flipped = bytes([content[place] ^ (1 << place % 8)])
        path.write_bytes(content[:place] + flipped + content[place + 1 :])
        with pytest.raises(CheckpointError, match=r"manifest\.json. must hold what was saved"):
            checkpoint.restore()
    path.write_bytes(content)
    assert checkpoint.restore() == 7


def test_a_checkpoint_of_a_newer_version(
    directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = tf.Variable(1)
    checkpoint = splitop.Checkpoint(directory, part={"v": variable})
    with monkeypatch.context() as newer:
        newer.setattr("splitop._src.checkpoint.manifest.FORMAT", 2)
        checkpoint.save(1)
    with pytest.raises(CheckpointError, match=r"must have format 1.*Received: format 2\."):
        checkpoint.restore()


def test_a_damaged_checkpoint_can_be_gone_round(directory: pathlib.Path) -> None:
    run = Training()
    run.train(0, 3)
    checkpoint = splitop.Checkpoint(directory, **run.parts())
    (pathlib.Path(checkpoint.save(3)) / "first" / "variables.index").write_bytes(b"")
    with pytest.raises(CheckpointError, match="restore an earlier step"):
        checkpoint.restore()
    assert checkpoint.restore(2) == 2
    for step in (4, 5, 6):
        checkpoint.save(step)  # Removes the damaged one, too.
    assert checkpoint.steps == (4, 5, 6)


# --- steps and parts


def test_parts_of_different_steps(
    directory: pathlib.Path, victim: Training, tmp_path: pathlib.Path
) -> None:
    """Pitfall 22: the parts of two owners, brought together by hand."""
    run = Training()
    path = splitop.Checkpoint(tmp_path / "other", second=run.parts()["second"]).save(3)
    shutil.rmtree(_folder(directory, "second"))
    shutil.copytree(f"{path}/second", _folder(directory, "first").parent / "second")
    _check_refused(
        victim, directory, r'of step 2\. Received: "first" of step 2, "second" of step 3\.'
    )


def test_parts_of_the_same_step_may_be_brought_together(
    directory: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    run, other = Training(), Training(seed=1)
    path = splitop.Checkpoint(tmp_path / "other", second=run.parts()["second"]).save(2)
    shutil.rmtree(_folder(directory, "second"))
    shutil.copytree(f"{path}/second", _folder(directory, "first").parent / "second")
    assert splitop.Checkpoint(directory, **other.parts()).restore() == 2
    assert other.part_bits("second") == run.part_bits("second")


def test_a_part_under_another_name(directory: pathlib.Path, victim: Training) -> None:
    folder = _folder(directory, "second")
    shutil.rmtree(folder)
    shutil.copytree(_folder(directory, "first"), folder)
    _check_refused(victim, directory, r'must hold the part "second"\. Received: the part "first"\.')


def test_no_common_step() -> None:
    message = r'Received: "first" of step 10, 30; "second" of step 20\.'
    with pytest.raises(CheckpointError, match=message):
        splitop.common_step(first=(10, 30), second=20)
    with pytest.raises(CheckpointError, match=r'"first" of step 5; "second" of no step\.'):
        splitop.common_step(first=5, second=None)
    with pytest.raises(CheckpointError, match=r"step must be a whole number.*Received: -1"):
        splitop.common_step(first=-1)
    assert splitop.common_step(first=None, second=()) is None
    assert splitop.common_step(first=[10, 20, 30], second=[20, 10]) == 20
    assert splitop.common_step(first=30, second=[20, 30], third=(30,)) == 30


def test_missing_step_and_missing_part(directory: pathlib.Path) -> None:
    run = Training()
    checkpoint = splitop.Checkpoint(directory, **run.parts())
    message = r"must hold a checkpoint of step 5 .*Received: step 2 of first and second\."
    with pytest.raises(CheckpointError, match=message):
        checkpoint.restore(5)
    other = splitop.Checkpoint(directory, third={"v": tf.Variable(1)})
    assert (other.steps, other.latest) == ((), None)
    with pytest.raises(CheckpointError, match=r"the parts third\. Received: step 2 of first and"):
        other.restore()


def test_directories(tmp_path: pathlib.Path) -> None:
    part = {"v": tf.Variable(1)}
    (tmp_path / "file").write_text("")
    for name in ("not/there", "file", "file/below"):
        with pytest.raises(CheckpointError, match=r"directory must be a folder.*Received: .*"):
            splitop.Checkpoint(tmp_path / name, part=part)
    with pytest.raises(CheckpointError, match=r"file system.*Received: 'gs://bucket/run'"):
        splitop.Checkpoint("gs://bucket/run", part=part)
    checkpoint = splitop.Checkpoint(tmp_path / "run", part=part)
    os.rmdir(tmp_path / "run")
    for call in (checkpoint.restore, lambda: checkpoint.steps):
        with pytest.raises(CheckpointError, match=r"can't be read.*Received: .*run.*No such file"):
            call()
    with pytest.raises(CheckpointError, match=r"can't be written.*Received: .*run.*No such file"):
        checkpoint.save(1)


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
            r'part "second" .*must have the optimizers "optimizer" of AdamW\. '
            r'Received: "optimizer" of Adam\.',
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
        ({"part": {"m": tf.Module()}, "keep": 0}, r"keep must be .*Received: 0\."),
        ({"part": {"m": tf.Module()}, "keep": True}, r"keep must be .*Received: True\."),
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
