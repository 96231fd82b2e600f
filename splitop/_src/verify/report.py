"""What `splitop.verify` returns."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

from splitop._src.errors import VerifyError
from splitop._src.table import table

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)

SPLIT_AND_JOINT = "split against joint"
FUSED_AND_REFERENCE = "fused against reference"


@dataclasses.dataclass(frozen=True)
class Finding:
    """A pitfall that the model falls into.

    Attributes:
        severity: "error": the parts don't train as the model does in one piece; "warning": they do
            so only under the condition that `advice` gives; "note": good to know.
        pitfall: Which one, in a few words.
        where: Name of the variable, tensor or argument.
        message: What was found.
        advice: What to do.
    """

    severity: str
    pitfall: str
    where: str
    message: str
    advice: str

    def __str__(self) -> str:
        return (
            f"{self.severity}: {self.pitfall}: {self.where}\n    {self.message}\n    {self.advice}"
        )


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The largest difference between two ways to compute one gradient, variable or slot.

    Attributes:
        compared: "split against joint" or "fused against reference".
        name: Name of the variable or slot.
        step: The step, from 1, in which the difference is largest for its bound.
        difference: The largest absolute difference of an element in that step; infinite if one is
            NaN or infinite where the other one isn't.
        relative: The same as a part of the largest magnitude.
        ulp: The same in units of the last place of the largest magnitude.
        bound: The largest difference that rounding explains; see `splitop.verify`.
        where: Index of the element.
        ok: Whether the difference is within its bound, in this and in every other step.
    """

    compared: str
    name: str
    step: int
    difference: float
    relative: float
    ulp: float
    bound: float
    where: tuple[int, ...]
    ok: bool


@dataclasses.dataclass(frozen=True)
class VerifyReport:
    """What `splitop.verify` has found; `str` makes a readable report.

    Attributes:
        cut: Names of the intermediate vectors.
        steps: How many steps were trained; 0 if an error stood in the way.
        findings: The pitfalls, errors first.
        gradients: Split against joint: a row for each variable.
        updates: The variables and all state of the optimizers after the updates: split against
            joint, then fused against reference.
        fused: Names of the variables that the fused ops train.
        updated: Those of them whose gradient TensorFlow computes, so that only the update is
            fused, and why.
        declined: Name of every other variable, and why TensorFlow's own ops train it.
    """

    cut: tuple[str, ...]
    steps: int
    findings: tuple[Finding, ...]
    gradients: tuple[Comparison, ...] = ()
    updates: tuple[Comparison, ...] = ()
    fused: tuple[str, ...] = ()
    updated: dict[str, str] = dataclasses.field(default_factory=dict)
    declined: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether no finding is an error and every difference is within its bound."""
        return not self.errors and not self.failures

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are errors."""
        return tuple(finding for finding in self.findings if finding.severity == ERROR)

    @property
    def failures(self) -> tuple[Comparison, ...]:
        """The rows whose difference is beyond its bound."""
        return tuple(row for row in (*self.gradients, *self.updates) if not row.ok)

    def raise_if_failed(self) -> None:
        """Does nothing if the report is `ok`.

        Raises:
            VerifyError: It isn't; the message is the report.
        """
        if not self.ok:
            raise VerifyError(str(self))

    def to_dict(self) -> dict[str, Any]:
        """The report as dictionaries, lists, strings and numbers, with `ok`, as JSON has them."""
        data = dataclasses.asdict(self)
        data["updates"] = [dataclasses.asdict(row) for row in self.updates]
        return {"ok": self.ok, **data}

    def __str__(self) -> str:
        steps = f"{self.steps} step{'' if self.steps == 1 else 's'}"
        verdict = "ok" if self.ok else f"FAILED ({self._reasons()})"
        blocks = [f"splitop.verify, cut at {', '.join(self.cut)}, {steps}: {verdict}"]
        blocks += [str(finding) for finding in self.findings]
        if self.gradients:
            blocks.append(_rows("gradients", self.gradients))
        if self.updates:
            blocks.append(_rows("after the updates", self.updates))
        if self.fused or self.declined:
            blocks.append(self._paths())
        return "\n\n".join(blocks)

    def _reasons(self) -> str:
        reasons = []
        if self.errors:
            reasons.append(f"{len(self.errors)} error{'s'[: len(self.errors) > 1]}")
        if self.failures:
            reasons.append(f"{len(self.failures)} beyond rounding")
        return ", ".join(reasons)

    def _paths(self) -> str:
        rows = [("variable", "path", "why")]
        for name in self.fused:
            path = "fused update" if name in self.updated else "fused"
            rows.append((name, path, self.updated.get(name, "")))
        rows += [(name, "reference", why) for name, why in self.declined.items()]
        return table(rows)


def _rows(title: str, rows: tuple[Comparison, ...]) -> str:
    """A table of the rows that differ, and how many don't."""
    cells: list[tuple[str, ...]] = [
        (title, "compared", "largest difference", "ulp", "relative", "bound", "step", "")
    ]
    cells += [_cells(row) for row in rows if row.difference]
    same = Counter(row.compared for row in rows if not row.difference)
    lines = [f"{title}, {compared}: {n} with the same bits" for compared, n in same.items()]
    return "\n".join([*([table(cells)] if len(cells) > 1 else []), *lines])


def _cells(row: Comparison) -> tuple[str, ...]:
    return (
        row.name,
        row.compared,
        f"{row.difference:.3g} at {list(row.where)}",
        f"{row.ulp:.3g}",
        f"{row.relative:.2g}",
        f"{row.bound:.2g}",
        str(row.step),
        "ok" if row.ok else "BEYOND ROUNDING",
    )
