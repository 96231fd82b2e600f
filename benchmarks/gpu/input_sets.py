"""Inputs, weights and state of a case: as many sets as it takes to find no weight in the cache."""

from __future__ import annotations

import dataclasses
import math

from benchmarks.gpu.cases import WEIGHTS, Case
from benchmarks.gpu.costs import state_bytes
from benchmarks.gpu.device import Array, Device
from benchmarks.gpu.rules import RULES

# A set is used again after this many times the cache's size of other data.
CACHES = 4


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer's variables, float32; the slots are those of the rule."""

    kernel: Array
    kernel_slots: list[Array]
    bias: Array | None = None
    bias_slots: list[Array] = dataclasses.field(default_factory=list)

    def variables(self) -> list[Array]:
        """Kernel, bias and their slots."""
        bias = [] if self.bias is None else [self.bias]
        return [self.kernel, *bias, *self.kernel_slots, *self.bias_slots]


@dataclasses.dataclass(frozen=True)
class InputSet:
    """What one step reads and updates.

    Attributes:
        x: The input.
        seed: dL/dIV; of "weights" cases, dL/dz of the layer.
        layers: From the input up.
    """

    x: Array
    seed: Array
    layers: list[Layer]

    def variables(self) -> list[Array]:
        return [variable for layer in self.layers for variable in layer.variables()]


def make_input_sets(device: Device, case: Case) -> list[InputSet]:
    """Random sets in a non-zero optimizer state."""
    wanted = math.ceil(CACHES * device.l2_bytes / state_bytes(case))
    return [_make_set(device, case) for _ in range(min(max(1, wanted), device.max_sets))]


def leaves_cache(device: Device, case: Case, sets: int) -> bool:
    """Whether so many sets do not stay in the cache from one use to the next."""
    return sets * state_bytes(case) >= CACHES * device.l2_bytes


def _make_set(device: Device, case: Case) -> InputSet:
    shape = (case.batch, case.width)
    return InputSet(
        x=device.normal(shape, case.dtype),
        # Weight gradients of about one, whatever the batch.
        seed=device.normal(shape, case.dtype, case.batch**-0.5),
        layers=[_make_layer(device, case) for _ in range(case.layers)],
    )


def _make_layer(device: Device, case: Case) -> Layer:
    kernel = (case.width, case.width)
    scale = (2 / case.width) ** 0.5  # keeps the size of what passes through relus
    weights = device.normal(kernel, "float32", scale)
    if case.kind == WEIGHTS:
        return Layer(weights, _make_slots(device, case, kernel))
    bias = (case.width,)
    return Layer(
        weights,
        _make_slots(device, case, kernel),
        device.normal(bias, "float32", 0.1),
        _make_slots(device, case, bias),
    )


def _make_slots(device: Device, case: Case, shape: tuple[int, ...]) -> list[Array]:
    """Of Adam's two, the second is a mean of squares."""
    slots = [device.normal(shape, "float32", 0.1) for _ in range(RULES[case.rule].slots)]
    return [slot * slot if index == 1 else slot for index, slot in enumerate(slots)]
