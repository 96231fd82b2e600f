"""A directory of saves, each of which appears as a whole: by the rename of its folder.

    directory/save-000007-step-300/first/...      a save: a folder for each part
    directory/.writing/                           a save that is being written
    directory/.removed/                           a save that is being removed
    directory/.lock                               held by who writes
    directory/.owner                              who has claimed the directory last

The number in front counts the saves, so that the last one is the latest, also where training went
on from an earlier step and reaches a step a second time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator, Set

from splitop._src.checkpoint.manifest import MANIFEST
from splitop._src.errors import CheckpointError

_SAVE = re.compile(r"save-(\d+)-step-(\d+)")
_WRITING, _REMOVED, _LOCK, _OWNER = ".writing", ".removed", ".lock", ".owner"


@dataclasses.dataclass(frozen=True, order=True)
class Save:
    """A complete save.

    Attributes:
        number: Counts the saves of the directory.
        step: The step of the training after which it was made.
        path: Its folder.
    """

    number: int
    step: int
    path: pathlib.Path

    @property
    def parts(self) -> frozenset[str]:
        """The parts that it holds; none if it has been removed."""
        try:
            return frozenset(entry.name for entry in os.scandir(self.path) if entry.is_dir())
        except FileNotFoundError:
            return frozenset()


class Store:
    """A directory of saves."""

    def __init__(self, directory: str | os.PathLike[str]):
        """Makes the directory, if it is not there.

        Raises:
            CheckpointError: It can't be made.
        """
        text = os.fspath(directory)
        if "://" in text:
            raise CheckpointError(
                "directory must be one of a file system, as a checkpoint appears by a rename. "
                f"Received: {text!r}."
            )
        self.directory = pathlib.Path(text).absolute()
        self._owner: str | None = None
        try:
            if not self.directory.is_dir():
                self.directory.mkdir(exist_ok=True)
                _sync(self.directory.parent)
        except OSError as error:
            raise CheckpointError(
                "directory must be a folder, or a new one in a folder that exists. "
                f"Received: {text!r}: {error.strerror}."
            ) from error

    def saves(self) -> list[Save]:
        """The complete saves, in the order in which they were made.

        Raises:
            CheckpointError: The directory is not there any more.
        """
        try:
            names = os.listdir(self.directory)
        except OSError as error:
            raise unusable(self.directory, "read", error.strerror) from error
        matches = [match for match in map(_SAVE.fullmatch, names) if match]
        return sorted(Save(int(m[1]), int(m[2]), self.directory / m[0]) for m in matches)

    def owner(self) -> str | None:
        """Who has claimed the directory last; None: nobody."""
        try:
            return (self.directory / _OWNER).read_text()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unusable(self.directory, "read", error.strerror) from error

    def claim(self, owner: str, after: str | None) -> None:
        """From now on refuses saves of those who have claimed the directory before.

        Args:
            owner: Who claims it.
            after: Who has claimed it last, as far as `owner` knows.

        Raises:
            CheckpointError: Somebody else has claimed it since, or it can't be written.
        """
        with self._locked():
            self._check_owner(owner, after)
            written = self.directory / f"{_OWNER}.new"
            written.write_text(owner)
            _sync(written)
            written.rename(self.directory / _OWNER)
            _sync(self.directory)
        self._owner = owner

    def write(self, step: int, fill: Callable[[pathlib.Path], None], keep: int | None) -> Save:
        """Makes a save; then removes older ones of the same parts.

        Args:
            step: The step of the training.
            fill: Fills the folder that it is given; if it raises, there is no save.
            keep: How many saves of the same parts stay; None: all.

        Returns:
            The save, all of which is on the disk.

        Raises:
            CheckpointError: The directory can't be written, or is another owner's now.
        """
        with self._locked():
            if self._owner is not None:
                self._check_owner(self._owner)
            self._remove_leftovers()  # Who holds the lock knows that their writer is dead.
            folder = self.directory / _WRITING
            folder.mkdir()
            try:
                fill(folder)
                _sync_tree(folder)
                number = max((save.number for save in self.saves()), default=0) + 1
                save = Save(number, step, self.directory / f"save-{number:06d}-step-{step}")
                folder.rename(save.path)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            _sync(self.directory)
            if keep is not None:
                parts = save.parts
                for old in [other for other in self.saves() if other.parts == parts][:-keep]:
                    self._remove(old)
            return save

    def holding(self, parts: Set[str], step: int | None = None) -> list[Save]:
        """The complete saves that hold `parts`, in the order in which they were made.

        Args:
            parts: Names of the parts.
            step: The step that they must be of; None: any.
        """

        def found() -> list[Save]:
            saves = [save for save in self.saves() if step in (None, save.step)]
            return [save for save in saves if save.parts.issuperset(parts)]

        saves = found()
        if not saves and (self.directory / _LOCK).exists():
            # A listing may miss the save that comes, and then the one that goes.
            with (self.directory / _LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH)
                saves = found()
        return saves

    @contextlib.contextmanager
    def reading(self, parts: Set[str], step: int | None) -> Iterator[Save | None]:
        """Gives the latest save that holds `parts`, which nobody removes until the block ends.

        Args:
            parts: Names of the parts.
            step: The step that it must be of; None: any.
        """
        while True:
            found = self.holding(parts, step)
            if not found:
                yield None
                return
            with contextlib.ExitStack() as held:
                if all(_hold(found[-1].path / part, held) for part in sorted(parts)):
                    yield found[-1]
                    return

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keeps other writers waiting; the lock of a process that dies is free.

        Raises:
            CheckpointError: What is done inside can't be written.
        """
        with contextlib.ExitStack() as held:
            try:
                lock = held.enter_context((self.directory / _LOCK).open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX)
                try:
                    yield
                finally:  # Closing alone leaves it to processes that were forked meanwhile.
                    fcntl.flock(lock, fcntl.LOCK_UN)
            except OSError as error:
                raise unusable(self.directory, "written", error.strerror) from error

    def _check_owner(self, *allowed: str | None) -> None:
        found = self.owner()
        if found not in allowed:
            raise CheckpointError(
                f"{str(self.directory)!r} must be saved to by one run of a training at a time, and "
                f"another one has begun there. Received: run {_short(allowed[0])}, where "
                f"{_short(found)} has claimed it."
            )

    def _remove_leftovers(self) -> None:
        for name in (_WRITING, _REMOVED):
            if (self.directory / name).exists():
                shutil.rmtree(self.directory / name)

    def _remove(self, save: Save) -> None:
        """Removes a save, unless somebody reads it: then a later call does."""
        with contextlib.ExitStack() as held:
            if all(_hold_alone(save.path / part, held) for part in sorted(save.parts)):
                save.path.rename(self.directory / _REMOVED)
                shutil.rmtree(self.directory / _REMOVED)


