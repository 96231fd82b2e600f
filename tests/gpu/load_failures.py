"""Calls on an emulated device that has no room for their kernels, in a process of their own.

What is loaded stays loaded, so test_loading.py starts this module afresh for every case. It prints,
as JSON, the errors that were raised; each has left every variable as it was, or it fails.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.accuracy import PRECISIONS
from tests.gpu.chains import STRATEGIES, map_layer, options_for, rule_for, to_kernel_layer
from tests.gpu.devices import Emulation
from tests.gpu.kernels import kernels
from tests.gpu.memory import Memory
from tests.gpu.tables import map_state, to_arguments
from tests.kernels.problems import make_problem
from tests.kernels.tables import Table, make_tables
from tests.kernels.updates import make_update

ROOM = "SPLITOP_EMULATED_KERNELS"
SHARED_BYTES = "SPLITOP_EMULATED_SHARED_BYTES"
CUBLAS_STATUS = "SPLITOP_EMULATED_CUBLAS_STATUS"

WIDTHS = (256, 256, 20)
LONG_BATCH = 72  # more rows than a small tile of dL/dx has
TABLE_DTYPES = ("float32", "float64")
MANY = 456  # a few more tensors than one launch takes


class Call:
    """A call whose variables can be looked at."""

    def __init__(self) -> None:
        self._memory = Memory(Emulation())
        self._variables: list[Any] = []

    def constant(self, values: np.ndarray) -> Any:
        return self._memory.put(values, constant=True)

    def variable(self, values: np.ndarray) -> Any:
        self._variables.append(self._memory.put(values))
        return self._variables[-1]

    def scratch(self, size: int) -> Any:
        return self._memory.scratch(size)

    def state(self) -> list[bytes]:
        self._memory.check()
        return [variable.tobytes() for variable in self._variables]


def chain(precision: str, strategy: str, batch: int = 24) -> tuple[Call, Callable[[], None]]:
    """A chain of two layers."""
    call = Call()
    problem = make_problem(
        PRECISIONS[precision], batch, WIDTHS, ["relu", "tanh"], [True] * 2, rule_for(strategy)
    )
    layers = [map_layer(layer, call.variable, call.constant) for layer in problem.layers]
    like = np.zeros((batch, WIDTHS[0]), problem.seed.dtype)
    arguments = {
        "seed": call.constant(problem.seed),
        "layers": [to_kernel_layer(layer) for layer in layers],
        "rule": problem.rule,
        "hyper": call.constant(problem.hyper),
        "input_gradient": call.variable(like),
        **options_for(precision, strategy),
    }
    scratch = call.scratch(kernels.cuda_dense_chain_scratch_bytes(**arguments))
    return call, lambda: kernels.cuda_dense_chain(**arguments, scratch=scratch)


def update(precision: str) -> tuple[Call, Callable[[], None]]:
    """An update that takes two launches."""
    call = Call()
    values, state = make_update(PRECISIONS[precision], [(3,)] * MANY, "adam")
    arguments = {
        "gradients": [call.constant(gradient) for gradient in values.gradients],
        "variables": [call.variable(variable) for variable in state.variables],
        "slots": [[call.variable(slot) for slot in slots] for slots in state.slots],
        "rule": values.rule,
        "hyper": call.constant(values.hyper),
        "decayed": values.decayed,
    }
    return call, lambda: kernels.cuda_multi_tensor_update(**arguments)


def tables(dtype: str) -> tuple[Call, Callable[[], None]]:
    """An update of tables that takes every kernel."""
    call = Call()
    update, state = make_tables(
        dtype, [Table(rows=9, width=8, ids=80, bags=5, combiner="mean", all_rows=True)], "adam"
    )
    arguments = to_arguments(update, map_state(state, call.variable), call.constant)
    scratch = call.scratch(kernels.cuda_table_update_scratch_bytes(**arguments))
    return call, lambda: kernels.cuda_table_update(**arguments, scratch=scratch)


def error_of(call: Call, run: Callable[[], None]) -> str | None:
    """The error of a run, which must have changed nothing; None: it has worked."""
    before = call.state()
    message = None
    try:
        run()
    except RuntimeError as error:
        message = str(error)
    assert (call.state() == before) == (message is not None), message
    return message


def errors_of(call: Call, run: Callable[[], None]) -> Iterator[str]:
    """The errors of runs with room for one kernel more each time, until one works."""
    while (error := error_of(call, run)) is not None:
        yield error
        os.environ[ROOM] = str(int(os.environ[ROOM]) + 1)


def no_room(strategy: str) -> list[str]:
    os.environ[ROOM] = "0"
    return [error for name in PRECISIONS for error in errors_of(*chain(name, strategy))]


def no_room_for_updates() -> list[str]:
    os.environ[ROOM] = "0"
    return [error for name in PRECISIONS for error in errors_of(*update(name))]


def no_room_for_tables() -> list[str]:
    os.environ[ROOM] = "0"
    return [error for dtype in TABLE_DTYPES for error in errors_of(*tables(dtype))]


def no_shared_memory() -> list[str | None]:
    os.environ[SHARED_BYTES] = str(48 * 1024)
    precisions = [name for name in PRECISIONS if name != "float64"]
    return [error_of(*chain(name, "tiles", LONG_BATCH)) for name in precisions]


def no_cublas_handle() -> list[str | None]:
    os.environ[CUBLAS_STATUS] = "3"
    return [error_of(*chain(name, "chunks")) for name in PRECISIONS]


def warm() -> list[str | None]:
    """After a warm-up that has failed, and one that has not, nothing is loaded any more."""
    os.environ[ROOM] = "5"
    errors: list[str | None] = []
    try:
        kernels.cuda_warm_up()
    except RuntimeError as error:
        errors.append(str(error))
    del os.environ[ROOM]
    kernels.cuda_warm_up()
    os.environ[ROOM] = "0"
    os.environ[CUBLAS_STATUS] = "3"
    for name in PRECISIONS:
        errors += [error_of(*chain(name, strategy)) for strategy in STRATEGIES]
        errors.append(error_of(*update(name)))
    errors += [error_of(*tables(dtype)) for dtype in TABLE_DTYPES]
    return errors


CASES: dict[str, Callable[..., list[str] | list[str | None]]] = {
    case.__name__: case
    for case in (
        no_room,
        no_room_for_updates,
        no_room_for_tables,
        no_shared_memory,
        no_cublas_handle,
        warm,
    )
}

if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    print(json.dumps(CASES[name](*arguments)))
