"""`python -m benchmarks.gpu`: measures on a GPU, then prints tables, writes JSON and a plot."""

from __future__ import annotations

import argparse
import math
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.gpu import table
from benchmarks.gpu.cases import PARTS, SELECTIONS, TENSORFLOW, select
from benchmarks.gpu.results import Document, Part, file_name

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
EMULATED_RESULTS = ROOT / "build" / "emulated-benchmark.json"
# Seconds after which a part begins no other case.
BUDGETS = {"quick": 120.0, "full": 480.0, "grid": math.inf, "tiny": math.inf}
NOT_HERE = 3  # the exit status of a part that can't be measured on this machine


def main(argv: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else list(argv)
    options = _parse(arguments)
    if options.part is None:
        return _run_parts(arguments)
    start = time.monotonic()
    try:
        device, comparison, absent = _open(options)
    except (RuntimeError, ImportError) as error:
        print(f"The {options.part} part can't be measured: {error}", file=sys.stderr)
        return NOT_HERE
    path = options.json or _default_path(options, device.name)
    part = _measure(options, device, comparison, absent, path, start)
    _show(path)
    return 1 if part.failures else 0


def _run_parts(arguments: list[str]) -> int:
    """Each part in a process of its own: each wants the GPU's memory, and any may crash."""
    command = [sys.executable, "-m", "benchmarks.gpu"]
    statuses = [subprocess.run([*command, "--part", part, *arguments]).returncode for part in PARTS]
    here = [status for status in statuses if status != NOT_HERE]
    return max(map(abs, here)) if here else NOT_HERE


def _open(options: argparse.Namespace) -> tuple[Any, Callable[..., Any], dict[str, str]]:
    """The device, what compares on it, and what is absent.

    Raises:
        RuntimeError: The part can't be measured here.
        ImportError: Likewise.
    """
    if not (options.emulated and options.part == TENSORFLOW):  # whose CPU stands in for the GPU
        require_kernels(options.emulated)
    if options.part == TENSORFLOW:
        from benchmarks.gpu.tensorflow_device import TensorFlowDevice
        from benchmarks.gpu.tensorflow_part import TensorFlowComparison

        return TensorFlowDevice(options.emulated), TensorFlowComparison, {}
    from benchmarks.gpu.device import open_device
    from benchmarks.gpu.kernels_part import KernelsComparison, absent

    return open_device(options.emulated), KernelsComparison, absent()


def require_kernels(emulated: bool) -> None:
    """Raises RuntimeError, with the reason, where the CUDA kernels can't be used."""
    from splitop._src import library
    from splitop.lib import _kernels

    if emulated != _kernels.CUDA_EMULATED:
        build = "an emulated build" if _kernels.CUDA_EMULATED else "no emulated build"
        raise RuntimeError(
            "--emulated goes with an emulated build (make emulate), named by SPLITOP_LIBRARY_DIR. "
            f"Received: {build}"
        )
    if emulated:
        stand_in = pathlib.Path(_kernels.__file__).with_name("libcublas_emulated.so")
        os.environ.setdefault("SPLITOP_CUBLAS", str(stand_in))
    problem = library.cuda_reason()
    if problem is not None:
        raise RuntimeError(problem)


def _measure(
    options: argparse.Namespace,
    device: Any,
    comparison: Callable[..., Any],
    absent: dict[str, str],
    path: pathlib.Path,
    start: float,
) -> Part:
    from benchmarks.gpu import environment
    from benchmarks.gpu.limits import measure
    from benchmarks.gpu.run import run_cases

    limits = measure(device)
    print(f"{device.name}: {limits}", flush=True)
    part = Part(options.selection, environment.describe(options.emulated), limits, absent)
    document = Document.load_for(path, device.name)
    document.parts[options.part] = part
    budget = BUDGETS[options.selection] if options.budget is None else options.budget
    cases = select(options.part, options.selection, options.only)
    document.save(path)
    compare = comparison(device, limits, absent)
    run_cases(device, cases, compare, start + budget, part, lambda: document.save(path))
    return part


def _show(path: pathlib.Path) -> None:
    document = Document.load(path)
    print(f"\n{table.text(document)}\n\nResults: {path}")
    try:
        from benchmarks.gpu import plot
    except ImportError as error:
        print(f"No plot: {error}. Later: python -m benchmarks.gpu.plot {path}")
        return
    plot.save(document, path.with_suffix(".png"))
    print(f"Plot: {path.with_suffix('.png')}")


def _default_path(options: argparse.Namespace, device: str) -> pathlib.Path:
    return EMULATED_RESULTS if options.emulated else RESULTS / file_name(device)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--part", choices=PARTS, help="default: both, in turn")
    parser.add_argument(
        "--selection",
        choices=SELECTIONS,
        help="quick: within 5 minutes; full (default): 9 minutes a part; grid: every combination, "
        "hours; tiny: proves that it works",
    )
    parser.add_argument("--quick", dest="selection", action="store_const", const="quick")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with TEXT in their name")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="of a part")
    parser.add_argument(
        "--json", type=pathlib.Path, help="default: benchmarks/results/<device>.json"
    )
    parser.add_argument(
        "--emulated", action="store_true", help="a dry run without a GPU, on an emulated build"
    )
    options = parser.parse_args(arguments)
    options.selection = options.selection or ("tiny" if options.emulated else "full")
    try:
        for part in [options.part] if options.part else PARTS:
            select(part, options.selection, options.only)
    except ValueError as error:
        parser.error(str(error))
    return options


if __name__ == "__main__":
    sys.exit(main())
