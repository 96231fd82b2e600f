"""Measured steps beside what is predicted, as a table."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.scaling.measure import Measured

HEADER = (
    *("second parts", "staleness", "IV, bytes", "one way", "Mbit/s"),
    *("predicted, ms", "measured, ms", "ratio"),
)


def rows(measured: Iterable[Measured]) -> list[list[str]]:
    """A row for each step, under a header; each is printed as soon as it is there."""
    result = [list(HEADER)]
    for each in measured:
        step = each.step
        result.append(
            [
                str(step.second_parts),
                str(step.staleness),
                f"{step.iv:.0f}",
                f"{1e3 * step.latency:g} ms",
                f"{8e-6 * step.bandwidth:.0f}",
                f"{1e3 * each.predicted:.1f}",
                f"{1e3 * each.received:.1f}",
                f"{each.received / each.predicted:.2f}",
            ]
        )
        print(result[-1], flush=True)
    return result
