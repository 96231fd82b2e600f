"""`python -m benchmarks.gpu.table RESULTS.json`: the tables of a run, from its JSON alone."""

from __future__ import annotations

import argparse
import pathlib
from collections import Counter
from collections.abc import Iterable, Sequence

from benchmarks.gpu.cases import STEP, WEIGHTS
from benchmarks.gpu.costs import gradient_bytes
from benchmarks.gpu.results import Document, Part, Record
from benchmarks.gpu.targets import SPLITOP, verdicts

NOTHING = "-"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.table", description=__doc__)
    parser.add_argument("json", type=pathlib.Path)
    print(text(Document.load(parser.parse_args().json)))


def text(document: Document) -> str:
    """The tables of all parts."""
    lines = []
    for name, part in document.parts.items():
        lines += [*_heading(document.device, name, part), ""]
        for kind, title in TITLES.items():
            records = [record for record in part.records if record.case.kind == kind]
            if records:
                lines += [title, *align(_rows(records, judged=not _is_emulated(part))), ""]
        lines += [*_notes(part), ""]
    return "\n".join(lines).rstrip()


TITLES = {
    WEIGHTS: "Weight gradient and update of one layer.",
    STEP: "The second part's step given the seed: forward, backward, updates.",
}
LEGEND = (
    "Microseconds a step: median (quartiles). x/splitop: how many times as long x takes. limit: "
    "splitop's share of the measured copy or product rate, whichever binds. took: the strategy "
    "that the dispatch chose; /expected: its time by that of the dispatch's model. MB: memory "
    "beyond weights, state and inputs. !: a target is missed. *: weights may be in the cache."
)


def _heading(device: str, name: str, part: Part) -> list[str]:
    machine, limits = part.machine, part.limits
    rates = ", ".join(f"{key} {rate / 1e12:.4g}" for key, rate in limits.gemm.items())
    versions = ", ".join(
        f"{key} {machine[key]}" for key in ("torch", "jax", "tensorflow") if machine.get(key)
    )
    emulated = ["EMULATED on a CPU: the times mean nothing."] if _is_emulated(part) else []
    return [
        f"== {name} part ({part.selection}): {device}; {versions}; commit {machine.get('commit')}",
        *emulated,
        f"Measured limits: copy {limits.copy / 1e9:.4g} GB/s; products in TFLOP/s: {rates}.",
        LEGEND,
    ]


def _is_emulated(part: Part) -> bool:
    """Then there is nothing to judge by."""
    return bool(part.machine.get("emulated"))


def _rows(records: Sequence[Record], judged: bool) -> list[list[str]]:
    names = list(dict.fromkeys(name for record in records for name in record.results))
    others = [name for name in names if name != SPLITOP]
    picks = any(record.picked for record in records)
    header = ["case", SPLITOP, *(["took", "took/expected"] if picks else []), "limit"]
    header += [*(f"{name}/{SPLITOP}" for name in others), *(f"MB {name}" for name in names)]
    header += ["MB gradients"]
    return [header, *(_row(record, judged, names, others, picks) for record in records)]


def _row(
    record: Record, judged: bool, names: list[str], others: list[str], picks: bool
) -> list[str]:
    missed = judged and any(not verdict.reached for verdict in verdicts(record))
    warm = record.case.kind == WEIGHTS and not record.cold
    return [
        record.case.name + (" !" if missed else "") + (" *" if warm else ""),
        _times(record),
        *([record.picked or NOTHING, _number(record.surprise(), ".2f")] if picks else []),
        _share(record),
        *(_number(record.ratio(name, SPLITOP), ".2f") for name in others),
        *(_megabytes(record, name) for name in names),
        f"{gradient_bytes(record.case) / 1e6:.1f}",
    ]


def _times(record: Record) -> str:
    result = record.results.get(SPLITOP)
    if result is None or result.times is None:
        return NOTHING
    times = result.times
    return f"{1e6 * times.median:.1f} ({1e6 * times.low:.1f} to {1e6 * times.high:.1f})"


def _share(record: Record) -> str:
    share = record.share_of_floor(SPLITOP)
    return NOTHING if share is None else f"{100 * share:.0f}% {record.floor.binding}"


def _megabytes(record: Record, name: str) -> str:
    result = record.results.get(name)
    if result is None or result.peak_bytes is None:
        return NOTHING
    return f"{result.peak_bytes / 1e6:.1f}"


def _number(value: float | None, form: str) -> str:
    return NOTHING if value is None else format(value, form)


def _notes(part: Part) -> list[str]:
    """What was not measured, what was missed, and how the dispatch did."""
    notes = [f"Absent: {name}: {reason}." for name, reason in part.absent.items()]
    notes += [f"Failed: {failure}" for failure in part.failures]
    if part.left_out:
        why = "the device was lost" if part.device_lost else "the time was over"
        notes.append(f"Not measured, because {why}: {len(part.left_out)} cases.")
    failed = Counter(
        f"{name}: {result.note}"
        for record in part.records
        for name, result in record.results.items()
        if result.times is None
    )
    notes += [f"Not measured in {count} cases: {what}" for what, count in failed.items()]
    if not _is_emulated(part):
        notes += _dispatch(part.records) + _targets(part.records)
    return notes


def _dispatch(records: Iterable[Record]) -> list[str]:
    """Where another strategy than the one taken was faster by more than the noise."""
    found = []
    for record in records:
        taken = record.seconds(record.picked) if record.picked else None
        if taken is None or record.picked is None:
            continue
        times = record.results[record.picked].times
        spread = 0.0 if times is None else times.high - times.low
        for name in ("tiles", "chunks", "accumulate"):
            seconds = record.seconds(name)
            if seconds is not None and seconds < taken - spread:
                found.append(
                    f"Dispatch: {record.case.name}: took {record.picked}, {name} needs "
                    f"{100 * seconds / taken:.0f}% of its time."
                )
    return found


def _targets(records: Iterable[Record]) -> list[str]:
    of_all = [(record, verdict) for record in records for verdict in verdicts(record)]
    missed = [(record, verdict) for record, verdict in of_all if not verdict.reached]
    lines = [f"Targets: {len(of_all) - len(missed)} of {len(of_all)} reached."] if of_all else []
    return lines + [
        f"Missed: {record.case.name}: {verdict.what} {verdict.value:.2f}, to reach "
        f"{verdict.target:.2f}."
        for record, verdict in missed
    ]


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of text: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


if __name__ == "__main__":
    main()
