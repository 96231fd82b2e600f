"""`python -m benchmarks.growth`: what a fused step takes as models grow and as training goes on.

Four tables: time a parameter of dense layers, time a row of embedding tables, the memory of the
process over 10,000 steps, and its peak memory on the fused and on the reference path.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

from benchmarks.cases import FUSED, REFERENCE, Case, EmbeddingCase
from benchmarks.interleave import medians
from benchmarks.table import aligned

# 1 to 100 million parameters in two layers.
DENSE = [Case(2, width, 32, rounds=15) for width in (708, 1414, 2828, 5657, 7071)]
ROWS = (31_250, 312_500, 3_125_000)  # 1 to 100 million parameters
OPTIMIZERS = ("SGD", "Adagrad", "Adam")
TABLES = [EmbeddingCase(rows, 32, 26, 1024, 256, name, 15) for name in OPTIMIZERS for rows in ROWS]
LONG = {
    "3 x 256, batch 64, Adam": Case(3, 256, 64, rounds=0),
    "table of 10,000 x 16, Adagrad": EmbeddingCase(10_000, 16, 8, 128, 64, "Adagrad", 0),
}
LONG_STEPS = (1_000, 4_000, 10_000)
PEAK = Case(2, 4096, 8, rounds=0)  # Two matrices of 64 MiB.
MIB = 2**20


def dense() -> Iterator[list[str]]:
    """Time a parameter: forward and backward pass, Adam."""
    yield ["dense layers", "parameters", "ms a step", "ns a parameter"]
    taken = _medians({case.name: (_step(case), case.rounds) for case in DENSE})
    for case in DENSE:
        seconds = taken[case.name]
        per = 1e9 * seconds / case.parameters
        yield [case.name, f"{case.parameters:,}", f"{1e3 * seconds:.2f}", f"{per:.3f}"]


def tables() -> Iterator[list[str]]:
    """Time of a step, and of each row that a larger table has more."""
    yield ["table", "ms a step", "ns a further row"]
    for name in dict.fromkeys(case.optimizer for case in TABLES):
        cases = [case for case in TABLES if case.optimizer == name]
        taken = _medians({case.name: (_step(case), case.rounds) for case in cases})
        for number, case in enumerate(cases):
            seconds, further = taken[case.name], ""
            if number:
                before = cases[number - 1]
                more = (seconds - taken[before.name]) / (case.rows - before.rows)
                further = f"{1e9 * more:.2f}"
            yield [case.name, f"{1e3 * seconds:.2f}", further]


def long_runs() -> Iterator[list[str]]:
    """Memory of the process after so many steps."""
    yield ["MiB of the process after steps", *(f"{steps:,}" for steps in LONG_STEPS)]
    for name, case in LONG.items():
        step, made, found = _step(case), 0, []
        for steps in LONG_STEPS:
            for _ in range(steps - made):
                step()
            made = steps
            found.append(f"{_status('VmRSS') / MIB:.1f}")
        yield [name, *found]


def peaks() -> Iterator[list[str]]:
    """The peak memory of a process during its first steps, on each path."""
    yield ["peak of a process with " + PEAK.name, "MiB"]
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # What is freed is given back.
    for path in (REFERENCE, FUSED):
        command = [sys.executable, "-m", "benchmarks.growth", "--peak", path]
        done = subprocess.run(command, stdout=subprocess.PIPE, env=env, text=True, check=True)
        yield [path, f"{json.loads(done.stdout.splitlines()[-1]) / MIB:.0f}"]
    yield ["the gradients", f"{4 * PEAK.parameters / MIB:.0f}"]


def _peak(path: str) -> int:
    """Of the process: TensorFlow keeps the memory of its temporary tensors after a step."""
    step = _build(PEAK, path)
    _reset_peak()
    for _ in range(5):
        step()
    return _status("VmHWM")


def _step(case: Case | EmbeddingCase) -> Callable[[], object]:
    """A fused step that has been made once."""
    step = _build(case, FUSED)
    step()
    return step


def _build(case: Case | EmbeddingCase, path: str) -> Callable[[], object]:
    from benchmarks.embedding_steps import EmbeddingStep
    from benchmarks.steps import build_steps

    dense = isinstance(case, Case)
    return build_steps(case, [path])[path].run if dense else EmbeddingStep(case, path)


def _medians(steps: dict[str, tuple[Callable[[], object], int]]) -> dict[str, float]:
    rounds = max(count for _, count in steps.values())
    return medians({name: step for name, (step, _) in steps.items()}, rounds)


def _status(name: str) -> int:
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(name))


def _reset_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--peak", choices=[REFERENCE, FUSED], help="of the processes it starts")
    path = parser.parse_args().peak
    if path:
        print(_peak(path))
        return
    for rows in (dense, tables, long_runs, peaks):
        print("\n".join([*aligned(list(rows())), ""]), flush=True)


if __name__ == "__main__":
    main()