def unusable(directory: pathlib.Path, what: str, reason: str | None) -> CheckpointError:
    """The error where a directory can't be "read" or "written"."""
    return CheckpointError(
        f"the directory of the checkpoints can't be {what}. Received: {str(directory)!r}: {reason}."
    )


def _short(owner: str | None) -> str:
    return "nobody" if owner is None else owner[:8]


def _hold(folder: pathlib.Path, held: contextlib.ExitStack) -> bool:
    """Keeps a part's folder from being removed; False: it has just been."""
    try:
        file = held.enter_context((folder / MANIFEST).open("rb"))
        fcntl.flock(file, fcntl.LOCK_SH)
        return os.path.samestat(os.fstat(file.fileno()), os.stat(folder / MANIFEST))
    except FileNotFoundError:
        if folder.exists():
            raise CheckpointError(
                f"a checkpoint is damaged: {str(folder)!r} must hold {MANIFEST}. "
                "Received: no such file."
            ) from None
        return False


def _hold_alone(folder: pathlib.Path, held: contextlib.ExitStack) -> bool:
    """Whether nobody reads a part's folder, or can while `held` is open."""
    try:
        file = held.enter_context((folder / MANIFEST).open("r+b"))  # NFS wants it writable.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        pass  # Damaged: nobody can read it.
    except BlockingIOError:
        return False
    return True


def _sync_tree(folder: pathlib.Path) -> None:
    """Has all that is in a folder, and the folder itself, on the disk."""
    for path, _, files in os.walk(folder, topdown=False):
        for name in files:
            _sync(os.path.join(path, name))
        _sync(path)


def _sync(path: str | os.PathLike[str]) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
