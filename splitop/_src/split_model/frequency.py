"""How often each part trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from splitop._src.whole import check_whole


class Frequency(tf.Module):
    """Says which parts train in a batch.

    In a cycle of N = max(first_steps, second_steps) batches each part takes as many steps as it
    has, as evenly as they go: a part with s of them trains in batch n of the cycle (from 0) if
    floor((n + 1) s / N) > floor(n s / N). So one of the parts trains in every batch.

    Attributes:
        batches: How many batches there have been; None if both parts train in all of them.
    """

    def __init__(self, first_steps: int, second_steps: int) -> None:
        """Starts a cycle.

        Raises:
            SplitError: Not whole numbers from 1.
        """
        super().__init__()
        help = "; a part that is not to train is frozen by `part.trainable = False`"
        first_steps = check_whole("first_steps", first_steps, otherwise=help)
        second_steps = check_whole("second_steps", second_steps, otherwise=help)
        self._slower = min(first_steps, second_steps)
        self._cycle = max(first_steps, second_steps)
        self._first_is_slower = first_steps < second_steps
        self.batches: tf.Variable | None = None
        if self._slower < self._cycle:
            with tf.init_scope():
                self.batches = tf.Variable(0, dtype=tf.int64, trainable=False, name="batches")

    def run(self, train: Callable[[bool, bool], Any]) -> Any:
        """Adds a batch to the graph.

        Args:
            train: Builds the batch. Takes whether the first part trains, and whether the second
                does; it is called once for each case that there is, in a graph of its own.

        Returns:
            What `train` returns, of the case that runs.
        """
        if self.batches is None:
            return train(True, True)
        batch = self.batches.read_value() % self._cycle
        done = batch * self._slower // self._cycle
        due = (batch + 1) * self._slower // self._cycle > done
        self.batches.assign_add(1)
        return tf.cond(
            due,
            lambda: train(True, True),
            lambda: train(not self._first_is_slower, self._first_is_slower),
        )
