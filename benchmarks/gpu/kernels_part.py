"""The kernels' part: splitop's kernels against torch and JAX, without TensorFlow."""

from __future__ import annotations

import importlib
from collections.abc import Container

from benchmarks.gpu import costs
from benchmarks.gpu.candidate import Candidate
from benchmarks.gpu.cases import STEP, WEIGHTS, Case
from benchmarks.gpu.device import Device
from benchmarks.gpu.input_sets import InputSet, leaves_cache, make_input_sets
from benchmarks.gpu.results import Record
from benchmarks.gpu.run import Factory, compare_candidates
from benchmarks.gpu.splitop_kernels import STRATEGIES, SplitopKernels, plan
from benchmarks.gpu.timing import ROUNDS

SPLITOP = "splitop"
TORCH = "torch"
TORCH_IN_BACKWARD = "torch in backward"
JAX = "jax"
PEERS = {TORCH: "benchmarks.gpu.torch_peers", JAX: "benchmarks.gpu.jax_peer"}


def absent() -> dict[str, str]:
    """The peers that are not here, and why."""
    reasons = {}
    for name, module in PEERS.items():
        try:
            importlib.import_module(module)
        except Exception as error:  # a broken installation fails in many ways
            reasons[name] = f"{type(error).__name__}: {error}"
    return reasons


class KernelsComparison:
    """Implements run.Comparison."""

    def __init__(
        self, device: Device, limits: costs.Limits, absent: Container[str], rounds: int = ROUNDS
    ) -> None:
        self._device = device
        self._limits = limits
        self._rounds = rounds
        self._absent = absent

    def __call__(self, case: Case) -> Record:
        device = self._device
        with device.precision(case.precision):
            sets = make_input_sets(device, case)
            before = [device.clone(variable) for variable in sets[0].variables()]
            factories = self._factories(case, sets)
            results = compare_candidates(device, case, factories, before, len(sets), self._rounds)
        picked, expected = plan(case) if case.kind == WEIGHTS else (None, {})
        return Record(
            case,
            results,
            costs.floor(case, self._limits),
            sets=len(sets),
            cold=leaves_cache(device, case, len(sets)),
            picked=picked,
            expected=expected,
        )

    def _factories(self, case: Case, sets: list[InputSet]) -> dict[str, Factory]:
        device = self._device

        def splitop(strategy: str) -> Factory:
            return lambda: SplitopKernels(device, case, sets, strategy)

        factories = {
            (SPLITOP if strategy == "auto" else strategy): splitop(strategy)
            for strategy in (STRATEGIES if case.kind == WEIGHTS else STRATEGIES[:1])
            if strategy != "accumulate" or case.rule == "sgd"
        }
        if TORCH not in self._absent:
            factories |= self._torch(case, sets)
        if JAX not in self._absent and case.kind == STEP:
            factories[JAX] = lambda: _jax(device, case, sets)
        return factories

    def _torch(self, case: Case, sets: list[InputSet]) -> dict[str, Factory]:
        from benchmarks.gpu import torch_peers
        from benchmarks.gpu.torch_device import TorchDevice

        device = self._device
        assert isinstance(device, TorchDevice), "torch's tensors hold the sets if it is there"
        if case.kind == WEIGHTS:
            return {TORCH: lambda: torch_peers.TorchWeights(device, case, sets)}
        return {
            TORCH: lambda: torch_peers.TorchStep(device, case, sets),
            TORCH_IN_BACKWARD: lambda: torch_peers.TorchStepInBackward(device, case, sets),
        }


def _jax(device: Device, case: Case, sets: list[InputSet]) -> Candidate:
    from benchmarks.gpu.jax_peer import JaxStep

    return JaxStep(device, case, sets)
