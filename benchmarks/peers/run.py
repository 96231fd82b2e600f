"""Builds the peers of a part and rule, checks that they agree, and times them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.interleave import WARM_SECONDS, warm_up
from benchmarks.peers import agreement, timing
from benchmarks.peers.cases import BATCHES, Part
from benchmarks.peers.jax_peer import Jax
from benchmarks.peers.limits import Limits
from benchmarks.peers.peer import Absent, Peer
from benchmarks.peers.results import (
    JAX,
    KERAS,
    KERAS_JIT,
    REFERENCE,
    SPLITOP,
    SPLITOP_JIT,
    TORCH,
    TORCH_IN_BACKWARD,
    Row,
)
from benchmarks.peers.tensorflow_peers import Keras, Reference, Splitop
from benchmarks.peers.torch_peers import Torch, TorchInBackward

MAKERS: dict[str, Callable[[Part, str], Peer]] = {
    SPLITOP: Splitop,
    SPLITOP_JIT: partial(Splitop, jit_compile=True),
    REFERENCE: Reference,
    KERAS: Keras,
    KERAS_JIT: partial(Keras, jit_compile=True),
    TORCH: Torch,
    TORCH_IN_BACKWARD: TorchInBackward,
    JAX: Jax,
}


def measure(part: Part, rule: str, seconds: float, limits: Limits) -> Row:
    """A row; `limits` are measured again before."""
    limits.measure()
    peers, absent = _build(part, rule)
    agreement.check(peers, SPLITOP)
    in_turn = [map(peer.step, itertools.cycle(range(BATCHES))) for peer in peers.values()]
    warm_up([steps.__next__ for steps in in_turn], min(seconds, WARM_SECONDS))
    times = {peer: 1e3 * np.array(values) for peer, values in timing.times(peers, seconds).items()}
    return Row(
        part=part.name,
        rule=rule,
        median={peer: float(np.median(values)) for peer, values in times.items()},
        quartiles={
            peer: (float(np.quantile(values, 0.25)), float(np.quantile(values, 0.75)))
            for peer, values in times.items()
        },
        absent=absent,
        limit=1e3 * limits.seconds(part.phases(rule)),
    )


def _build(part: Part, rule: str) -> tuple[dict[str, Peer], dict[str, str]]:
    """All peers that can do the step, with the same weights and warm, and why others can't."""
    peers: dict[str, Peer] = {}
    absent: dict[str, str] = {}
    for name, make in MAKERS.items():
        try:
            peers[name] = make(part, rule)
        except Absent as reason:
            absent[name] = str(reason)
    # A bias of zero would leave its rounding errors unseen.
    start = [w + np.float32(0.01) if w.ndim == 1 else w for w in peers[SPLITOP].weights()]
    for peer in peers.values():
        for batch in range(BATCHES):
            # From the same weights, so that the optimizers' states are alike, too.
            peer.set_weights(start)
            peer.step(batch)
    return peers, absent
