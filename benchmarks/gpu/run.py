"""Measures cases, one after the other, until they or the time are over."""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from benchmarks.gpu import rules, timing
from benchmarks.gpu.agreement import check
from benchmarks.gpu.candidate import Absent, Candidate
from benchmarks.gpu.cases import Case
from benchmarks.gpu.device import Array
from benchmarks.gpu.results import Part, Record, Result

Factory = Callable[[], Candidate]

LONGEST_MESSAGE = 300


class Comparison(Protocol):
    """Compares the candidates of one case."""

    def __call__(self, case: Case) -> Record: ...


class Device(Protocol):
    """The part of a Device that is needed to compare results."""

    def synchronize(self) -> None: ...
    def clone(self, array: Array) -> Array: ...
    def distance(self, a: Array, b: Array) -> float: ...


@dataclasses.dataclass
class Outcome:
    """What becomes of a candidate."""

    candidate: Candidate | None = None
    note: str = ""
    peak_bytes: int | None = None

    def drop(self, error: Exception) -> None:
        self.candidate = None
        self.note = str(error) if isinstance(error, Absent) else _in_words(error)


def run_cases(
    device: Device,
    cases: list[Case],
    compare: Comparison,
    deadline: float,
    part: Part,
    save: Callable[[], None],
) -> None:
    """Measures the cases and saves after each, until the time is over or the device is lost.

    Args:
        device: Where they run.
        cases: In order.
        compare: Measures one.
        deadline: No case is begun after this, by time.monotonic().
        part: Gets the records.
        save: Writes them to disk.
    """
    for number, case in enumerate(cases):
        part.left_out = [left.name for left in cases[number:]]
        if time.monotonic() > deadline or part.device_lost:
            break
        print(f"[{number + 1}/{len(cases)}] {case.name}", flush=True)
        try:
            part.records.append(compare(case))
        except Exception as error:
            part.failures.append(f"{case.name}: {_in_words(error)}")
            part.device_lost = not _is_alive(device)
        part.left_out = part.left_out[1:]
        gc.collect()
        save()


def _is_alive(device: Device) -> bool:
    """After some errors, a CUDA device does nothing for this process any more."""
    try:
        device.synchronize()
    except Exception as error:
        print(f"The device is lost: {_in_words(error)}", flush=True)
        return False
    return True


def _in_words(error: Exception) -> str:
    """On one line, and not too long for a table."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_MESSAGE]


def compare_candidates(
    device: Device,
    case: Case,
    factories: Mapping[str, Factory],
    before: list[Array],
    sets: int,
    rounds: int,
) -> dict[str, Result]:
    """Makes, checks and times the candidates; the first one is what the others are checked by.

    A candidate that fails is left out, with the reason.

    Args:
        device: Where they run.
        case: The case.
        factories: By the candidates' names.
        before: The first set's variables before any step.
        sets: How many sets a pass runs over.
        rounds: At most.

    Returns:
        The results by name.
    """
    outcomes = {name: _make(device, factory) for name, factory in factories.items()}
    _check(device, case, outcomes, before)
    for outcome in outcomes.values():
        with _Dropping(device, outcome):
            if outcome.candidate is not None:
                outcome.candidate.set_rate(rules.TIMED_RATE)
                outcome.peak_bytes = outcome.candidate.peak_bytes()
    times = _time(device, outcomes, sets, rounds)
    return {
        name: Result(times.get(name), outcome.peak_bytes, outcome.note)
        for name, outcome in outcomes.items()
    }


class _Dropping:
    """Drops a candidate that fails in the `with`; a device that is lost fails the case."""

    def __init__(self, device: Device, outcome: Outcome) -> None:
        self._device = device
        self._outcome = outcome

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> bool:
        if not isinstance(error, Exception):
            return False
        self._outcome.drop(error)
        self._device.synchronize()
        return True


def _make(device: Device, factory: Factory) -> Outcome:
    outcome = Outcome()
    with _Dropping(device, outcome):
        outcome.candidate = factory()
    return outcome


def _check(device: Device, case: Case, outcomes: dict[str, Outcome], before: list[Array]) -> None:
    expected: list[Array] | None = None
    for outcome in outcomes.values():
        with _Dropping(device, outcome):
            if outcome.candidate is None:
                continue
            after = _one_step(device, outcome.candidate, before)
            if expected is None:
                expected = [device.clone(array) for array in after]
            check(device, case, before, expected, after)


def _one_step(device: Device, candidate: Candidate, before: list[Array]) -> list[Array]:
    candidate.load(before)
    candidate.set_rate(rules.CHECKED_RATE)
    candidate.run(0)
    device.synchronize()
    return candidate.variables()


def _time(
    device: Device, outcomes: dict[str, Outcome], sets: int, rounds: int
) -> dict[str, timing.Times]:
    samplers = {}
    round_seconds = 0.0
    for name, outcome in outcomes.items():
        with _Dropping(device, outcome):
            if outcome.candidate is not None:
                samplers[name], seconds = _sampler(outcome.candidate, sets)
                round_seconds += seconds
                outcome.note = outcome.candidate.how
    if not samplers:
        return {}
    return timing.measure(samplers, timing.affordable_rounds(round_seconds, rounds))


def _sampler(candidate: Candidate, sets: int) -> tuple[Callable[[], float], float]:
    """What times a block of steps and returns the seconds of one; and the block's seconds."""
    run_sets = candidate.prepare()
    pass_seconds = candidate.seconds(run_sets)
    count = timing.repeats(candidate.block_seconds, pass_seconds)

    def block() -> None:
        for _ in range(count):
            run_sets()

    return lambda: candidate.seconds(block) / (count * sets), count * pass_seconds
