"""The directory: durable, one writer at a time, and readers that nobody disturbs."""

from __future__ import annotations

import errno
import fcntl
import os
import pathlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

from splitop import CheckpointError
from splitop._src.checkpoint.store import Save, Store


def _fill(content: str = "") -> Callable[[pathlib.Path], None]:
    def fill(folder: pathlib.Path) -> None:
        for part in ("first", "second"):
            (folder / part).mkdir()
            (folder / part / "manifest.json").write_text(content)
            (folder / part / "data").write_text(content)

    return fill


def _steps(store: Store) -> list[int]:
    return [save.step for save in store.saves()]


def test_all_is_on_the_disk_before_the_rename(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def logged_fsync(descriptor: int) -> None:
        log.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def logged_rename(source: Any, target: Any) -> None:
        log.append(("rename", str(source)))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "rename", logged_rename)
    directory = tmp_path / "new"
    store = Store(directory)
    assert log == [("fsync", str(tmp_path))]
    store.write(1, _fill(), None)
    log.pop(0)
    writing = directory / ".writing"
    before, after = log[: log.index(("rename", str(writing)))], log[-1]
    everything = [writing, *(writing / p for p in ("first", "second"))]
    everything += [writing / p / f for p in ("first", "second") for f in ("data", "manifest.json")]
    assert sorted(before) == sorted(("fsync", str(path)) for path in everything)
    assert after == ("fsync", str(directory))


def test_what_is_no_save_is_ignored(tmp_path: pathlib.Path) -> None:
    store = Store(tmp_path)
    store.write(5, _fill(), None)
    for name in (".writing", ".removed", "save-000009-step-", "save-000009-step-7.tmp", "mine"):
        (tmp_path / name / "first").mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("")
    assert _steps(store) == [5]
    store.write(6, _fill(), None)
    assert _steps(store) == [5, 6]
    names = {path.name for path in tmp_path.iterdir()}
    assert not names & {".writing", ".removed"}  # Those of a writer that was killed.
    assert names >= {"mine", "notes.txt"}


def test_a_failed_save(tmp_path: pathlib.Path) -> None:
    def fails(folder: pathlib.Path) -> None:
        _fill()(folder)
        raise KeyboardInterrupt

    store = Store(tmp_path)
    store.write(1, _fill(), 1)
    with pytest.raises(KeyboardInterrupt):
        store.write(2, fails, 1)
    assert _steps(store) == [1]
    assert not (tmp_path / ".writing").exists()


def test_others_may_read_what_was_saved(tmp_path: pathlib.Path) -> None:
    mask = os.umask(0o022)
    try:
        save = Store(tmp_path).write(1, _fill(), None)
    finally:
        os.umask(mask)
    assert save.path.stat().st_mode & 0o777 == 0o755


def test_a_save_that_is_read_stays(tmp_path: pathlib.Path) -> None:
    store = Store(tmp_path)
    store.write(1, _fill(), 1)
    with store.reading({"second"}, None) as save:
        assert save is not None
        store.write(2, _fill(), 1)
        assert (save.path / "second" / "data").exists()
        assert _steps(store) == [1, 2]
        with store.reading({"first", "second"}, None) as latest:
            assert latest is not None
            assert latest.step == 2
    store.write(3, _fill(), 1)
    assert _steps(store) == [3]


