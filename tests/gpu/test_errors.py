"""What the CUDA functions refuse: an error with the argument's name, and nothing written."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.accuracy import PRECISIONS
from tests.gpu.chains import CHAIN_RULES, STRATEGIES, fetch, map_layer, to_kernel_layer
from tests.gpu.devices import Device
from tests.gpu.kernels import kernels
from tests.gpu.memory import Memory
from tests.kernels.problems import Problem, make_problem

Put = Callable[[np.ndarray], Any]


class Chain:
    """A chain of two layers on a device, for calls that fail."""

    def __init__(self, device: Device, precision: str = "float32", rule: str = "adam") -> None:
        self.memory = Memory(device)
        self.problem: Problem = make_problem(
            PRECISIONS[precision], 6, (3, 4, 5), ["relu", "linear"], [True, True], rule
        )
        put = self.memory.put
        self.layers = [map_layer(layer, put, put) for layer in self.problem.layers]
        dtype = self.problem.seed.dtype
        self.arguments = {
            "seed": put(self.problem.seed),
            "rule": rule,
            "hyper": put(self.problem.hyper),
            "input_gradient": put(np.zeros((6, 3), dtype)),
        }

    def run(self, layer: dict[str, Any] | None = None, **replaced: Any) -> None:
        """A call with some arguments, or fields of the top layer, replaced."""
        changes = [layer or {}, {}]
        layers = [to_kernel_layer(one, **c) for one, c in zip(self.layers, changes, strict=True)]
        scratch = {"scratch": self.memory.scratch(1 << 20)}
        kernels.cuda_dense_chain(**{**scratch, **self.arguments, "layers": layers, **replaced})

    def assert_refused(
        self, error: type[Exception] | tuple[type[Exception], ...], message: str, **changes: Any
    ) -> None:
        """Asserts that the call raises this and writes nothing."""
        with pytest.raises(error, match=re.escape(message)):
            self.run(**changes)
        for layer, before in zip(self.layers, self.problem.layers, strict=True):
            after = fetch(self.memory, layer, before)
            for name in ("kernel", "bias"):
                np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
                slots = (getattr(of, f"{name}_slots") for of in (after, before))
                for pair in zip(*slots, strict=True):
                    np.testing.assert_array_equal(*pair)
        self.memory.check()


@pytest.fixture
def chain(device: Device) -> Chain:
    return Chain(device)


def f32(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


# Arrays, to be put on the device, or other values.
BAD_ARGUMENTS = {
    "seed of another batch": (dict(seed=f32(7, 5)), "layers[0].x must have shape [7, 4]"),
    "seed of another width": (dict(seed=f32(6, 4)), "seed must have shape [6, 5]"),
    "seed of rank 1": (dict(seed=f32(6)), "seed must have 2 dimensions. Received: shape [6]"),
    "seed of bytes": (
        dict(seed=np.ones((6, 5), np.uint8)),
        "seed must have dtype float32, float64, bfloat16 or float16. Received: uint8",
    ),
    "no layers": (dict(layers=[]), "layers must not be empty"),
    "unknown rule": (dict(rule="lars"), "rule must be one of sgd, momentum, adam, amsgrad"),
    "hyper too short": (dict(hyper=f32(4)), "hyper must have shape [5]. Received: [4]"),
    "hyper of float64": (dict(hyper=np.ones(5)), "hyper must have dtype float32"),
    "input gradient of another shape": (
        dict(input_gradient=f32(6, 4)),
        "input_gradient must have shape [6, 3]. Received: [6, 4]",
    ),
    "input gradient of another dtype": (
        dict(input_gradient=np.ones((6, 3))),
        "input_gradient must have dtype float32. Received: float64",
    ),
    "scratch of floats": (dict(scratch=f32(1 << 18)), "scratch must have dtype uint8"),
    "scratch of rank 2": (
        dict(scratch=np.ones((1 << 10, 1 << 10), np.uint8)),
        "scratch must have shape [1048576]",
    ),
    "unknown strategy": (
        dict(strategy="magic"),
        "strategy must be one of auto, tiles, chunks, accumulate. Received: magic",
    ),
    "no stream": (dict(stream=-1), "stream must be a stream's handle, or 0. Received: -1"),
}
BAD_LAYERS = {
    "x of another batch": (dict(x=f32(7, 4)), "x must have shape [6, 4]. Received: [7, 4]"),
    "x of float64": (dict(x=np.ones((6, 4))), "x must have dtype float32. Received: float64"),
    "x of bfloat16": (
        dict(x=np.ones((6, 4), ml_dtypes.bfloat16)),
        "x must have dtype float32. Received: bfloat16",
    ),
    "kernel of rank 3": (dict(kernel=f32(4, 5, 1)), "kernel must have 2 dimensions"),
    "kernel that does not chain": (dict(kernel=f32(3, 5)), "x must have shape [6, 3]"),
    "slot of another shape": (
        dict(kernel_slots=[f32(4, 5), f32(5, 4)]),
        "kernel_slots[1] must have shape [4, 5]. Received: [5, 4]",
    ),
    "too few slots": (dict(kernel_slots=[f32(4, 5)]), "kernel_slots must have 2 arrays"),
    "bias of another width": (dict(bias=f32(4)), "bias must have shape [5]. Received: [4]"),
    "no reference": (dict(activation="tanh"), "reference must be given for tanh. Received: None"),
    "unknown activation": (dict(activation="mish"), "activation must be one of "),
}


def on_device(put: Put, value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return put(value)
    return [on_device(put, one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_argument(chain: Chain, case: str) -> None:
    changes, message = BAD_ARGUMENTS[case]
    replaced = {name: on_device(chain.memory.put, value) for name, value in changes.items()}
    chain.assert_refused((ValueError, TypeError), message, **replaced)


@pytest.mark.parametrize("case", BAD_LAYERS)
def test_bad_layer(chain: Chain, case: str) -> None:
    changes, message = BAD_LAYERS[case]
    fields = {name: on_device(chain.memory.put, value) for name, value in changes.items()}
    message = f"layers[0].{message}" if "activation must" not in message else message
    chain.assert_refused((ValueError, TypeError), message, layer=fields)


def test_host_array(real_gpu: Device) -> None:
    """NumPy's arrays have DLPack too."""
    message = "layers[0].x must be in a CUDA device's memory. Received: an array on cpu"
    Chain(real_gpu).assert_refused(ValueError, message, layer={"x": f32(6, 4)})


