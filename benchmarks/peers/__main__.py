"""`python -m benchmarks.peers`: measures, then writes JSON and PNG and prints the table."""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import time
from collections.abc import Sequence

from benchmarks.peers.cases import select

RESULTS = pathlib.Path(__file__).parents[1] / "results"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny cases: proves that it works")
    parser.add_argument("--case", action="append", help="only parts with this in their name")
    parser.add_argument("--rule", action="append", help="only this update rule, such as adam")
    parser.add_argument("--seconds", type=float, default=10, help="of timing, a part and rule")
    parser.add_argument(
        "--json",
        type=pathlib.Path,
        help="default: benchmarks/results/peers.json, or peers-quick",
    )
    options = parser.parse_args(argv)
    try:
        cases = select(options.quick, options.case, options.rule)
    except ValueError as error:
        parser.error(str(error))
    json = options.json or RESULTS / ("peers-quick.json" if options.quick else "peers.json")
    _run(cases, options.seconds if not options.quick else 0, json)
    return 0


def _run(cases: list, seconds: float, json: pathlib.Path) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # torch's optimizers import triton where it is installed, which crashes beside TensorFlow.
    sys.modules["triton"] = None  # type: ignore[assignment]
    try:
        import jax  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise SystemExit(f"{error}: `make bench-peers` sets up an environment with it.") from error

    from benchmarks.peers import plot, results, table
    from benchmarks.peers.environment import describe
    from benchmarks.peers.limits import Limits
    from benchmarks.peers.run import measure

    limits = Limits()
    rows = []
    start = time.monotonic()
    for row in measure(cases, seconds, limits):
        rows.append(row)
        best = row.fastest_other
        print(
            f"[{time.monotonic() - start:5.0f} s] {row.name}: splitop {row.median['splitop']:.3g} "
            f"ms, {best} {row.median[best]:.3g} ms",
            flush=True,
        )
        # What there is stays if a later part fails.
        results.save(json, describe(limits), rows)
    png = json.with_suffix(".png")
    conditions, rows = results.load(json)
    plot.save(conditions, rows, png)
    print(f"\n{table.text(conditions, rows)}\n\nResults: {json}\nPlot: {png}")


if __name__ == "__main__":
    sys.exit(main())
