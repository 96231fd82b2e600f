"""How arrays of other libraries are read: DLPack, and __cuda_array_interface__."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.accuracy import PRECISIONS
from tests.gpu.devices import Device
from tests.gpu.dlpack import READ_ONLY, CudaArray, Exporter
from tests.gpu.kernels import EMULATED, kernels
from tests.gpu.memory import Memory
from tests.kernels.updates import State, make_update, run_on_cpu

SHAPE = (3, 4)
STREAM = None if EMULATED else 1  # DLPack's name for the default stream

Wrap = Callable[[np.ndarray, Any], Any]


class Call:
    """An sgd step of one variable, its arrays wrapped, on the default stream."""

    def __init__(self, device: Device, precision: str = "float32") -> None:
        self.device = device
        self.memory = Memory(device)
        self.update, self.state = make_update(PRECISIONS[precision], [SHAPE], "sgd")
        self._value = self.memory.put(self.state.variables[0])

    def exporter(self, values: np.ndarray, array: Any, **changes: Any) -> Exporter:
        """The array on the device by DLPack."""
        fields = {
            "address": self.device.address(array),
            "shape": values.shape,
            "dtype": str(values.dtype),
            "device": self.device.dlpack_device,
            "owner": array,
        }
        return Exporter(**{**fields, **changes})

    def cuda_array(self, values: np.ndarray, array: Any, **changes: Any) -> CudaArray:
        """The array on the device by __cuda_array_interface__."""
        return CudaArray(self.device.address(array), values, array, **changes)

    def run(self, wrap: Wrap, **replaced: Any) -> None:
        """Runs the step with every array wrapped."""
        (gradient,) = self.update.gradients
        arguments = {
            "gradients": [wrap(gradient, self.memory.put(gradient, constant=True))],
            "variables": [wrap(self.state.variables[0], self._value)],
            "slots": [[]],
            "rule": "sgd",
            "hyper": wrap(self.update.hyper, self.memory.put(self.update.hyper, constant=True)),
            "decayed": self.update.decayed,
        }
        kernels.cuda_multi_tensor_update(**{**arguments, **replaced})

    def value(self) -> np.ndarray:
        """What the variable is by now."""
        with self.device.stream():
            pass
        return self.memory.get(self._value, self.state.variables[0])

    def variable(self, **changes: Any) -> Exporter:
        """The variable by DLPack, some of what it says replaced."""
        return self.exporter(self.state.variables[0], self._value, **changes)

    def assert_refused(self, message: str, **replaced: Any) -> None:
        """Asserts that the step raises this and writes nothing."""
        with pytest.raises((ValueError, TypeError), match=re.escape(message)):
            self.run(self.exporter, **replaced)
        np.testing.assert_array_equal(self.value(), self.state.variables[0])


@pytest.fixture
def call(device: Device) -> Call:
    return Call(device)


def assert_updated(call: Call) -> None:
    wide = dataclasses.replace(
        call.update, gradients=tuple(g.astype(np.float32) for g in call.update.gradients)
    )
    expected: State = run_on_cpu(wide, call.state)
    np.testing.assert_allclose(call.value(), expected.variables[0], rtol=1e-6)
    call.memory.check()


@pytest.mark.parametrize("version", [None, 1])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_dlpack(device: Device, version: int | None, precision: str) -> None:
    call = Call(device, precision)
    exporters: list[Exporter] = []

    def wrap(values: np.ndarray, array: Any) -> Exporter:
        exporters.append(call.exporter(values, array, version=version))
        return exporters[-1]

    call.run(wrap)
    assert_updated(call)
    used = "used_dltensor" if version is None else "used_dltensor_versioned"
    for exporter in exporters:
        assert exporter.capsule_names() == {used}
        assert exporter.deleted == len(exporter.capsules)
        assert set(exporter.streams) == {STREAM}


def test_dlpack_is_given_the_stream(real_gpu: Device) -> None:
    call = Call(real_gpu)
    variable = call.variable()
    with real_gpu.stream() as stream:
        call.run(call.exporter, variables=[variable], stream=stream)
    assert set(variable.streams) == {stream}


@pytest.mark.parametrize("version", [None, 1])
def test_dlpack_is_given_back_after_an_error(call: Call, version: int | None) -> None:
    variable = call.variable(version=version)
    call.assert_refused("slots[0] must have 0 arrays", variables=[variable], slots=[[variable]])
    call.assert_refused("hyper must have shape [2]", hyper=variable)
    assert variable.deleted == len(variable.capsules) == 2


def test_dlpack_with_strides_and_an_offset(call: Call) -> None:
    address = call.variable().address
    variable = call.variable(strides=(4, 1), address=address - 64, byte_offset=64)
    call.run(call.exporter, variables=[variable])
    assert_updated(call)


OTHER_DEVICE = (2, 0) if EMULATED else (1, 0)

BAD_DLPACK = {
    "read-only": (dict(flags=READ_ONLY), "variables[0] must be writeable"),
    "column order": (
        dict(strides=(1, 3)),
        "variables[0] must be contiguous in row-major order. Received: strides [4, 12]",
    ),
    "vectors": (dict(lanes=2), "variables[0] must have dtype float32. Received: float32x2"),
    "integers": (dict(dtype="int32"), "variables[0] must have dtype float32. Received: int32"),
    "a version to come": (
        dict(version=2),
        "variables[0] must have DLPack version 1. Received: version 2",
    ),
    "elsewhere": (dict(device=OTHER_DEVICE), "variables[0] must be in "),
}


@pytest.mark.parametrize("case", BAD_DLPACK)
def test_bad_dlpack(call: Call, case: str) -> None:
    changes, message = BAD_DLPACK[case]
    variable = call.variable(**changes)
    call.assert_refused(message, variables=[variable])
    assert variable.deleted == len(variable.capsules)


def test_dlpack_on_two_devices(real_gpu: Device) -> None:
    call = Call(real_gpu)
    kind, number = real_gpu.dlpack_device
    variable = call.variable(device=(kind, number + 1))
    message = f"variables[0] must be on cuda:{number}, as the arrays before it. Received: cuda:"
    call.assert_refused(message, variables=[variable])


class Failing:
    def __dlpack_device__(self) -> tuple[int, int]:
        raise BufferError("it is on fire")

    def __dlpack__(self, **arguments: Any) -> Any:
        raise AssertionError


def test_an_array_that_can_not_be_exported(call: Call) -> None:
    message = "variables[0] can't be read through DLPack. Received: BufferError: it is on fire"
    call.assert_refused(message, variables=[Failing()])


def test_no_array(call: Call) -> None:
    message = "must be an array with __dlpack__ or __cuda_array_interface__. Received: list"
    call.assert_refused(message, variables=[[1.0]])


def test_cuda_array_interface(call: Call) -> None:
    call.run(call.cuda_array)
    assert_updated(call)


@pytest.mark.parametrize(
    "changes", [dict(strides=None), dict(strides=(16, 4)), dict(mask=None), dict(stream=1)]
)
def test_what_the_cuda_array_interface_may_say(call: Call, changes: dict[str, Any]) -> None:
    call.run(lambda values, array: call.cuda_array(values, array))
    call = Call(call.device)
    value = call.cuda_array(call.state.variables[0], call._value, **changes)
    call.run(call.cuda_array, variables=[value])
    assert_updated(call)


BAD_INTERFACES = {
    "column order": (dict(strides=(4, 12)), "variables[0] must be contiguous in row-major order"),
    "mask": (dict(mask=object()), "variables[0] must have no mask. Received: a masked array"),
    "another stream": (
        dict(stream=7),
        "variables[0] must be used on its own stream, or have none. Received: stream 7, and "
        "stream=0",
    ),
    "byte order": (
        dict(typestr=">f4"),
        "variables[0] must have dtype float32. Received: >f4",
    ),
    "doubles": (dict(typestr="<f8"), "variables[0] must have dtype float32. Received: float64"),
}


@pytest.mark.parametrize("case", BAD_INTERFACES)
def test_bad_cuda_array_interface(call: Call, case: str) -> None:
    changes, message = BAD_INTERFACES[case]
    value = call.cuda_array(call.state.variables[0], call._value, **changes)
    call.assert_refused(message, variables=[value])


def test_read_only_cuda_array_interface(call: Call) -> None:
    value = call.cuda_array(
        call.state.variables[0], call._value, data=(call.variable().address, True)
    )
    call.assert_refused("variables[0] must be writeable", variables=[value])
