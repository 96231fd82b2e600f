"""Updates of embedding tables on a device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.gpu.devices import Device
from tests.gpu.kernels import kernels
from tests.gpu.memory import Memory
from tests.kernels.tables import Lookup, TableUpdate, to_kernel_tables
from tests.kernels.updates import State

Put = Callable[[np.ndarray], Any]


def map_state(state: State, put: Put) -> State:
    """The same state in other arrays."""
    return State(
        tuple(map(put, state.variables)), tuple(tuple(map(put, slots)) for slots in state.slots)
    )


def map_lookup(lookup: Lookup, put: Put) -> Lookup:
    """The same lookup in other arrays."""
    arrays = ("ids", "gradient", "gradient_row", "id_weights")
    given = {name: getattr(lookup, name) for name in arrays}
    return dataclasses.replace(
        lookup, **{name: put(array) for name, array in given.items() if array is not None}
    )


def to_arguments(update: TableUpdate, state: State, put: Put) -> dict[str, Any]:
    """What the kernels take. `state` is on the device; `put` puts there what is only read."""
    lookups = tuple(map_lookup(lookup, put) for lookup in update.lookups)
    update = dataclasses.replace(update, lookups=lookups)
    return {
        "tables": to_kernel_tables(update, state, kernels.Table),
        "rule": update.rule,
        "hyper": put(update.hyper),
    }


class TableCall:
    """A call whose arguments are on a device."""

    def __init__(
        self, device: Device, update: TableUpdate, state: State, offsets: Sequence[int] = (0,)
    ) -> None:
        self.memory = Memory(device, offsets)
        self._like = state
        self._state = map_state(state, self.memory.put)
        self.arguments = to_arguments(
            update, self._state, lambda array: self.memory.put(array, constant=True)
        )
        self.scratch_bytes = kernels.cuda_table_update_scratch_bytes(**self.arguments)
        self._scratch = self.memory.scratch(self.scratch_bytes)

    def run(self, **options: Any) -> None:
        kernels.cuda_table_update(**{**self.arguments, "scratch": self._scratch, **options})

    def state(self) -> State:
        """What is on the device now."""
        self.memory.check()
        get, now, like = self.memory.get, self._state, self._like
        return State(
            tuple(map(get, now.variables, like.variables)),
            tuple(tuple(map(get, *pair)) for pair in zip(now.slots, like.slots, strict=True)),
        )


def run_on_device(
    device: Device, update: TableUpdate, state: State, offsets: Sequence[int] = (0,)
) -> State:
    """The state after a call on copies of the arrays."""
    with device.stream() as stream:
        call = TableCall(device, update, state, offsets)
        call.run(stream=stream)
    return call.state()
