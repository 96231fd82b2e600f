"""`python -m benchmarks.weight_update`: dL/dW and update of a layer, beside the machine's limit.

The kernels alone, on NumPy arrays: G from the seed, dL/dW, and weights, slots and bias updated; no
forward pass and no dL/dx. The limit is the larger one of two times: that of the product at the rate
of a product of large matrices (NumPy's), and that of reading and writing weights and slots once at
the rate of memory. Both rates are measured between the cases, and the best of each is taken.
"""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Callable

import numpy as np

from benchmarks.interleave import interleave
from benchmarks.peers.cases import Phase
from benchmarks.peers.limits import COPIED, SIDE, Limits
from benchmarks.table import aligned
from splitop.lib import _kernels

SIZES = ((1024, 1024), (2048, 256), (4096, 128), (4096, 32))  # units and inputs, batch
# Name: the rule, its hyperparameters and number of slots.
RULES = {
    "SGD": ("sgd", (0.0, 1e-4), 0),
    "momentum": ("momentum", (0.0, 0.9, -1e-4, 1.0, 0.0), 1),
    "Adam": ("adam", (0.0, 1e-4, 0.1, 1e-3, 1e-7), 2),
    "AdamW": ("adam", (1e-6, 1e-4, 0.1, 1e-3, 1e-7), 2),
}
ROUNDS = 30

THREADS = len(os.sched_getaffinity(0))


class KernelLimits(Limits):
    """The rates that NumPy reaches."""

    def __init__(self) -> None:
        super().__init__()
        random = np.random.default_rng(0)
        self._a, self._b, self._product = random.random((3, SIDE, SIDE), np.float32)
        self._numbers, self._others = np.ones((2, COPIED), np.float32)
        self._pool = concurrent.futures.ThreadPoolExecutor(THREADS)

    def measure(self) -> None:
        """Measures again."""
        self.see(
            [lambda: np.matmul(self._a, self._b, out=self._product)],
            [lambda: self._on_all_threads(self._update), lambda: self._on_all_threads(self._copy)],
        )

    def _on_all_threads(self, move: Callable[[slice], object]) -> None:
        ends = [COPIED * part // THREADS for part in range(THREADS + 1)]
        list(self._pool.map(move, map(slice, ends, ends[1:])))

    def _update(self, part: slice) -> None:
        np.negative(self._numbers[part], out=self._numbers[part])

    def _copy(self, part: slice) -> None:
        np.copyto(self._others[part], self._numbers[part])


def _phase(units: int, batch: int, slots: int) -> Phase:
    """The product, and a kernel and its slots, read and written."""
    return Phase(2 * batch * units**2, 2 * (1 + slots) * units**2)


def _step(
    units: int, batch: int, rule: str, hyper: tuple[float, ...], slots: int
) -> Callable[[], object]:
    random = np.random.default_rng(0)
    kernel = random.standard_normal((units, units), np.float32) / np.float32(units**0.5)
    layer = _kernels.Layer(
        random.standard_normal((batch, units), np.float32),
        kernel,
        [np.zeros_like(kernel) for _ in range(slots)],
        bias=np.zeros(units, np.float32),
        bias_slots=[np.zeros(units, np.float32) for _ in range(slots)],
    )
    seed = random.standard_normal((batch, units), np.float32) / np.float32(batch)
    values = np.array(hyper, np.float32)
    return lambda: _kernels.dense_chain(seed, [layer], rule=rule, hyper=values, num_threads=THREADS)


def main() -> None:
    limits = KernelLimits()
    rows = [["units, batch", "rule", "ms", "GFLOP/s", "GB/s", "limit, ms", "binds", "share"]]
    taken = {}
    for units, batch in SIZES:
        limits.measure()
        steps = {name: _step(units, batch, *rule) for name, rule in RULES.items()}
        for step in steps.values():
            step()
        for name, seconds in interleave(steps, ROUNDS).items():
            taken[units, batch, name] = float(np.median(seconds))
    limits.measure()
    for (units, batch, name), seconds in taken.items():
        phase = _phase(units, batch, RULES[name][2])
        product = limits.seconds([Phase(phase.flops, 0)])
        least = limits.seconds([phase])
        rows.append(
            [
                f"{units} x {units}, {batch}",
                name,
                f"{1e3 * seconds:.2f}",
                f"{phase.flops / seconds / 1e9:.0f}",
                f"{4 * phase.numbers / seconds / 1e9:.1f}",
                f"{1e3 * least:.2f}",
                "product" if least == product else "memory",
                f"{least / seconds:.0%}",
            ]
        )
    rates = f"{limits.flops_per_s / 1e9:.0f} GFLOP/s, {limits.bytes_per_s / 1e9:.1f} GB/s"
    print(f"{THREADS} threads, {_kernels.isa_in_use()}, at most {rates}\n")
    print("\n".join(aligned(rows)))


if __name__ == "__main__":
    main()
