"""Runs the steps of a split model, and puts the report together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from splitop._src.errors import SplitError
from splitop._src.verify import comparison, numbers, optimizer_pitfalls, rounding
from splitop._src.verify.comparison import Run, compare
from splitop._src.verify.eager import EagerModel
from splitop._src.verify.graph import GraphModel
from splitop._src.verify.inspection import Inspection
from splitop._src.verify.report import (
    ERROR,
    FUSED_AND_REFERENCE,
    SEVERITIES,
    SPLIT_AND_JOINT,
    Comparison,
    Finding,
    VerifyReport,
)
from splitop._src.verify.step import AUTO, JOINT, REFERENCE


def examine(
    subject: EagerModel | GraphModel, optimizers: tuple[Any, Any], steps: int
) -> VerifyReport:
    """The report on a split model, the first part's and the second part's optimizer."""
    with subject.opened(optimizers) as inspection:
        findings = [*inspection.findings, *optimizer_pitfalls.findings(*optimizers)]
        report = VerifyReport(inspection.cut, 0, _sorted(findings))
        if not inspection.can_run:
            return report
        if optimizers[0] is optimizers[1]:
            return _gradients_alone(subject, inspection, findings)
        try:
            return _compared(subject, inspection, findings, optimizers, steps)
        except SplitError as error:
            findings.append(
                Finding(
                    ERROR,
                    "training step",
                    ", ".join(inspection.cut),
                    str(error),
                    "No steps were compared: change that first.",
                )
            )
            return VerifyReport(inspection.cut, 0, _sorted(findings))


def _compared(
    subject: EagerModel | GraphModel,
    inspection: Inspection,
    findings: Sequence[Finding],
    optimizers: tuple[Any, Any],
    steps: int,
) -> VerifyReport:
    joint = subject.run(JOINT, steps, optimizers)
    moved = [
        subject.run(REFERENCE, steps, optimizers, np.random.default_rng(seed))
        for seed in range(rounding.MOVED_RUNS)
    ]
    reference = subject.run(REFERENCE, steps, optimizers)
    names = subject.names
    auto = subject.run(AUTO, steps, optimizers)
    ways = comparison.movements(
        reference.values, [(run.values, run.start) for run in moved], reference.start
    )
    start, error = reference.start, inspection.error
    updates = [
        *compare(SPLIT_AND_JOINT, names, reference.values, joint.values, ways, start, error),
        *compare(FUSED_AND_REFERENCE, names, auto.values, reference.values, ways, start, error),
    ]
    first, second = subject.plans
    return VerifyReport(
        cut=inspection.cut,
        steps=steps,
        findings=_sorted(
            [
                *findings,
                *numbers.reproducibility(inspection.cut, joint, reference, error),
                *numbers.findings(inspection.names, joint.joint),
            ]
        ),
        gradients=_gradient_rows(inspection, joint, reference, moved),
        updates=tuple(updates),
        fused=(*second.fused, *first.fused),
        updated={**second.updated, **first.updated},
        declined={**second.declined, **first.declined},
    )


def _gradients_alone(
    subject: EagerModel | GraphModel, inspection: Inspection, findings: Sequence[Finding]
) -> VerifyReport:
    plain = subject.run(REFERENCE, 1, None)
    moved = [
        subject.run(REFERENCE, 1, None, np.random.default_rng(seed))
        for seed in range(rounding.MOVED_RUNS)
    ]
    return VerifyReport(
        cut=inspection.cut,
        steps=1,
        findings=_sorted([*findings, *numbers.findings(inspection.names, plain.joint)]),
        gradients=_gradient_rows(inspection, plain, plain, moved),
    )


def _gradient_rows(
    inspection: Inspection, run: Run, reference: Run, moved: Sequence[Run]
) -> tuple[Comparison, ...]:
    ways = comparison.movements(reference.joint, [(other.joint, None) for other in moved], None)
    rows = compare(
        SPLIT_AND_JOINT, inspection.names, run.split, run.joint, ways, None, inspection.error
    )
    return tuple(rows)


def _sorted(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))