@pytest.mark.parametrize("rule", CHAIN_RULES)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("strategy", ["chunks", "accumulate"])
def test_strategies_that_need_cublas(
    device: Device, rule: str, precision: str, strategy: str
) -> None:
    chain = Chain(device, precision, rule)
    chain.assert_refused(NotImplementedError, "not supported", strategy=strategy, use_cublas=False)


@pytest.mark.parametrize("rule", ["momentum", "adam"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_accumulate_is_for_sgd(device: Device, rule: str, precision: str) -> None:
    chain = Chain(device, precision, rule)
    chain.assert_refused(NotImplementedError, "not supported", strategy="accumulate")


def test_no_gradient_that_was_kept(chain: Chain) -> None:
    gradient = chain.memory.put(f32(4, 5))
    chain.assert_refused(
        NotImplementedError, "not supported", layer={"kernel_gradient": gradient}, rule="adam"
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_too_little_scratch(device: Device, strategy: str) -> None:
    chain = Chain(device, rule="sgd")
    layers = [to_kernel_layer(layer) for layer in chain.layers]
    options = STRATEGIES[strategy]
    needed = kernels.cuda_dense_chain_scratch_bytes(**chain.arguments, layers=layers, **options)
    assert needed > 0
    for scratch in (None, chain.memory.scratch(needed - 1)):
        chain.assert_refused(
            ValueError,
            f"scratch must have at least {needed} bytes. Received: ",
            scratch=scratch,
            **options,
        )
    chain.run(scratch=chain.memory.scratch(needed), **options)


def test_unaligned_scratch(chain: Chain) -> None:
    scratch = chain.memory.scratch(1 << 20)[1:]
    message = "scratch must be aligned to 256 bytes. Received: an array that is not"
    chain.assert_refused(ValueError, message, scratch=scratch, use_cublas=False)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_needs_copies_of_the_kernels(device: Device, precision: str) -> None:
    chain = Chain(device, precision)
    message = f"layers[0].kernel_copy must be given for {precision} where dL/dx is computed"
    chain.assert_refused(ValueError, message, layer={"kernel_copy": None})


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("field", ["kernel", "bias", "kernel_copy"])
def test_variables_of_another_dtype(device: Device, precision: str, field: str) -> None:
    chain = Chain(device, precision)
    value = getattr(chain.problem.layers[0], field).astype(np.float64)
    expected = precision if field == "kernel_copy" else "float32"
    message = f"layers[0].{field} must have dtype {expected}. Received: float64"
    chain.assert_refused(TypeError, message, layer={field: chain.memory.put(value)})


def test_read_only_variable(device: Device) -> None:
    """Only NumPy's arrays can be read-only among those that the tests have."""
    if device.name != "emulation":
        pytest.skip("torch and CuPy have no read-only arrays; test_protocols.py has some")
    chain = Chain(device)
    chain.layers[0].kernel.flags.writeable = False
    chain.assert_refused(ValueError, "layers[0].kernel must be writeable")
