"""A second part in its process."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from splitop._src.errors import AlignmentError
from splitop._src.names import describe
from splitop._src.part_checks import RECOMPUTE, STASH
from splitop._src.parties.compression import Compressor
from splitop._src.parties.keys import as_keys, digest
from splitop._src.parties.messages import Message, Reply, failed
from splitop._src.parties.parts import SecondPart
from splitop._src.parties.server import (
    Server,
    check_message,
    replies,
    send,
    step_options,
    unused_optimizer,
    unused_part,
)
from splitop._src.split_step import SplitStep


class SecondServer(Server):
    """Runs the forward passes of a second part, and its steps from seeds.

    With staleness s the forward passes of s more steps run before a step's update. Each of them has
    a SplitStep of its own, as one keeps one forward pass; and as the weights move before their
    update comes, it is computed again then.
    """

    kind = SecondPart
    _forwarded = 0  # The last step whose forward pass has run.

    def _build(self, part: SecondPart) -> None:
        forward = RECOMPUTE if self._settings.staleness else STASH
        self._steps = [
            SplitStep(
                part.model,
                unused_part,
                unused_part,
                first_optimizer=unused_optimizer(),
                second_optimizer=part.optimizer,
                forward=forward,
                reduce_retracing=False,  # A new process traces other shapes first.
                **step_options(part),
            )
            for _ in range(self._settings.staleness + 1)
        ]

    def _begin(self) -> None:
        for step in self._steps:
            step.forget()
        self._forwarded = self._applied
        self._batches: dict[int, tuple[str, Any]] = {}
        self._compress = Compressor(self._settings.compression)

    def _is_between_steps(self) -> bool:
        return self._forwarded == self._applied

    def forward(self, run: str, step: int, keys: Any) -> tuple[Reply, Message | None]:
        """Runs the forward pass of a step.

        Returns:
            The reply, with the size of IV; and IV.
        """
        turn = step == self._forwarded + 1
        due = turn and step <= self._applied + 1 + self._settings.staleness
        try:
            message = self._once.answer(
                "forward", run, step, due, lambda: self._forward(step, as_keys(keys))
            )
        except Exception as error:
            return failed(error), None
        return Reply(message.size), message

    @replies
    def update(self, run: str, step: int, seed: Message | None) -> None:
        """Trains the part from dL/dIV of a step."""
        due = step == self._applied + 1 and step <= self._forwarded
        self._once.answer("update", run, step, due, lambda: self._update(step, seed))

    def encode(self, run: str, keys: Any) -> tuple[Reply, Message | None]:
        """IV of any samples, without training."""
        try:
            self._once.check(run)
            keys = as_keys(keys)
            iv = self._part.model(self._inputs(keys), training=False)
            message = self._message(self._applied, keys, iv, Compressor(None))
        except Exception as error:
            return failed(error), None
        return Reply(), message

    def _forward(self, step: int, keys: np.ndarray) -> Message:
        iv = self._of(step).forward_second(self._inputs(keys))
        message = self._message(step, keys, iv, self._compress)
        self._batches[step] = message.keys, iv
        self._forwarded = step
        return message

    def _update(self, step: int, seed: Message | None) -> None:
        keys, iv = self._batches[step]
        check_message(seed, self._party.name, step, keys)
        assert seed is not None
        seeds = [tf.convert_to_tensor(array) for array in seed.received()]
        self._of(step).train_second(tf.nest.pack_sequence_as(iv, seeds))
        del self._batches[step]
        self._applied = step

    def _of(self, step: int) -> SplitStep:
        return self._steps[step % len(self._steps)]

    def _inputs(self, keys: np.ndarray) -> Any:
        return tf.nest.map_structure(tf.convert_to_tensor, self._rows(keys))

    def _message(self, step: int, keys: np.ndarray, iv: Any, compress: Compressor) -> Message:
        for tensor in tf.nest.flatten(iv):
            if tensor.shape[:1] != [len(keys)]:
                raise AlignmentError(
                    f'iv of the party "{self._party.name}" must have a row for each of the '
                    f"{len(keys)} keys of the batch. Received: {describe(tensor)}."
                )
        return send(self._party.name, step, keys, iv, compress, digest(keys))
