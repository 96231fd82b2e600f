"""`python -m benchmarks.peers`: measures, then writes JSON and PNG and prints the table."""

from __future__ import annotations

import argparse
import importlib.util
import os
import pathlib
import sys
import time
from collections.abc import Sequence

from benchmarks.peers.cases import Case, select
from benchmarks.peers.limits import Limits
from benchmarks.peers.process import Failure, in_own_process

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
    return _run(cases, options.seconds if not options.quick else 0, json)


def _run(cases: list[Case], seconds: float, json: pathlib.Path) -> int:
    missing = [name for name in ("jax", "torch") if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(f"No {missing[0]}: `make bench-peers` sets up an environment with it.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    from benchmarks.peers import plot, results, table
    from benchmarks.peers.environment import describe

    facts = describe()  # of the start: the results' file is a change to the repository
    limits = Limits()
    rows: list[results.Row] = []
    failures: list[str] = []
    start = time.monotonic()
    for part, rule in [(case.part, rule) for case in cases for rule in case.rules]:
        try:
            row, limits = in_own_process(part, rule, seconds, limits)
        except Failure as failure:
            failures.append(str(failure))
            print(failures[-1], file=sys.stderr, flush=True)
        else:
            rows.append(row)
            best = row.fastest_other
            print(
                f"[{time.monotonic() - start:5.0f} s] {row.name}: splitop "
                f"{row.median['splitop']:.3g} ms, {best} {row.median[best]:.3g} ms",
                flush=True,
            )
        if rows:  # What there is stays if the run is stopped.
            results.save(json, facts | limits.describe() | {"not_measured": failures}, rows)
    if rows:
        png = json.with_suffix(".png")
        conditions, rows = results.load(json)
        plot.save(conditions, rows, png)
        print(f"\n{table.text(conditions, rows)}\n\nResults: {json}\nPlot: {png}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
