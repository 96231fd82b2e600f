"""The least that a case must move and compute, and how long that takes at measured rates."""

from __future__ import annotations

import dataclasses

from benchmarks.gpu.cases import WEIGHTS, Case
from benchmarks.gpu.rules import RULES

VARIABLE_BYTES = 4
COPY = "copy"
GEMM = "GEMM"


@dataclasses.dataclass(frozen=True)
class Phase:
    """Work that comes after the work before it. Biases are left out: they are small."""

    bytes: int
    flop: int = 0


@dataclasses.dataclass(frozen=True)
class Limits:
    """What was measured of the device.

    Attributes:
        copy: Bytes a second of a large copy, those read and those written.
        gemm: For each precision, floating-point operations a second of a large product.
    """

    copy: float
    gemm: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Floor:
    """The shortest time at the measured rates, and the rate that binds for most of it."""

    seconds: float
    binding: str


def update_bytes_a_weight(rule: str) -> int:
    """A weight and its slots are read once and written once."""
    return 2 * VARIABLE_BYTES * (1 + RULES[rule].slots)


def gradient_bytes(case: Case) -> int:
    """All weight gradients, which the fused step does not keep."""
    return VARIABLE_BYTES * case.parameters * case.layers


def phases(case: Case) -> list[Phase]:
    """What a case can't do without, each tensor from memory and to memory once a phase."""
    if case.kind == WEIGHTS:
        return [_update(case)]
    forward = [_product(case)] * case.layers
    # The bottom layer's dL/dx is not wanted.
    backward = [_update(case)] + [_product(case), _update(case)] * (case.layers - 1)
    copies = [Phase(case.parameters * (VARIABLE_BYTES + _element_bytes(case)))] * case.layers
    return [*(copies if case.mixed else []), *forward, *backward]


def floor(case: Case, limits: Limits) -> Floor:
    """The time of all phases, each at the rate that binds it."""
    seconds = {COPY: 0.0, GEMM: 0.0}
    for phase in phases(case):
        copy = phase.bytes / limits.copy
        gemm = phase.flop / limits.gemm[case.precision]
        seconds[COPY if copy >= gemm else GEMM] += max(copy, gemm)
    return Floor(sum(seconds.values()), max(seconds, key=lambda binding: seconds[binding]))


def state_bytes(case: Case) -> int:
    """Weights, slots, x and the seed: what a step reads in any case."""
    a_weight = VARIABLE_BYTES * (1 + RULES[case.rule].slots)
    ends = 2 * case.batch * case.width * _element_bytes(case)
    return case.layers * case.parameters * a_weight + ends


def _element_bytes(case: Case) -> int:
    return 2 if case.mixed else 4


def _activations(case: Case) -> int:
    """Two of the factors of any product, or one of them and its result."""
    return 2 * case.batch * case.width * _element_bytes(case)


def _flop_of_product(case: Case) -> int:
    return 2 * case.batch * case.parameters


def _product(case: Case) -> Phase:
    weights = case.parameters * _element_bytes(case)
    return Phase(weights + _activations(case), _flop_of_product(case))


def _update(case: Case) -> Phase:
    weights = case.parameters * update_bytes_a_weight(case.rule)
    return Phase(weights + _activations(case), _flop_of_product(case))
