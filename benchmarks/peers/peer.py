"""What is compared: one way to do a part's step."""

from __future__ import annotations

import abc

import numpy as np


class Absent(Exception):
    """A peer that can't do the step; the message says why."""


class Peer(abc.ABC):
    """Weights, optimizer state and batches of a part in one framework.

    Weights go in and out as Keras has them: in the order of `trainable_variables`, kernels with
    the inputs first.
    """

    @abc.abstractmethod
    def step(self, batch: int) -> None:
        """Forward, backward from the seed and update with this batch; returns when all is done."""

    @abc.abstractmethod
    def weights(self) -> list[np.ndarray]:
        """Copies."""

    @abc.abstractmethod
    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Has to be called before the first step; the optimizer's state stays as it is."""
