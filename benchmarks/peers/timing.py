"""Times the peers in turn, in blocks of steps, so that a busy machine slows all of them alike."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from benchmarks.interleave import in_turn, without_garbage_collection
from benchmarks.peers.cases import BATCHES
from benchmarks.peers.peer import Peer

BLOCK_SECONDS = 0.03
# The budget bounds a case with slow peers, but no peer has fewer rounds than this.
FEWEST_ROUNDS = 5
MOST_ROUNDS = 30


def times(peers: Mapping[str, Peer], seconds: float) -> dict[str, list[float]]:
    """The seconds of single steps.

    A block starts with a step that isn't timed: it finds the other peers' data in the caches, and
    their threads awake. Each round starts with another peer.

    Args:
        peers: Warmed up.
        seconds: About how long to measure, all peers together.
    """
    lengths = {name: _block_length(peer) for name, peer in peers.items()}
    measured: dict[str, list[float]] = {name: [] for name in peers}
    with without_garbage_collection():
        end = time.perf_counter() + seconds
        for number in range(MOST_ROUNDS):
            if number >= FEWEST_ROUNDS and time.perf_counter() > end:
                break
            for name in in_turn(peers, number):
                measured[name] += _block(peers[name], lengths[name])
    return measured


def _block_length(peer: Peer) -> int:
    fastest = min(_block(peer, 3))
    return max(1, min(100, math.ceil(BLOCK_SECONDS / fastest)))


def _block(peer: Peer, length: int) -> list[float]:
    seconds = []
    for number in range(length + 1):
        start = time.perf_counter()
        peer.step(number % BATCHES)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]
