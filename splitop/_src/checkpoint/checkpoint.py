"""`splitop.Checkpoint`: all parts of a training in one checkpoint, whole or not there."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from splitop._src.checkpoint import manifest as manifests
from splitop._src.checkpoint.files import EagerFiles, SessionFiles
from splitop._src.checkpoint.fit import build_optimizers, check_fit
from splitop._src.checkpoint.manifest import Manifest
from splitop._src.checkpoint.state import State, check_values
from splitop._src.checkpoint.steps import whole_step
from splitop._src.checkpoint.store import Save, Store, unusable
from splitop._src.errors import CheckpointError
from splitop._src.names import describe
from splitop._src.whole import check_whole

# What TensorFlow raises where the operating system can't write.
_FULL = (tf.errors.ResourceExhaustedError, tf.errors.PermissionDeniedError)


class Checkpoint:
    """Saves the parts of a training together, and restores them at one step.

        checkpoint = splitop.Checkpoint(
            "run-1",
            first={"model": first, "optimizer": first_optimizer},
            second={"model": second, "optimizer": second_optimizer},
        )
        start = checkpoint.restore() or 0
        for step in range(start, steps):
            train(batch(step))
            if (step + 1) % 100 == 0:
                checkpoint.save(step + 1)

    A checkpoint appears by one rename, when all of it is on the disk: whenever the process is
    killed, the last complete one is there. Older ones are removed after that. Any number of
    processes may read meanwhile.

    Parts may also be saved by their owners, each by a Checkpoint of its own in a directory of its
    own; `splitop.common_step` says from which step all of them can go on.

    A part is a dictionary of trackable objects: Keras models, Keras and TF1 optimizers, variables,
    tf.random.Generator, iterators of tf.data, tf.Module; or lists and dictionaries of these. Of a
    compiled Keras model only the model's variables are saved; pass its optimizer too.

    In a TF1 graph, `save` and `restore` take a session, and variables that are passed in lists are
    known by their names.
    """

    def __init__(
        self, directory: str | os.PathLike[str], *, keep: int | None = 3, **parts: Mapping[str, Any]
    ):
        """Makes the directory if there is none; the folder that it is in must exist.

        Args:
            directory: Where the checkpoints are.
            keep: How many stay, the last ones; None: all.
            **parts: For each part, by its name, what to save.

        Raises:
            CheckpointError: An argument is of another kind.
        """
        keep = check_keep(keep)
        if not parts:
            raise CheckpointError(
                "a checkpoint needs parts, such as first={...}, second={...}. Received: none."
            )
        for name, values in parts.items():
            if not isinstance(values, Mapping) or not values:
                raise CheckpointError(
                    f'the part "{name}" must be a dictionary of what to save, such as '
                    f'{{"model": model, "optimizer": optimizer}}. Received: {describe(values)}.'
                )
            if not name.isidentifier():
                raise CheckpointError(f"part names must be Python names. Received: {name!r}.")
            check_values(name, values)
        self._parts = {name: dict(values) for name, values in parts.items()}
        self._keep = keep
        self._store = Store(directory)
        self._eager = EagerFiles()
        self._in_session = SessionFiles()

    @property
    def directory(self) -> pathlib.Path:
        """Where the checkpoints are."""
        return self._store.directory

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps of the complete checkpoints that hold all parts, in the order of saving."""
        steps = [save.step for save in self._store.holding(self._parts.keys())]
        return tuple(reversed(dict.fromkeys(reversed(steps))))  # The last of each counts.

    @property
    def latest(self) -> int | None:
        """The step of the checkpoint that was saved last; None: there is none."""
        return next(reversed(self.steps), None)

    @property
    def owner(self) -> str | None:
        """Who has claimed the directory last; None: nobody."""
        return self._store.owner()

    def claim(self, owner: str, after: str | None) -> None:
        """Has those who have claimed the directory before save there no more.

        So a process that was given up, but still runs, can't save between the checkpoints of the
        one that has taken its place. Waits for a save that is being made. A Checkpoint that claims
        nothing may save whoever the owner is.

        Args:
            owner: A text that no other owner has.
            after: The `owner` property as it was when the place was taken: of two that take it,
                the second one fails.

        Raises:
            CheckpointError: Somebody else has claimed the directory since, or it can't be written.
        """
        self._store.claim(owner, after)

    def save(self, step: int, *, session: Any | None = None) -> str:
        """Saves all parts; then removes the oldest checkpoints.

        Args:
            step: How many steps the training has made. Of two checkpoints of one step, the later
                one counts.
            session: The session of a TF1 graph; None: the variables are eager.

        Returns:
            Path of the checkpoint's folder.

        Raises:
            CheckpointError: `step` is no whole number from 0, a part has no variables yet, the
                directory can't be written, or another owner has claimed it after this one.
        """
        step = whole_step(step)
        with _graph_of(session):
            states = self._collect_all(session)

            def fill(folder: pathlib.Path) -> None:
                for part, state in states.items():
                    (folder / part).mkdir()
                    self._write(folder / part, state, session)
                    saved = Manifest(part, step, state.saved(), state.saved_optimizers())
                    manifests.write(folder / part, saved)

            try:
                return str(self._store.write(step, fill, self._keep).path)
            except _FULL as error:
                raise unusable(self.directory, "written", error.message) from error

    def restore(self, step: int | None = None, *, session: Any | None = None) -> int | None:
        """Sets all variables of all parts from a checkpoint.

        Everything is checked first: if it fails, no variable has changed. The state of an
        optimizer that has made no step yet is created.

        Args:
            step: The step to go back to; None: that of the checkpoint that was saved last.
            session: The session of a TF1 graph, in which the whole step is built; None: the
                variables are eager.

        Returns:
            The step; None: there is no checkpoint yet, and `step` is None.

        Raises:
            CheckpointError: There is none of that step, it is damaged, it holds other variables,
                or its parts are of different steps.
        """
        step = None if step is None else whole_step(step)
        with _graph_of(session), self._store.reading(self._parts.keys(), step) as save:
            if save is None:
                self._explain(step)
                return None
            saved = {part: manifests.read(save.path / part) for part in self._parts}
            _check_stamps(save, saved)
            states = self._fitting_states(saved, session)
            for part, state in states.items():
                self._read(save.path / part, state, session)
            return save.step

    def _fitting_states(self, saved: Mapping[str, Manifest], session: Any) -> dict[str, State]:
        """The state of all parts, after it was checked that it is that of the checkpoint."""
        states = {part: self._collect(part, session) for part in saved}
        unbuilt = {part: check_fit(states[part], saved[part]) for part in saved}
        for part, optimizers in unbuilt.items():
            if optimizers:
                build_optimizers(states[part], saved[part], optimizers)
                states[part] = self._collect(part, session)
                check_fit(states[part], saved[part])
        return states

    def _collect_all(self, session: Any) -> dict[str, State]:
        states = {part: self._collect(part, session) for part in self._parts}
        for part, state in states.items():
            if not state.variables:
                raise CheckpointError(
                    f'the part "{part}" must have variables; a model has them once it is built. '
                    "Received: none."
                )
        return states

    def _collect(self, part: str, session: Any) -> State:
        if session is None:
            if not tf.executing_eagerly():
                raise CheckpointError(
                    "save and restore are to be called eagerly, or with session=... in a TF1 "
                    "graph. Received: no session, in a graph."
                )
            state = State(part, self._parts[part])
            state.check_eager(part)
            return state
        return State(part, self._parts[part])

    def _write(self, folder: pathlib.Path, state: State, session: Any) -> None:
        if session is None:
            self._eager.write(folder, state.variables)
        else:
            self._in_session.write(folder, state.variables, session)

    def _read(self, folder: pathlib.Path, state: State, session: Any) -> None:
        if session is None:
            self._eager.read(folder, state.variables)
        else:
            self._in_session.read(folder, state.variables, session)

    def _explain(self, step: int | None) -> None:
        """Raises if there is no checkpoint, but for a training that begins."""
        saves = self._store.saves()
        if step is None and not saves:
            return
        wanted = "" if step is None else f" of step {step}"
        there = [f"step {save.step} of {' and '.join(sorted(save.parts))}" for save in saves]
        raise CheckpointError(
            f'"{self.directory}" must hold a checkpoint{wanted} with the parts '
            f"{' and '.join(self._parts)}. Received: {', '.join(there) or 'no checkpoint'}."
        )


