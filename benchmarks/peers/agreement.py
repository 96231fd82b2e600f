"""Whether the peers do the same step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.peers.peer import Peer

STEPS = 3
# Of the way that a variable moves in a step. Frameworks add up in different orders, which switches
# one relu in some ten thousand, a hundredth of the gradient's norm; deep parts add these up.
ALLOWED = 5e-2


class Disagreement(AssertionError):
    """A peer does another step than splitop."""


def check(peers: Mapping[str, Peer], expected: str) -> None:
    """Runs a few steps, each from the same weights everywhere, with each peer's own state.

    Raises:
        Disagreement: A variable moves otherwise than that of the peer `expected`, or not at all.
    """
    for number in range(STEPS):
        before = peers[expected].weights()
        peers[expected].step(number)
        after = peers[expected].weights()
        for name in peers.keys() - {expected}:
            peers[name].set_weights(before)
            peers[name].step(number)
            _compare(name, before, after, peers[name].weights())


def _compare(
    name: str, before: list[np.ndarray], expected: list[np.ndarray], got: list[np.ndarray]
) -> None:
    for index, (start, wanted, value) in enumerate(zip(before, expected, got, strict=True)):
        moved = np.linalg.norm(wanted - start)
        difference = np.linalg.norm(value - wanted)
        if not (moved > 0 and difference <= ALLOWED * moved):
            raise Disagreement(
                f"{name}: variable {index} of shape {wanted.shape} is off by {difference:.3g} of "
                f"{moved:.3g}, the way that it moved."
            )
