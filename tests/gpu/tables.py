"""Updates of embedding tables on a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.gpu.devices import Device
from tests.gpu.kernels import kernels
from tests.gpu.memory import Memory
from tests.kernels.tables import Lookup, TableUpdate, to_kernel_tables
from tests.kernels.updates import State


class TableCall:
    """A call whose arguments are on a device."""

    def __init__(
        self, device: Device, update: TableUpdate, state: State, offsets: Sequence[int] = (0,)
    ) -> None:
        self.memory = Memory(device, offsets)
        self._like = state
        self._state = State(
            tuple(map(self.memory.put, state.variables)),
            tuple(tuple(map(self.memory.put, slots)) for slots in state.slots),
        )
        lookups = tuple(map(self._put_lookup, update.lookups))
        on_device = TableUpdate(lookups, update.rule, update.hyper, update.decayed)
        self.hyper = self.memory.put(update.hyper)
        self.arguments: dict[str, Any] = {
            "tables": to_kernel_tables(on_device, self._state, kernels.Table),
            "rule": update.rule,
            "hyper": self.hyper,
        }
        self.scratch_bytes = kernels.cuda_table_update_scratch_bytes(**self.arguments)
        self.scratch = self.memory.scratch(self.scratch_bytes)

    def run(self, **options: Any) -> None:
        kernels.cuda_table_update(**{**self.arguments, "scratch": self.scratch, **options})

    def state(self) -> State:
        """What is on the device now."""
        self.memory.check()
        get, now, like = self.memory.get, self._state, self._like
        return State(
            tuple(map(get, now.variables, like.variables)),
            tuple(tuple(map(get, *pair)) for pair in zip(now.slots, like.slots, strict=True)),
        )

    def _put_lookup(self, lookup: Lookup) -> Lookup:
        def put(array: np.ndarray | None) -> Any:
            return None if array is None else self.memory.put(array, constant=True)

        return Lookup(
            ids=put(lookup.ids),
            gradient=put(lookup.gradient),
            gradient_row=put(lookup.gradient_row),
            combiner=lookup.combiner,
            id_weights=put(lookup.id_weights),
            all_rows=lookup.all_rows,
            sums_squares=lookup.sums_squares,
        )


def run_on_device(
    device: Device, update: TableUpdate, state: State, offsets: Sequence[int] = (0,)
) -> State:
    """The state after a call on copies of the arrays."""
    with device.stream() as stream:
        call = TableCall(device, update, state, offsets)
        call.run(stream=stream)
    return call.state()
