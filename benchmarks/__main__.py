"""`python -m benchmarks`: measures, then writes JSON and PNG and prints the tables."""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence

import pytest

from benchmarks.cases import select

FOLDER = pathlib.Path(__file__).parent


def main(argv: Sequence[str] | None = None) -> int:
    options = _parse(argv)
    name = "quick" if options.quick else "cpu"
    json = options.json or FOLDER / "results" / f"{name}.json"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    status = pytest.main(_pytest_arguments(options, json))
    if status != pytest.ExitCode.OK:
        return int(status)

    from benchmarks import plot, results, table

    output = results.load(json)
    png = json.with_suffix(".png")
    plot.save(output, png)
    print(f"{table.text(output)}\n\nResults: {json}\nPlot: {png}")
    return 0


def _pytest_arguments(options: argparse.Namespace, json: pathlib.Path) -> list[str]:
    arguments = [
        str(FOLDER),
        f"--rootdir={FOLDER.parent}",
        f"--benchmark-json={json}",
        "--benchmark-quiet",
        "-v",
    ]
    if options.quick:
        arguments.append("--quick")
    return arguments + [f"--case={case}" for case in options.case or []]


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny cases: proves that it works")
    parser.add_argument("--case", action="append", help="only this case, such as '3x256 b64'")
    parser.add_argument(
        "--json", type=pathlib.Path, help="default: benchmarks/results/cpu.json (quick.json)"
    )
    options = parser.parse_args(argv)
    try:
        select(options.quick, options.case)
    except ValueError as error:
        parser.error(str(error))
    return options


if __name__ == "__main__":
    sys.exit(main())
