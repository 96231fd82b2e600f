"""JAX: the whole step in one jit, weights and state donated."""

from __future__ import annotations

import os
from typing import Any

# JAX would take most of the GPU's memory at once.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu import rules, timing
from benchmarks.gpu.candidate import Absent, SetsCandidate
from benchmarks.gpu.cases import Case
from benchmarks.gpu.device import Array, Device, Work, host_seconds
from benchmarks.gpu.input_sets import InputSet

# Per layer [kernel, bias], and for each of those the slots.
State = tuple[list[list[Any]], list[list[list[Any]]]]


class JaxStep(SetsCandidate):
    """Holds copies of the sets: what is donated belongs to JAX."""

    block_seconds = timing.HOST_BLOCK_SECONDS

    def __init__(self, device: Device, case: Case, sets: list[InputSet]) -> None:
        super().__init__(device, case, sets)
        if _is_on_gpu(sets[0].x) and jax.default_backend() != "gpu":
            raise Absent("JAX sees no GPU")
        self.how = "host"
        self._states = [_state(inputs) for inputs in sets]
        self._inputs = [(_to_jax(inputs.x), _to_jax(inputs.seed)) for inputs in sets]
        self._hyper = jnp.asarray(rules.hyper(case.rule, rules.TIMED_RATE), jnp.float32)
        self._compiled = self._compile()

    def run(self, index: int) -> None:
        x, seed = self._inputs[index]
        self._states[index] = self._compiled(self._states[index], x, seed, self._hyper)

    def set_rate(self, rate: float) -> None:
        self._hyper = jnp.asarray(rules.hyper(self.case.rule, rate), jnp.float32)

    def load(self, variables: list[Array]) -> None:
        super().load(variables)
        self._states[0] = _state(self.sets[0])

    def variables(self) -> list[Array]:
        """Through the first set's arrays, which are the device's."""
        arrays = []
        for (kernel, bias), (kernel_slots, bias_slots) in zip(*self._states[0], strict=True):
            arrays += [kernel, bias, *kernel_slots, *bias_slots]
        for variable, array in zip(self.sets[0].variables(), arrays, strict=True):
            self.device.assign(variable, _from_jax(array, variable))
        self.device.synchronize()
        return self.sets[0].variables()

    def prepare(self) -> Work:
        self.run_all()
        return self.run_all

    def seconds(self, work: Work) -> float:
        self.device.synchronize()

        def finished() -> None:
            work()
            jax.block_until_ready(self._states)

        return host_seconds(finished)

    def peak_bytes(self) -> int | None:
        """What the compiler says that it takes beside arguments and results."""
        memory = self._compiled.memory_analysis()
        if memory is None or not _is_on_gpu(self.sets[0].x):
            return None
        new_results = memory.output_size_in_bytes - memory.alias_size_in_bytes
        return int(memory.temp_size_in_bytes + new_results)

    def _compile(self) -> Any:
        precision = "tensorfloat32" if self.case.precision == "tf32" else "highest"
        step = jax.jit(self._step, donate_argnums=0)
        with jax.default_matmul_precision(precision):
            return step.lower(self._states[0], *self._inputs[0], self._hyper).compile()

    def _step(self, state: State, x: Any, seed: Any, hyper: Any) -> State:
        parameters, slots = state
        _, pull_back = jax.vjp(lambda p: self._forward(p, x), parameters)
        (gradients,) = pull_back(seed)
        new_parameters, new_slots = [], []
        for of_layer in zip(parameters, slots, gradients, strict=True):
            updated = [self._update(*one, hyper) for one in zip(*of_layer, strict=True)]
            new_parameters.append([value for value, _ in updated])
            new_slots.append([of_one for _, of_one in updated])
        return new_parameters, new_slots

    def _forward(self, parameters: list[list[Any]], x: Any) -> Any:
        dtype = self.case.dtype
        for kernel, bias in parameters:
            x = jax.nn.relu(x @ kernel.astype(dtype) + bias.astype(dtype))
        return x

    def _update(self, w: Any, slots: list[Any], g: Any, hyper: Any) -> tuple[Any, list[Any]]:
        """csrc/include/splitop/update_rule.h"""
        w = w - hyper[0] * w
        if self.case.rule == "sgd":
            return w - hyper[1] * g, []
        if self.case.rule == "momentum":
            m = hyper[1] * slots[0] + hyper[2] * g
            return w + hyper[3] * m + hyper[4] * g, [m]
        m = slots[0] + (g - slots[0]) * hyper[2]
        v = slots[1] + (g * g - slots[1]) * hyper[3]
        return w - m * hyper[1] / (jnp.sqrt(v) + hyper[4]), [m, v]


def _state(inputs: InputSet) -> State:
    parameters = [[_to_jax(layer.kernel), _to_jax(layer.bias)] for layer in inputs.layers]
    slots = [
        [list(map(_to_jax, of_one)) for of_one in (layer.kernel_slots, layer.bias_slots)]
        for layer in inputs.layers
    ]
    return parameters, slots


def _is_on_gpu(array: Array) -> bool:
    return bool(getattr(array, "is_cuda", False))


def _to_jax(array: Array) -> Any:
    """A copy."""
    if isinstance(array, np.ndarray):
        return jnp.array(array)
    return jnp.copy(jnp.from_dlpack(array))


def _from_jax(array: Any, like: Array) -> Array:
    array.block_until_ready()
    if isinstance(like, np.ndarray):
        return np.asarray(array)
    import torch

    return torch.from_dlpack(array)
