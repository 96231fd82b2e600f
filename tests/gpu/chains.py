"""Runs dense chains of tests/kernels on a device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests import oracle
from tests.accuracy import PRECISIONS, assert_accurate, few_ulp, results
from tests.gpu.devices import Device
from tests.gpu.kernels import kernels
from tests.gpu.memory import Memory
from tests.kernels import plain
from tests.kernels.problems import Problem

STEPS = 5

# What the kernels are asked for; "auto" takes one of the others by shape and device.
STRATEGIES: dict[str, dict[str, Any]] = {
    "tiles": dict(strategy="tiles", use_cublas=False),
    "tiles, cuBLAS": dict(strategy="tiles"),
    "chunks": dict(strategy="chunks"),
    "accumulate": dict(strategy="accumulate"),
    "auto": dict(strategy="auto"),
    "auto, no cuBLAS": dict(strategy="auto", use_cublas=False),
}


CHAIN_RULES = ("sgd", "momentum", "adam")  # those that the chain is compiled for


def rule_for(strategy: str) -> str:
    """The rule with the most slots that the strategy takes."""
    return "sgd" if strategy == "accumulate" else "adam"


def supported(strategy: str, problem: Problem) -> bool:
    """Whether the strategy can be had: a chunk has at least one row, and never all of them."""
    if strategy == "accumulate":
        return problem.rule == "sgd"
    return strategy != "chunks" or all(layer.kernel.shape[0] > 1 for layer in problem.layers)


def options_for(precision: str, strategy: str) -> dict[str, Any]:
    """Arguments of cuda_dense_chain."""
    return {**STRATEGIES[strategy], "allow_tf32": precision == "tf32"}


def map_layer(
    layer: oracle.Layer,
    variable: Callable[[np.ndarray], Any],
    tensor: Callable[[np.ndarray], Any],
) -> oracle.Layer:
    """The layer with its arrays replaced."""

    def maybe(function: Callable[[np.ndarray], Any], array: np.ndarray | None) -> Any:
        return None if array is None else function(array)

    return dataclasses.replace(
        layer,
        x=tensor(layer.x),
        reference=maybe(tensor, layer.reference),
        kernel=variable(layer.kernel),
        bias=maybe(variable, layer.bias),
        kernel_slots=tuple(variable(slot) for slot in layer.kernel_slots),
        bias_slots=tuple(variable(slot) for slot in layer.bias_slots),
        kernel_copy=maybe(tensor, layer.kernel_copy),
    )


def to_kernel_layer(layer: oracle.Layer, **changes: Any) -> Any:
    """The layer as the compiled module takes it; its arrays are shared."""
    fields = {f.name: getattr(layer, f.name) for f in dataclasses.fields(layer)}
    return kernels.Layer(**{**fields, **changes})


def run_chain(
    device: Device,
    problem: Problem,
    layers: Sequence[oracle.Layer] | None = None,
    *,
    offsets: Sequence[int] = (0,),
    input_gradient: bool = True,
    scratch_fill: int = 0xFF,
    **options: Any,
) -> tuple[list[oracle.Layer], np.ndarray | None]:
    """One step on copies of the arrays, as the oracle returns it."""
    layers = layers or problem.layers
    like = np.full((problem.seed.shape[0], layers[-1].kernel.shape[0]), np.nan, problem.seed.dtype)
    memory = Memory(device, offsets)

    def constant(array: np.ndarray) -> Any:
        return memory.put(array, constant=True)

    with device.stream() as stream:
        after = [map_layer(layer, memory.put, constant) for layer in layers]
        gradient = memory.put(like) if input_gradient else None
        call = {
            "seed": constant(problem.seed),
            "layers": [to_kernel_layer(layer) for layer in after],
            "rule": problem.rule,
            "hyper": constant(problem.hyper),
            "input_gradient": gradient,
            "stream": stream,
            **options,
        }
        size = kernels.cuda_dense_chain_scratch_bytes(**call)
        kernels.cuda_dense_chain(**call, scratch=memory.scratch(size, scratch_fill))
    memory.check()
    fetched = [fetch(memory, of, like_) for of, like_ in zip(after, layers, strict=True)]
    return fetched, None if gradient is None else memory.get(gradient, like)


def fetch(memory: Memory, layer: oracle.Layer, like: oracle.Layer) -> oracle.Layer:
    """The layer with the variables and slots that the device has."""
    kernel_slots = zip(layer.kernel_slots, like.kernel_slots, strict=True)
    bias_slots = zip(layer.bias_slots, like.bias_slots, strict=True)
    return dataclasses.replace(
        like,
        kernel=memory.get(layer.kernel, like.kernel),
        bias=None if like.bias is None else memory.get(layer.bias, like.bias),
        kernel_slots=tuple(memory.get(*pair) for pair in kernel_slots),
        bias_slots=tuple(memory.get(*pair) for pair in bias_slots),
    )


def assert_steps_accurate(
    device: Device, problem: Problem, precision: str, *, steps: int = STEPS, **options: Any
) -> None:
    """Steps in a row, each compared from the state that the device's last one left."""
    layers: Sequence[oracle.Layer] = problem.layers
    for _ in range(steps):
        step = (problem.seed, layers, problem.rule, problem.hyper)
        received, gradient = run_chain(device, problem, layers, **options)
        assert_accurate(
            results(received, gradient),
            results(*plain.dense_chain(*step, tf32=precision == "tf32")),
            results(*oracle.dense_chain(*step)),
            few_ulp(*step, PRECISIONS[precision]),
        )
        layers = [forward(layer) for layer in received]


def forward(layer: oracle.Layer) -> oracle.Layer:
    """What the next forward pass reads is the updated kernel."""
    if layer.kernel_copy is None:
        return layer
    return dataclasses.replace(layer, kernel_copy=layer.kernel.astype(layer.kernel_copy.dtype))