def test_a_save_that_is_removed_when_it_is_about_to_be_read(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the listing and the lock: then the one that has come since is read."""
    store, other = Store(tmp_path), Store(tmp_path)
    store.write(1, _fill(), 1)
    flock, calls = fcntl.flock, []

    def late_flock(file: Any, operation: int) -> None:
        if not calls:
            calls.append(operation)
            other.write(2, _fill(), 1)
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late_flock)
    with store.reading({"first", "second"}, None) as save:
        assert save is not None
        assert save.step == 2
    assert calls == [fcntl.LOCK_SH]


def test_writers_wait_for_each_other(tmp_path: pathlib.Path) -> None:
    store, inside, go = Store(tmp_path), threading.Event(), threading.Event()

    def slow(folder: pathlib.Path) -> None:
        _fill()(folder)
        inside.set()
        assert go.wait(60)

    writer = threading.Thread(target=store.write, args=(1, slow, None))
    writer.start()
    assert inside.wait(60)
    other = threading.Thread(target=Store(tmp_path).write, args=(2, _fill(), None))
    other.start()
    other.join(0.2)
    assert other.is_alive()
    assert _steps(store) == []
    go.set()
    writer.join(60)
    other.join(60)
    assert _steps(store) == [1, 2]


def test_readers_always_find_a_complete_save(tmp_path: pathlib.Path) -> None:
    """While another one writes and removes as fast as it can."""
    store, errors, done = Store(tmp_path), [], threading.Event()
    store.write(0, _fill("0"), 1)

    def content(save: Save) -> set[str]:
        return {path.read_text() for path in save.path.glob("*/*")}

    def read() -> None:
        while not done.is_set():
            with Store(tmp_path).reading({"first", "second"}, None) as save:
                if save is None or content(save) != {str(save.step)}:
                    errors.append(save)
                    return

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for step in range(1, 60):
        store.write(step, _fill(str(step)), 1)
    done.set()
    for reader in readers:
        reader.join(60)
    assert errors == []


def test_a_part_without_a_manifest(tmp_path: pathlib.Path) -> None:
    store = Store(tmp_path)
    save = store.write(1, _fill(), 1)
    (save.path / "second" / "manifest.json").unlink()
    message = r"damaged: .*second' must hold manifest\.json\. Received: no such file"
    with (
        pytest.raises(CheckpointError, match=message),
        store.reading({"first", "second"}, None),
    ):
        pass
    store.write(2, _fill(), 1)
    assert _steps(store) == [2]


def test_only_the_last_owner_may_save(tmp_path: pathlib.Path) -> None:
    old, new, nobody = Store(tmp_path), Store(tmp_path), Store(tmp_path)
    assert old.owner() is None
    old.claim("a", None)
    old.write(1, _fill(), None)
    new.claim("b", "a")
    with pytest.raises(CheckpointError, match="Received: run a, where b has claimed it"):
        old.write(2, _fill(), None)
    assert _steps(new) == [1]
    new.write(2, _fill(), None)
    nobody.write(3, _fill(), None)
    assert _steps(new) == [1, 2, 3]
    (tmp_path / ".owner").unlink()
    with pytest.raises(CheckpointError, match="Received: run b, where nobody has claimed it"):
        new.write(4, _fill(), None)
    assert _steps(old) == [1, 2, 3]


def test_of_two_who_claim_the_second_one_fails(tmp_path: pathlib.Path) -> None:
    one, two = Store(tmp_path), Store(tmp_path)
    one.claim("a", None)
    seen = one.owner()
    two.claim("b", seen)
    for after in (seen, None):
        with pytest.raises(CheckpointError, match="Received: run a, where b has claimed it"):
            one.claim("a", after)
    two.claim("b", seen)  # Again.
    assert two.owner() == "b"
    two.write(1, _fill(), None)


def test_a_claim_waits_for_a_save(tmp_path: pathlib.Path) -> None:
    """Of a process that was given up in the middle of one: it comes first, whenever it ends."""
    old, new, inside, go = Store(tmp_path), Store(tmp_path), threading.Event(), threading.Event()
    old.claim("a", None)

    def fill(folder: pathlib.Path) -> None:
        inside.set()
        assert go.wait(60)
        _fill()(folder)

    saving = threading.Thread(target=old.write, args=(1, fill, None))
    claiming = threading.Thread(target=new.claim, args=("b", "a"))
    saving.start()
    assert inside.wait(60)
    claiming.start()
    claiming.join(0.2)
    assert claiming.is_alive()
    go.set()
    for thread in (saving, claiming):
        thread.join(60)
        assert not thread.is_alive()
    assert _steps(new) == [1]
    with pytest.raises(CheckpointError, match="where b has claimed it"):
        old.write(2, _fill(), None)


def test_a_directory_that_is_full(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = Store(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    for write in (lambda: store.write(1, _fill(), None), lambda: store.claim("a", None)):
        with pytest.raises(CheckpointError, match=r"can't be written.*: No space left on device"):
            write()
    assert store.saves() == []
    assert store.owner() is None
