"""Random multi-tensor updates in a non-zero optimizer state, and what they must give."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from splitop.lib import _kernels
from tests import oracle
from tests.accuracy import FEW, Precision, assert_accurate, update_few_ulp
from tests.kernels import plain
from tests.state import HYPER, make_slots

STEPS = 5


@dataclasses.dataclass(frozen=True)
class State:
    """Variables and their slots."""

    variables: tuple[np.ndarray, ...]
    slots: tuple[tuple[np.ndarray, ...], ...]

    def named(self) -> dict[str, np.ndarray]:
        """All arrays: "0", "0 slot 1"."""
        arrays = {}
        for i, (variable, slots) in enumerate(zip(self.variables, self.slots, strict=True)):
            arrays |= {str(i): variable}
            arrays |= {f"{i} slot {s}": slot for s, slot in enumerate(slots)}
        return arrays

    def copy(self) -> State:
        """The same values in other arrays."""
        return State(
            tuple(variable.copy() for variable in self.variables),
            tuple(tuple(slot.copy() for slot in slots) for slots in self.slots),
        )


@dataclasses.dataclass(frozen=True)
class Update:
    """What one call is given besides the state."""

    gradients: tuple[np.ndarray, ...]
    rule: str
    hyper: np.ndarray
    decayed: tuple[bool, ...]


def make_update(
    precision: Precision, shapes: Sequence[tuple[int, ...]], rule: str, random_seed: int = 0
) -> tuple[Update, State]:
    """An update of variables of these shapes, and the state before it."""
    random = np.random.default_rng(random_seed)
    dtype = precision.variables

    update = Update(
        tuple(random.normal(size=shape).astype(precision.tensors) for shape in shapes),
        rule,
        np.array(HYPER[rule], dtype),
        tuple(bool(random.random() < 0.5) for _ in shapes),
    )
    variables = tuple(random.normal(size=shape).astype(dtype) for shape in shapes)
    return update, State(
        variables, tuple(make_slots(random, rule, shape, dtype) for shape in shapes)
    )


def run_in_place(update: Update, state: State, **options: Any) -> None:
    """A call of the CPU kernel, which updates the state's arrays."""
    _kernels.multi_tensor_update(
        update.gradients,
        state.variables,
        state.slots,
        rule=update.rule,
        hyper=update.hyper,
        decayed=update.decayed,
        **options,
    )


def run_on_cpu(update: Update, state: State, **options: Any) -> State:
    """The state after a call of the CPU kernel."""
    after = state.copy()
    run_in_place(update, after, **options)
    return after


def assert_update_accurate(update: Update, before: State, after: State) -> None:
    """Asserts the accuracy rule for every variable and slot."""
    exact, expected, few = [], [], {}
    for i, gradient in enumerate(update.gradients):
        wide = gradient.astype(np.float64)
        variable = (before.variables[i], before.slots[i])
        how = (update.decayed[i], update.rule, update.hyper)
        exact.append(oracle.update(*variable, wide, *how))
        expected.append(plain.update(*variable, gradient, *how))
        # The gradient is exact, but a term of sums that may cancel.
        of_terms = FEW * np.finfo(before.variables[i].dtype).eps * abs(wide)
        few |= update_few_ulp(str(i), *variable, wide, *how, of_terms)
    assert_accurate(after.named(), _state(expected).named(), _state(exact).named(), few)


def _state(pairs: Sequence[tuple[np.ndarray, tuple[np.ndarray, ...]]]) -> State:
    return State(tuple(value for value, _ in pairs), tuple(slots for _, slots in pairs))
