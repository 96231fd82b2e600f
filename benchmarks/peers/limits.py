"""What the machine can do at most, measured beside the peers: its products and its memory."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

from benchmarks.peers.cases import Phase

SIDE = 2048
COPIED = 1 << 26
REPEATS = 3


@dataclasses.dataclass
class Limits:
    """The best that was seen so far.

    Attributes:
        flops_per_s: Of a product of two square matrices, by torch or TensorFlow.
        bytes_per_s: Read and written by a copy that fits no cache.
    """

    flops_per_s: float = 0.0
    bytes_per_s: float = 0.0

    def measure(self) -> None:
        """Measures again and keeps what is better."""
        import tensorflow as tf
        import torch

        a = torch.rand(SIDE, SIDE)
        b, out = torch.rand(SIDE, SIDE), torch.empty(SIDE, SIDE)
        a_tf, b_tf = tf.constant(a.numpy()), tf.constant(b.numpy())
        source, target = torch.rand(COPIED), torch.empty(COPIED)
        products = (
            lambda: torch.mm(a, b, out=out),
            lambda: tf.linalg.matmul(a_tf, b_tf)[0, 0].numpy(),
        )
        self.see(products, [lambda: target.copy_(source)])

    def see(
        self, products: Sequence[Callable[[], object]], moves: Sequence[Callable[[], object]]
    ) -> None:
        """Keeps what is better: of products of SIDE, and of moves of COPIED float32 numbers."""
        self.flops_per_s = max(self.flops_per_s, 2 * SIDE**3 / min(map(_seconds, products)))
        moved = 2 * 4 * COPIED
        self.bytes_per_s = max(self.bytes_per_s, moved / min(map(_seconds, moves)))

    def describe(self) -> dict[str, float]:
        """The rates, by the names that they have among a run's conditions."""
        return {"gflop_per_s": self.flops_per_s / 1e9, "gb_per_s": self.bytes_per_s / 1e9}

    def seconds(self, phases: Sequence[Phase]) -> float:
        """The least time for these, one after the other: each bound by arithmetic or by memory.

        Weights that stay in a cache from step to step can be faster.
        """
        return sum(
            max(phase.flops / self.flops_per_s, 4 * phase.numbers / self.bytes_per_s)
            for phase in phases
        )


def _seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
