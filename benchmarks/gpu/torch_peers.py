"""torch as a user would write the step: autograd with a fused optimizer, after or in backward."""

from __future__ import annotations

import itertools
from typing import Any

import torch

from benchmarks.gpu import rules
from benchmarks.gpu.candidate import SetsCandidate
from benchmarks.gpu.cases import Case
from benchmarks.gpu.input_sets import InputSet, Layer
from benchmarks.gpu.torch_device import DTYPES, TorchDevice
from benchmarks.in_backward import update_in_backward

Parameters = list[torch.nn.Parameter]


class _TorchPeer(SetsCandidate):
    """Parameters and optimizer state in the memory of the input sets."""

    def __init__(self, device: TorchDevice, case: Case, sets: list[InputSet]) -> None:
        super().__init__(device, case, sets)
        self._dtype = DTYPES[case.dtype]
        self._optimizers: list[list[torch.optim.Optimizer]] = []

    def set_rate(self, rate: float) -> None:
        for optimizer in (one for of_set in self._optimizers for one in of_set):
            for group in optimizer.param_groups:
                group["lr"] = rate

    def _optimizer(self, parameters: Parameters, slots: list[list[Any]]) -> torch.optim.Optimizer:
        """The fused optimizer of the case's rule, its state in the slots."""
        optimizer = self._make_optimizer(parameters)
        for parameter, of_one in zip(parameters, slots, strict=True):
            if self.case.rule == "momentum":
                optimizer.state[parameter] = {"momentum_buffer": of_one[0]}
            elif of_one:
                optimizer.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": of_one[0],
                    "exp_avg_sq": of_one[1],
                }
        return optimizer

    def _make_optimizer(self, parameters: Parameters) -> torch.optim.Optimizer:
        if not rules.RULES[self.case.rule].slots or self.case.rule == "momentum":
            momentum = rules.MOMENTUM if self.case.rule == "momentum" else 0.0
            return torch.optim.SGD(parameters, lr=rules.TIMED_RATE, momentum=momentum, fused=True)
        return torch.optim.AdamW(
            parameters,
            lr=rules.TIMED_RATE,
            betas=(rules.BETA1, rules.BETA2),
            eps=rules.EPSILON,
            weight_decay=rules.WEIGHT_DECAY if rules.RULES[self.case.rule].decayed else 0.0,
            fused=True,
            capturable=parameters[0].is_cuda,
        )


class TorchWeights(_TorchPeer):
    """One product into a gradient, then the fused optimizer."""

    def __init__(self, device: TorchDevice, case: Case, sets: list[InputSet]) -> None:
        super().__init__(device, case, sets)
        self._parameters = []
        for inputs in sets:
            (layer,) = inputs.layers
            parameter = torch.nn.Parameter(layer.kernel)
            self._parameters.append(parameter)
            self._optimizers.append([self._optimizer([parameter], [layer.kernel_slots])])
        self._wide_product = case.mixed and device.is_gpu and _has_wide_product()

    def run(self, index: int) -> None:
        inputs, parameter = self.sets[index], self._parameters[index]
        if self._wide_product:
            parameter.grad = torch.mm(inputs.x.t(), inputs.seed, out_dtype=torch.float32)
        else:
            parameter.grad = torch.mm(inputs.x.t(), inputs.seed).float()
        self._optimizers[index][0].step()
        parameter.grad = None


class TorchStep(_TorchPeer):
    """Forward, autograd's backward from the seed, then one fused optimizer for all."""

    def __init__(self, device: TorchDevice, case: Case, sets: list[InputSet]) -> None:
        super().__init__(device, case, sets)
        self._parameters = [[_parameters(layer) for layer in inputs.layers] for inputs in sets]
        for inputs, of_set in zip(sets, self._parameters, strict=True):
            self._optimizers.append(self._optimizers_of(inputs, of_set))

    def run(self, index: int) -> None:
        inputs = self.sets[index]
        y = inputs.x
        for kernel, bias in self._parameters[index]:
            y = torch.relu(torch.addmm(bias.to(self._dtype), y, kernel.to(self._dtype)))
        y.backward(inputs.seed)
        self._update(index)

    def _optimizers_of(
        self, inputs: InputSet, parameters: list[Parameters]
    ) -> list[torch.optim.Optimizer]:
        every = itertools.chain.from_iterable
        slots = every((layer.kernel_slots, layer.bias_slots) for layer in inputs.layers)
        return [self._optimizer(list(every(parameters)), list(slots))]

    def _update(self, index: int) -> None:
        (optimizer,) = self._optimizers[index]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


class TorchStepInBackward(TorchStep):
    """Each parameter is updated as soon as its gradient is there, which is then freed."""

    def _optimizers_of(
        self, inputs: InputSet, parameters: list[Parameters]
    ) -> list[torch.optim.Optimizer]:
        optimizers = []
        for layer, of_layer in zip(inputs.layers, parameters, strict=True):
            slots = (layer.kernel_slots, layer.bias_slots)
            for parameter, of_one in zip(of_layer, slots, strict=True):
                optimizers.append(self._optimizer([parameter], [of_one]))
                update_in_backward(parameter, optimizers[-1])
        return optimizers

    def _update(self, index: int) -> None:
        """The hooks have done it."""


def _parameters(layer: Layer) -> Parameters:
    return [torch.nn.Parameter(layer.kernel), torch.nn.Parameter(layer.bias)]


def _has_wide_product() -> bool:
    """Whether torch multiplies bfloat16 matrices into a float32 one, on a GPU."""
    ones = torch.ones(16, 16, dtype=torch.bfloat16, device="cuda")
    try:
        torch.mm(ones, ones, out_dtype=torch.float32)
    except (RuntimeError, TypeError):
        return False
    return True
