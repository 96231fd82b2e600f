"""What the compiled module refuses: an error with the argument's name, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from splitop.lib import _kernels
from tests.kernels.problems import Problem, make_problem, to_kernel_layer

Call = Callable[..., Any]


@pytest.fixture
def problem() -> Problem:
    return make_problem(np.float32, 6, (3, 4, 5), ["relu", "linear"], [True, True], "adam")


def call(problem: Problem, layer: dict[str, Any] | None = None, **arguments: Any) -> Any:
    """Runs the kernel with some arguments, or fields of the top layer, replaced."""
    changes = [layer or {}, {}]
    layers = [to_kernel_layer(one, **c) for one, c in zip(problem.layers, changes, strict=True)]
    given = {"seed": problem.seed, "layers": layers, "rule": problem.rule, "hyper": problem.hyper}
    return _kernels.dense_chain(**{**given, **arguments})


def f32(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


BAD_ARGUMENTS = {
    "seed of another batch": (dict(seed=f32(7, 5)), r"layers\[0\].x must have shape \[7, 4\]"),
    "seed of another width": (dict(seed=f32(6, 4)), r"seed must have shape \[6, 5\]"),
    "seed of rank 1": (dict(seed=f32(6)), r"seed must have 2 dimensions. Received: shape \[6\]"),
    "empty batch": (dict(seed=f32(0, 5)), r"layers\[0\].x must have shape \[0, 4\]"),
    "seed of integers": (
        dict(seed=np.ones((6, 5), np.int32)),
        "bfloat16 or float16.*int32",
    ),
    "no layers": (dict(layers=[]), "layers must not be empty"),
    "unknown rule": (dict(rule="lars"), "one of sgd, momentum, adam, amsgrad"),
    "hyper too short": (dict(hyper=f32(4)), r"hyper must have shape \[5\]. Received: \[4\]"),
    "hyper of float64": (dict(hyper=np.ones(5)), "hyper must have dtype float32.*float64"),
    "no threads": (dict(num_threads=0), "num_threads must be at least 1. Received: 0"),
}
BAD_LAYERS = {
    "x of another batch": (dict(x=f32(7, 4)), r"\.x must have shape \[6, 4\]. Received: \[7, 4\]"),
    "x of float64": (dict(x=np.ones((6, 4))), r"\.x must have dtype float32. Received: float64"),
    "x in column order": (dict(x=np.asfortranarray(f32(6, 4))), "contiguous in row-major order"),
    "kernel of rank 3": (dict(kernel=f32(4, 5, 1)), "kernel must have 2 dimensions"),
    "kernel that does not chain": (dict(kernel=f32(3, 5)), r"x must have shape \[6, 3\]"),
    "too few slots": (dict(kernel_slots=[f32(4, 5)]), "kernel_slots must have 2 arrays"),
    "slot of another shape": (
        dict(kernel_slots=[f32(4, 5), f32(5, 4)]),
        r"kernel_slots\[1\] must have shape \[4, 5\]. Received: \[5, 4\]",
    ),
    "bias of another width": (dict(bias=f32(4)), r"bias must have shape \[5\]. Received: \[4\]"),
    "no reference": (dict(activation="tanh"), "reference must be given for tanh. Received: None"),
    "unknown activation": (dict(activation="mish"), "activation must be one of .*Received: mish"),
}


def state(problem: Problem) -> list[bytes]:
    return [
        array.tobytes()
        for layer in problem.layers
        for array in (layer.kernel, layer.bias, *layer.kernel_slots, *layer.bias_slots)
    ]


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_argument(problem: Problem, case: str) -> None:
    arguments, message = BAD_ARGUMENTS[case]
    before = state(problem)
    with pytest.raises((ValueError, TypeError), match=message):
        call(problem, **arguments)
    assert state(problem) == before


@pytest.mark.parametrize("case", BAD_LAYERS)
def test_bad_layer(problem: Problem, case: str) -> None:
    fields, message = BAD_LAYERS[case]
    before = state(problem)
    with pytest.raises((ValueError, TypeError), match=message):
        call(problem, layer=fields)
    assert state(problem) == before


def test_read_only_variable(problem: Problem) -> None:
    problem.layers[0].kernel.flags.writeable = False
    with pytest.raises(ValueError, match=r"layers\[0\]\.kernel must be writeable"):
        call(problem)


def test_bad_isa_leaves_the_selection() -> None:
    before = _kernels.isa_in_use()
    with pytest.raises(ValueError, match="isa must be one of baseline, avx2, avx512"):
        _kernels.select_isa("mmx")
    assert _kernels.isa_in_use() == before
