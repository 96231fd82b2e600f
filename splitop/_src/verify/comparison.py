"""Compares runs of a step, element by element."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from splitop._src.verify.report import Comparison
from splitop._src.verify.rounding import FEW, is_float, magnitude, ulp

Arrays = list[np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """What a run leaves behind; every list has one array for each name.

    Attributes:
        start: The values at the start.
        joint: In each step, the gradients of the model in one piece.
        split: In each step, those by the seed.
        values: After each step, the variables and the optimizers' state.
        losses: In each step, the loss of the task: one array, whatever the names.
    """

    start: Arrays
    joint: list[Arrays]
    split: list[Arrays]
    values: list[Arrays]
    losses: list[np.ndarray]


def compare(
    compared: str,
    names: Sequence[str],
    received: Sequence[Arrays],
    expected: Sequence[Arrays],
    movements: Sequence[Sequence[float]],
    start: Arrays | None,
    error: float,
) -> list[Comparison]:
    """A row for each name: the step that differs most for its bound.

    Args:
        compared: What is compared.
        names: What the arrays are called.
        received: Arrays in each step.
        expected: What they should be.
        movements: How far rounding moves each array in each step: see `movements`.
        start: Where each array has come from; None: from zero.
        error: The relative error of a sum in this step.
    """
    rows = []
    for index, name in enumerate(names):
        candidates = []
        for step, (got, wanted) in enumerate(zip(received, expected, strict=True)):
            came_from = np.zeros(()) if start is None else start[index]
            bound = _bound(wanted[index], came_from, movements[step][index], error)
            candidates.append(_row(compared, name, step + 1, got[index], wanted[index], bound))
        rows.append(max(candidates, key=_severity))
    return rows


def movements(
    plain: Sequence[Arrays],
    moved_runs: Sequence[tuple[Sequence[Arrays], Arrays | None]],
    start: Arrays | None,
) -> list[list[float]]:
    """How far each array's path from its start moves when the start does, in each step.

    Args:
        plain: Arrays in each step.
        moved_runs: The same, and the start, of runs that rounding has moved.
        start: Where `plain` has come from; None, as in `moved_runs`: from zero.
    """
    result = []
    for step, arrays in enumerate(plain):
        row = []
        for index, value in enumerate(arrays):
            path = _path(value, start, index)
            others = [_path(run[step][index], at, index) for run, at in moved_runs]
            row.append(max((_largest(other - path) for other in others), default=0.0))
        result.append(row)
    return result


def _path(value: np.ndarray, start: Arrays | None, index: int) -> np.ndarray:
    exact = np.asarray(value, np.float64)
    return exact if start is None else exact - np.asarray(start[index], np.float64)


def _largest(difference: np.ndarray) -> float:
    """The largest magnitude; what is not finite does not count, as it says nothing of rounding."""
    return magnitude(difference)


def _bound(wanted: np.ndarray, start: np.ndarray, movement: float, error: float) -> float:
    if not is_float(wanted.dtype):
        return 0.0
    path = np.asarray(wanted, np.float64) - np.asarray(start, np.float64)
    return 2 * movement + 2 * error * magnitude(path) + FEW * ulp(wanted)


def _row(
    compared: str, name: str, step: int, got: np.ndarray, wanted: np.ndarray, bound: float
) -> Comparison:
    with np.errstate(invalid="ignore"):
        difference = np.abs(np.asarray(got, np.float64) - np.asarray(wanted, np.float64))
    same = np.asarray((got == wanted) | ((got != got) & (wanted != wanted)))
    difference = np.where(same, 0.0, np.where(np.isfinite(difference), difference, np.inf))
    where = (
        np.unravel_index(int(np.argmax(difference)), difference.shape) if difference.size else ()
    )
    largest = float(np.max(difference, initial=0))
    scale, unit = magnitude(wanted), ulp(wanted)
    return Comparison(
        compared=compared,
        name=name,
        step=step,
        difference=largest,
        relative=_ratio(largest, scale),
        ulp=_ratio(largest, unit),
        bound=bound,
        where=tuple(int(i) for i in where),
        ok=largest <= bound,
    )


def _ratio(difference: float, unit: float) -> float:
    return 0.0 if not difference else (difference / unit if unit else float("inf"))


def _severity(row: Comparison) -> tuple[bool, float]:
    return (not row.ok, _ratio(row.difference, row.bound))
