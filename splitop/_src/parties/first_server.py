"""The first part in its process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from splitop._src.parties.compression import Compressor
from splitop._src.parties.keys import as_keys, digest
from splitop._src.parties.messages import Message, Reply, Size, failed
from splitop._src.parties.parts import FirstPart
from splitop._src.parties.server import (
    Server,
    check_message,
    plain_structure,
    replies,
    send,
    step_options,
    unused_optimizer,
    unused_part,
)
from splitop._src.split_step import SplitStep


class FirstServer(Server):
    """Trains the first part, and gives the seeds of the second parts."""

    kind = FirstPart

    def _build(self, part: FirstPart) -> None:
        self._step = SplitStep(
            unused_part,
            part.model,
            part.loss,
            first_optimizer=part.optimizer,
            second_optimizer=unused_optimizer(),
            reduce_retracing=False,  # A new process traces other shapes first.
            **step_options(part),
        )

    def _begin(self) -> None:
        compression = self._settings.compression
        self._compress = [Compressor(compression) for _ in self._settings.seconds]

    def _is_between_steps(self) -> bool:
        return True

    def step(
        self, run: str, step: int, keys: Any, *ivs: Message | None
    ) -> tuple[Reply | Message | None, ...]:
        """Trains the part.

        Returns:
            The reply, with the loss and the sizes of the seeds; and for each second part its seed.
        """
        due = step == self._applied + 1
        try:
            loss, seeds = self._once.answer(
                "step", run, step, due, lambda: self._train(step, as_keys(keys), ivs)
            )
        except Exception as error:
            return (failed(error), *[None] * len(ivs))
        sizes: list[Size] = [seed.size for seed in seeds]
        return (Reply({"loss": loss, "sizes": sizes}), *seeds)

    @replies
    def predict(self, run: str, keys: Any, *ivs: Message | None) -> Any:
        """The prediction for any samples, as arrays."""
        self._once.check(run)
        keys = as_keys(keys)
        prediction = self._part.model(
            self._joined(self._applied, digest(keys), ivs), training=False
        )
        arrays = map(np.asarray, tf.nest.flatten(prediction))
        return tf.nest.pack_sequence_as(plain_structure(prediction), list(arrays))

    def _train(
        self, step: int, keys: np.ndarray, ivs: Sequence[Message | None]
    ) -> tuple[float, list[Message]]:
        y = self._rows(keys)
        named = digest(keys)
        joined = self._joined(step, named, ivs)
        loss, seed = self._step.train_first(joined, y)
        self._applied = step
        seeds = [seed] if len(ivs) == 1 else seed
        messages = [
            send(party, step, keys, each, compress, named)
            for party, each, compress in zip(
                self._settings.seconds, seeds, self._compress, strict=True
            )
        ]
        return float(loss), messages

    def _joined(self, step: int, named: str, ivs: Sequence[Message | None]) -> Any:
        """What the first part's model takes, of the keys with this digest."""
        joined = []
        for party, message in zip(self._settings.seconds, ivs, strict=True):
            check_message(message, party, step, named)
            assert message is not None
            tensors = [tf.convert_to_tensor(array) for array in message.received()]
            joined.append(tf.nest.pack_sequence_as(message.structure, tensors))
        return joined[0] if len(joined) == 1 else joined