def check_keep(keep: Any) -> int | None:
    """How many checkpoints stay; None: all.

    Raises:
        CheckpointError: It is something else.
    """
    if keep is None:
        return None
    return check_whole("keep", keep, otherwise=", or None", error=CheckpointError)


def _graph_of(session: Any) -> contextlib.AbstractContextManager[Any]:
    """A scope with the session's graph as the current one: Saver and TF1 optimizers ask for it."""
    if session is None:
        return contextlib.nullcontext()
    if not isinstance(session, (tf.compat.v1.Session, tf.compat.v1.InteractiveSession)):
        raise CheckpointError(
            f"session must be a tf.compat.v1.Session. Received: {describe(session)}."
        )
    return session.graph.as_default()


def _check_stamps(save: Save, saved: Mapping[str, Manifest]) -> None:
    """All parts must be of one step: they may have been brought together by hand."""
    if any(manifest.step != save.step for manifest in saved.values()):
        stamps = ", ".join(f'"{part}" of step {m.step}' for part, m in saved.items())
        raise CheckpointError(
            f'the parts of the checkpoint "{save.path}" must be of step {save.step}. '
            f"Received: {stamps}."
        )
    for part, manifest in saved.items():
        if manifest.part != part:
            raise CheckpointError(
                f'{str(save.path / part)!r} must hold the part "{part}". '
                f'Received: the part "{manifest.part}".'
            )
