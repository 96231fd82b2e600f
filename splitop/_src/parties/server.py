"""A part in its process: what the first part and the second parts have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from splitop._src.checkpoint.checkpoint import Checkpoint
from splitop._src.errors import AlignmentError, SplitError
from splitop._src.names import describe
from splitop._src.parties.compression import Compressor
from splitop._src.parties.messages import Message, Reply, Settings, failed, place
from splitop._src.parties.once import Once, RestartedError
from splitop._src.parties.parts import check_part
from splitop._src.parties.party import Party


def replies(method: Callable[..., Any]) -> Callable[..., Reply]:
    """Has a method answer with a Reply, also if it fails."""

    @functools.wraps(method)
    def wrapped(self: Any, *args: Any) -> Reply:
        try:
            return Reply(method(self, *args))
        except Exception as error:
            return failed(error)

    return wrapped


class Server:
    """Builds a part from its owner's code, saves it and sets it back."""

    kind: type[Any]  # of the user's part

    def __init__(self, party: Party, settings: Settings):
        """Builds nothing yet.

        Args:
            party: The party that this is.
            settings: Those of the training.
        """
        self._party, self._settings = party, settings
        self._once = Once(settings.staleness + 1)
        self._part: Any = None
        self._checkpoint: Any = None
        self._applied = 0
        self._is_new = True  # The part is as it was built.

    @replies
    def place(self) -> dict[str, Any]:
        """Which process this is; nothing is built for that."""
        return place()

    @replies
    def start(self) -> dict[str, Any]:
        """Builds the part, if this process has not yet.

        Returns:
            The steps from which it can go on, in order, none for a new part; and who has claimed
            its folder.
        """
        self._once.end()
        if self._part is None:
            part = self._party.build()
            check_part(part, self.kind, self._party.name, self._party.function)
            saved = {self._party.name: {"model": part.model, "optimizer": part.optimizer}}
            checkpoint = Checkpoint(self._party.directory, keep=self._settings.keep, **saved)
            self._build(part)
            self._part, self._checkpoint = part, checkpoint
        owner = self._checkpoint.owner  # Before the steps: who claims it later is noticed then.
        steps = going_on(self._checkpoint.steps)
        return {"steps": steps, "owner": owner}

    @replies
    def restore(self, run: str, step: int, owners: Mapping[str, str | None]) -> None:
        """Goes back to a step, and begins a run; a new part is saved as step 0.

        Args:
            run: The run.
            step: The step.
            owners: Who had claimed the folder of each part when it was started. A call that comes
                after another run has begun there is refused, before anything has changed.
        """
        if self._once.is_in(run):
            return
        self._checkpoint.claim(run, owners[self._party.name])
        self._once.end()
        if not (step == 0 and self._is_new and self._checkpoint.latest is None):
            self._checkpoint.restore(step)
            self._is_new = False
        if self._checkpoint.latest != step:
            # Saves after it are of steps that are made again: see `going_on`.
            self._checkpoint.save(step)
        self._is_new = False
        self._applied = step
        self._begin()
        self._once.begin(run)

    @replies
    def save(self, run: str, step: int) -> None:
        """Saves the part after a step."""
        due = step == self._applied and self._is_between_steps()
        self._once.answer("save", run, step, due, lambda: self._checkpoint.save(step))

    def _build(self, part: Any) -> None:
        """Prepares the steps of a part."""
        raise NotImplementedError

    def _begin(self) -> None:
        """Forgets all that belongs to steps after the last save."""
        raise NotImplementedError

    def _is_between_steps(self) -> bool:
        raise NotImplementedError

    def _rows(self, keys: np.ndarray) -> Any:
        """The part's own data of a batch."""
        rows = self._part.data(keys)
        for array in tf.nest.flatten(rows):
            if not np.shape(array)[:1] == (len(keys),):
                raise AlignmentError(
                    f'the data of the party "{self._party.name}" must have a row for each of the '
                    f"{len(keys)} keys of the batch. Received: {describe(array)}."
                )
        return rows


def step_options(part: Any) -> dict[str, Any]:
    """What a part gives to SplitStep as it is."""
    names = ("backend", "check_numerics", "sparse", "skip_nonfinite")
    return {name: getattr(part, name) for name in names if hasattr(part, name)}


def unused_optimizer() -> Any:
    """For the half of a SplitStep that is in another process."""
    return keras.optimizers.SGD()


def unused_part(*_: Any) -> Any:
    """The half of a SplitStep that is in another process."""
    raise SplitError("this part is in another process. Received: a call here.")


def going_on(steps: Sequence[int]) -> list[int]:
    """The steps of saves that are part of the same training, in order.

    Args:
        steps: Of all saves, in the order of saving. If training has gone back, the step that it
            went back to was saved again. What was saved before, of later steps, is no part of what
            came after.
    """
    result: list[int] = []
    for step in steps:
        while result and result[-1] >= step:
            result.pop()
        result.append(step)
    return result


def check_message(message: Message | None, party: str, step: int, keys: str) -> None:
    """Checks that a message is what a step needs.

    Raises:
        RestartedError: There is none: its sender has failed.
        AlignmentError: It is of another step, or of other samples.
    """
    if message is None:
        raise RestartedError(f"nothing has come from or for {party}")
    received = (message.party, message.step, message.keys)
    if received != (party, step, keys):
        raise AlignmentError(
            f'what is exchanged with the party "{party}" must be of step {step} and of the keys '
            f"{keys[:8]} (a digest). Received: party {message.party!r}, step {message.step}, keys "
            f"{message.keys[:8]}."
        )


def send(
    party: str, step: int, keys: np.ndarray, tensors: Any, compress: Compressor, digest: str
) -> Message:
    """A message with the values of tensors.

    Args:
        party: The second part's party.
        step: The step.
        keys: Of the samples.
        tensors: A nested structure.
        compress: The compressor of these tensors.
        digest: Of the keys.
    """
    structure = plain_structure(tensors)
    arrays = [np.asarray(tensor) for tensor in tf.nest.flatten(tensors)]
    return Message(party, step, digest, compress(arrays, keys), structure)


def plain_structure(value: Any) -> Any:
    """A nested structure in Python's own types, with 0 in the place of what is in it.

    Raises:
        SplitError: It is made of other classes than of lists, tuples and dictionaries with str or
            int keys: an object of another class would bring its code along.
    """
    if isinstance(value, dict):
        for key in value:
            if type(key) not in (str, int):
                raise SplitError(
                    "what a part's model gives in dictionaries must have str or int keys. "
                    f"Received: {describe(key)} of {type(key).__name__}."
                )
        return {key: plain_structure(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = map(plain_structure, value)
        return list(items) if isinstance(value, list) else tuple(items)
    if tf.nest.is_nested(value):
        raise SplitError(
            "what a part's model gives must be a tensor, or lists, tuples and dictionaries of "
            f"tensors. Received: {describe(value)}."
        )
    return 0
