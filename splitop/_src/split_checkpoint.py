"""A Keras callback that saves both parts while fit trains them."""

from __future__ import annotations

import os
from typing import Any

import keras

from splitop._src import workers
from splitop._src.checkpoint.checkpoint import Checkpoint, check_keep
from splitop._src.checkpoint.store import Store
from splitop._src.errors import CheckpointError
from splitop._src.whole import check_whole

EPOCH = "epoch"


class SplitCheckpoint(keras.callbacks.Callback):
    """Saves a model in two parts with both optimizers, and restores them when fit begins.

        checkpoint = splitop.keras.SplitCheckpoint("run-1", every=500)
        done = (checkpoint.latest or 0) // steps_per_epoch
        model.fit(data, epochs=10, initial_epoch=done, callbacks=[checkpoint])

    Steps are batches. An epoch that was not finished begins anew, with the parts as they were.

    Under a MultiWorkerMirroredStrategy the first worker saves, and all of them read: the directory
    is one that all have, such as that of a network file system.

    Attributes:
        step: How many batches the model has been trained on, those before a restore too; those of
            an epoch that begins anew, if it is known how many an epoch has, once.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        every: int | str = EPOCH,
        keep: int | None = 3,
        restore: bool = True,
    ):
        """Makes the directory if there is none.

        Args:
            directory: See `splitop.Checkpoint`, which reads what this callback saves: as parts
                "first" and "second", each with "model", and "optimizer" if it has one. If a
                SplitModel trains its parts at different frequencies, the first part has "batches"
                too, a tf.int64 variable: how many batches there have been. So a checkpoint goes
                only to a model that has such a count if the saved one had, or else fit raises a
                CheckpointError; and so for a part that had an optimizer, or had none. Once a frozen
                part is to train, restore with `splitop.Checkpoint` and the parts as they were
                saved, and go on in another directory.
            every: After how many batches to save; "epoch": at the end of each epoch.
            keep: How many checkpoints stay; None: all.
            restore: Whether fit begins with the last checkpoint, if there is one.

        Raises:
            CheckpointError: An argument is of another kind.
        """
        super().__init__()
        if not (isinstance(every, str) and every == EPOCH):
            every = check_whole(
                "every", every, otherwise=', of batches, or "epoch"', error=CheckpointError
            )
        self.step = 0
        self._store = Store(directory)
        self._every, self._keep, self._restore = every, check_keep(keep), restore
        self._checkpoint: Checkpoint | None = None
        self._epoch_start = 0

    @property
    def latest(self) -> int | None:
        """The step of the last checkpoint; None: there is none."""
        saves = self._store.holding({"first", "second"})
        return saves[-1].step if saves else None

    def on_train_begin(self, logs: Any = None) -> None:
        model = self.model
        parts = _parts_of(model)
        # Which batches of a cycle a part trains in goes on, too.
        batches = getattr(getattr(model, "_frequency", None), "batches", None)
        if batches is not None:
            parts["first"]["batches"] = batches
        self._checkpoint = Checkpoint(self._store.directory, keep=self._keep, **parts)
        if self._restore:
            self.step = self._checkpoint.restore() or 0
        self._check_workers()
        # An epoch that was not finished begins anew, and so does the count of its batches.
        batches_an_epoch = (self.params or {}).get("steps")
        if batches_an_epoch:
            self.step -= self.step % batches_an_epoch

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch_start = self.step

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        before, self.step = self.step, self._epoch_start + batch + 1
        # With steps_per_execution, several batches have passed.
        if isinstance(self._every, int) and self.step // self._every > before // self._every:
            self._save()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._every == EPOCH:
            self._save()

    def _save(self) -> None:
        assert self._checkpoint is not None
        if workers.saves(self.model.distribute_strategy):
            self._checkpoint.save(self.step)

    def _check_workers(self) -> None:
        """Raises CheckpointError on all workers if they go on from different steps."""
        strategy = self.model.distribute_strategy
        if not workers.are_several(strategy):
            return
        steps = workers.values_of_all(strategy, self.step)
        if len(set(steps)) > 1:
            raise CheckpointError(
                "all workers must read the checkpoints of the first one, in a directory that all "
                f"of them have. Received: {str(self._store.directory)!r}, with the last steps "
                f"{', '.join(map(str, steps))} (0: none) on the workers, in their order."
            )


def _parts_of(model: Any) -> dict[str, dict[str, Any]]:
    """What is saved of each part; one that is frozen may have no optimizer.

    Raises:
        CheckpointError: A part, or an optimizer, is not there.
    """
    models = {name: getattr(model, f"{name}_part", None) for name in ("first", "second")}
    optimizers = {name: getattr(model, f"{name}_optimizer", None) for name in models}
    missing = [f"{name}_part" for name, part in models.items() if part is None]
    missing += [
        f"{name}_optimizer"
        for name, part in models.items()
        if optimizers[name] is None and getattr(part, "trainable_variables", True)
    ]
    if missing:
        raise CheckpointError(
            "SplitCheckpoint needs a model with first_part and second_part, and with "
            "first_optimizer and second_optimizer unless the part is frozen. "
            f"Received: {type(model).__name__} without {', '.join(missing)}."
        )
    return {
        name: {"model": part}
        if optimizers[name] is None
        else {"model": part, "optimizer": optimizers[name]}
        for name, part in models.items()
    }
