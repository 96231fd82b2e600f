"""`python -m benchmarks.weight_update`: dL/dW and update of a layer, beside the machine's limit.

The kernels alone, on NumPy arrays: G from the seed, dL/dW, and weights, slots and bias updated; no
forward pass and no dL/dx. The limit is the larger one of two times: that of the product at the rate
of a product of large matrices (NumPy's), and that of reading and writing weights and slots once at
the rate of memory. Both rates are measured between the cases, and the best of each is taken.
"""

from __future__ import annotations

import concurrent.futures
import os
import time
from collections.abc import Callable

import numpy as np

from benchmarks.interleave import interleave
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
SIDE = 2048  # of the large matrices
MOVED = 1 << 26  # numbers, which fit no cache

THREADS = len(os.sched_getaffinity(0))


class Limits:
    """The best rates that were seen so far."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.flops_per_s = self.bytes_per_s = 0.0
        self._a, self._b, self._product = random.random((3, SIDE, SIDE), np.float32)
        self._numbers, self._others = np.ones((2, MOVED), np.float32)
        self._pool = concurrent.futures.ThreadPoolExecutor(THREADS)

    def measure(self) -> None:
        """Measures again."""
        taken = _seconds(lambda: np.matmul(self._a, self._b, out=self._product))
        self.flops_per_s = max(self.flops_per_s, 2 * SIDE**3 / taken)
        for move in (self._update, self._copy):
            taken = _seconds(lambda move=move: self._on_all_threads(move))
            self.bytes_per_s = max(self.bytes_per_s, 2 * 4 * MOVED / taken)

    def seconds(self, units: int, batch: int, slots: int) -> tuple[float, str]:
        """The least time, and what binds."""
        product = 2 * batch * units**2 / self.flops_per_s
        memory = _bytes(units, slots) / self.bytes_per_s
        return max((product, "product"), (memory, "memory"))

    def _on_all_threads(self, move: Callable[[slice], object]) -> None:
        ends = [MOVED * part // THREADS for part in range(THREADS + 1)]
        list(self._pool.map(move, map(slice, ends, ends[1:])))

    def _update(self, part: slice) -> None:
        np.negative(self._numbers[part], out=self._numbers[part])

    def _copy(self, part: slice) -> None:
        np.copyto(self._others[part], self._numbers[part])


def _bytes(units: int, slots: int) -> int:
    """Of a kernel and its slots, read and written."""
    return 2 * (1 + slots) * 4 * units**2


def _seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


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
    limits = Limits()
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
        slots = RULES[name][2]
        least, binds = limits.seconds(units, batch, slots)
        rows.append(
            [
                f"{units} x {units}, {batch}",
                name,
                f"{1e3 * seconds:.2f}",
                f"{2 * batch * units**2 / seconds / 1e9:.0f}",
                f"{_bytes(units, slots) / seconds / 1e9:.1f}",
                f"{1e3 * least:.2f}",
                binds,
                f"{least / seconds:.0%}",
            ]
        )
    rates = f"{limits.flops_per_s / 1e9:.0f} GFLOP/s, {limits.bytes_per_s / 1e9:.1f} GB/s"
    print(f"{THREADS} threads, {_kernels.isa_in_use()}, at most {rates}\n")
    print("\n".join(aligned(rows)))


if __name__ == "__main__":
    main()
