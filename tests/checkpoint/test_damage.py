"""What is damaged, or not of one step: a named error, and every variable as it was."""

from __future__ import annotations

import pathlib
import shutil

import pytest
import tensorflow as tf

import splitop
from splitop import CheckpointError
from tests.checkpoint.parts import Training


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
    (tmp_path / "run").rmdir()
    for call in (checkpoint.restore, lambda: checkpoint.steps):
        with pytest.raises(CheckpointError, match=r"can't be read.*Received: .*run.*No such file"):
            call()
    with pytest.raises(CheckpointError, match=r"can't be written.*Received: .*run.*No such file"):
        checkpoint.save(1)
