"""The emulated runtime: the limits of a launch, and machines that lack something."""

from __future__ import annotations

import ctypes

import pytest

SUCCESS = 0
INVALID_VALUE = 1
NO_MEMORY = 2
INVALID_CONFIGURATION = 9
INSUFFICIENT_DRIVER = 35
NO_DEVICE = 100
INVALID_DEVICE = 101
NO_KERNEL_IMAGE = 209
UNKNOWN = 999

MULTIPROCESSORS, L2, MAJOR, MINOR = 16, 38, 75, 76  # cudaDeviceAttr


def launch(
    kernels: ctypes.CDLL,
    grid: tuple[int, int, int] = (1, 1, 1),
    block: tuple[int, int, int] = (1, 1, 1),
    shared_bytes: int = 0,
) -> int:
    three = ctypes.c_uint * 3
    return kernels.run_nothing(three(*grid), three(*block), ctypes.c_size_t(shared_bytes))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (dict(block=(1024, 1, 1)), SUCCESS),
        (dict(block=(1025, 1, 1)), INVALID_CONFIGURATION),
        (dict(block=(32, 33, 1)), INVALID_CONFIGURATION),
        (dict(block=(1, 1, 64)), SUCCESS),
        (dict(block=(1, 1, 65)), INVALID_CONFIGURATION),
        (dict(block=(0, 1, 1)), INVALID_CONFIGURATION),
        (dict(block=(65536, 65536, 1)), INVALID_CONFIGURATION),
        (dict(grid=(0, 1, 1)), INVALID_CONFIGURATION),
        (dict(grid=(2**31, 1, 1)), INVALID_CONFIGURATION),
        (dict(grid=(1, 65535, 1)), SUCCESS),
        (dict(grid=(1, 65536, 1)), INVALID_CONFIGURATION),
        (dict(grid=(1, 1, 65536)), INVALID_CONFIGURATION),
    ],
)
def test_limits_of_a_launch(kernels: ctypes.CDLL, shape: dict, expected: int) -> None:
    assert launch(kernels, **shape) == expected
    assert kernels.take_last_error() == expected
    assert kernels.take_last_error() == SUCCESS


def test_more_shared_memory_has_to_be_asked_for(kernels: ctypes.CDLL) -> None:
    usual, most = 48 * 1024, 227 * 1024
    assert launch(kernels, shared_bytes=usual) == SUCCESS
    assert launch(kernels, shared_bytes=usual + 1) == INVALID_VALUE
    assert kernels.allow_nothing(most + 1) == INVALID_VALUE
    assert kernels.allow_nothing(most) == SUCCESS
    assert launch(kernels, shared_bytes=most) == SUCCESS
    assert launch(kernels, shared_bytes=most + 1) == INVALID_VALUE
    assert kernels.allow_nothing(usual) == SUCCESS
    kernels.take_last_error()


def test_no_room_for_a_kernel(kernels: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    launch(kernels)
    monkeypatch.setenv("SPLITOP_EMULATED_KERNELS", "0")
    assert kernels.load_late() == kernels.run_late() == NO_MEMORY
    assert kernels.take_last_error() == NO_MEMORY
    assert launch(kernels) == SUCCESS  # has been loaded before
    monkeypatch.delenv("SPLITOP_EMULATED_KERNELS")
    assert kernels.load_late() == SUCCESS
    monkeypatch.setenv("SPLITOP_EMULATED_KERNELS", "0")
    assert kernels.run_late() == SUCCESS


STATES = {  # what cudaGetDeviceCount and a launch answer, and the driver's version
    "ready": (SUCCESS, SUCCESS, 13000),
    "no_driver": (INSUFFICIENT_DRIVER, INSUFFICIENT_DRIVER, 0),
    "old_driver": (INSUFFICIENT_DRIVER, INSUFFICIENT_DRIVER, 11040),
    "no_device": (NO_DEVICE, NO_DEVICE, 13000),
    "old_device": (SUCCESS, NO_KERNEL_IMAGE, 13000),
    "broken": (UNKNOWN, UNKNOWN, 13000),
}


@pytest.mark.parametrize("state", STATES)
def test_states(kernels: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    monkeypatch.setenv("SPLITOP_EMULATED_CUDA", state)
    count_error, launch_error, driver = STATES[state]
    value = ctypes.c_int(-1)
    assert kernels.get_device_count(ctypes.byref(value)) == count_error
    assert value.value == (1 if count_error == SUCCESS else 0)
    assert kernels.get_driver_version(ctypes.byref(value)) == SUCCESS
    assert value.value == driver
    assert launch(kernels) == launch_error
    assert kernels.get_attribute(ctypes.byref(value), MAJOR, 0) == count_error
    kernels.take_last_error()


def attribute(kernels: ctypes.CDLL, name: int) -> int:
    value = ctypes.c_int(-1)
    assert kernels.get_attribute(ctypes.byref(value), name, 0) == SUCCESS
    return value.value


def test_the_device(kernels: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    name = ctypes.create_string_buffer(256)
    assert kernels.get_name(name) == SUCCESS
    assert name.value == b"Emulated device"
    assert (attribute(kernels, MAJOR), attribute(kernels, MINOR)) == (9, 0)
    assert attribute(kernels, MULTIPROCESSORS) == 4
    assert attribute(kernels, L2) == 2**20
    monkeypatch.setenv("SPLITOP_EMULATED_CUDA", "old_device")
    assert (attribute(kernels, MAJOR), attribute(kernels, MINOR)) == (7, 5)


def test_there_is_one_device(kernels: ctypes.CDLL) -> None:
    assert kernels.get_attribute(ctypes.byref(ctypes.c_int()), MAJOR, 1) == INVALID_DEVICE
    assert kernels.take_last_error() == INVALID_DEVICE
