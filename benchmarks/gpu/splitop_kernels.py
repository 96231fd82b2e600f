"""splitop's CUDA kernels through the compiled module, by each strategy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from benchmarks.gpu import rules
from benchmarks.gpu.candidate import Absent, SetsCandidate
from benchmarks.gpu.cases import WEIGHTS, Case
from benchmarks.gpu.device import Array, Device
from benchmarks.gpu.input_sets import InputSet
from splitop.lib import _kernels

AUTO = "auto"
STRATEGIES = (AUTO, "tiles", "chunks", "accumulate")


class SplitopKernels(SetsCandidate):
    """The dense chain; in "step" cases after a forward pass by the device's library."""

    def __init__(
        self, device: Device, case: Case, sets: list[InputSet], strategy: str = AUTO
    ) -> None:
        super().__init__(device, case, sets)
        self._options = {
            "rule": rules.RULES[case.rule].kernel_rule,
            "hyper": device.vector(rules.hyper(case.rule, rules.TIMED_RATE)),
            "allow_tf32": case.precision == "tf32",
            "strategy": strategy,
        }
        self._scratch_bytes = self._call(_kernels.cuda_dense_chain_scratch_bytes, 0)
        try:
            self.run(0)
        except NotImplementedError as error:
            raise Absent(f"not for this case: {error}") from error

    def set_rate(self, rate: float) -> None:
        self.device.assign(self._options["hyper"], rules.hyper(self.case.rule, rate))

    def run(self, index: int) -> None:
        scratch = self.device.scratch(self._scratch_bytes)
        self._call(_kernels.cuda_dense_chain, index, scratch=scratch)

    def _call(self, function: Callable[..., Any], index: int, **more: Any) -> Any:
        seed, layers = self.sets[index].seed, self._layers(self.sets[index])
        return function(seed, layers, stream=self.device.stream(), **self._options, **more)

    def _layers(self, inputs: InputSet) -> list[Any]:
        """What the kernels take, from the top down."""
        decayed = rules.RULES[self.case.rule].decayed
        if self.case.kind == WEIGHTS:
            (layer,) = inputs.layers
            return [
                _kernels.Layer(inputs.x, layer.kernel, layer.kernel_slots, kernel_decayed=decayed)
            ]
        activations = [inputs.x]
        layers = []
        for layer in inputs.layers:
            kernel = self._cast(layer.kernel)
            y = self.device.dense(activations[-1], kernel, self._cast(layer.bias))
            layers.append(
                _kernels.Layer(
                    activations[-1],
                    layer.kernel,
                    layer.kernel_slots,
                    bias=layer.bias,
                    bias_slots=layer.bias_slots,
                    activation="relu",
                    reference=y,
                    kernel_decayed=decayed,
                    bias_decayed=decayed,
                    kernel_copy=kernel if self.case.mixed else None,
                )
            )
            activations.append(y)
        return layers[::-1]

    def _cast(self, variable: Array) -> Array:
        return self.device.cast(variable, self.case.dtype) if self.case.mixed else variable


def plan(case: Case) -> tuple[str, dict[str, float]]:
    """The strategy that the dispatch takes for a layer, and the seconds it expects of each."""
    (device, *_) = _kernels.cuda_devices()
    made = _kernels.cuda_plan(
        device,
        case.batch,
        case.width,
        case.width,
        dtype=case.dtype,
        rule=rules.RULES[case.rule].kernel_rule,
        allow_tf32=case.precision == "tf32",
        use_cublas=_kernels.has_cublas(),
    )
    expected = {
        name: seconds
        for name, seconds in made["expected_seconds"].items()
        if name != AUTO and math.isfinite(seconds)
    }
    return made["strategy"], expected
