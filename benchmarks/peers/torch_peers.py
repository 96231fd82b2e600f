"""torch: autograd with the fused optimizers, after the backward pass or inside it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.in_backward import update_in_backward
from benchmarks.peers import rules
from benchmarks.peers.cases import (
    ADAGRAD,
    ADAM,
    MOMENTUM,
    ROWS_LOOKED_UP,
    SGD,
    Convolutions,
    Dense,
    Embedding,
    Part,
    Transformer,
)
from benchmarks.peers.peer import Peer

torch.set_num_threads(len(os.sched_getaffinity(0)))
Tensor = torch.Tensor


class Torch(Peer):
    """One optimizer for all parameters; a table's gradient is sparse where the rule allows it."""

    def __init__(self, part: Part, rule: str) -> None:
        self._part = PARTS[type(part)](part, rule)
        self._rule = rule
        self._batches = [
            (self._part.input(torch.from_numpy(x)), torch.from_numpy(seed))
            for x, seed in zip(part.inputs(), part.seeds(), strict=True)
        ]
        self._parameters: list[torch.nn.Parameter] = []
        self._optimizers: list[torch.optim.Optimizer] = []

    def step(self, batch: int) -> None:
        x, seed = self._batches[batch]
        self._part.forward(self._parameters, x).backward(seed)
        self._update()

    def weights(self) -> list[np.ndarray]:
        weights = self._part.to_keras([p.detach().numpy() for p in self._parameters])
        return [np.array(w, order="C") for w in weights]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        values = [torch.from_numpy(np.array(w, order="C")) for w in self._part.to_torch(weights)]
        if not self._parameters:
            self._parameters = [torch.nn.Parameter(self._part.laid_out(w)) for w in values]
            self._optimizers = self._make_optimizers()
        with torch.no_grad():
            for parameter, value in zip(self._parameters, values, strict=True):
                parameter.copy_(value)

    def _make_optimizers(self) -> list[torch.optim.Optimizer]:
        table = self._parameters[: 1 if self._part.has_sparse_table else 0]
        groups = [group for group in (table, self._parameters[len(table) :]) if group]
        return [optimizer(self._rule, group, group is not table) for group in groups]

    def _update(self) -> None:
        for one in self._optimizers:
            one.step()
            one.zero_grad(set_to_none=True)


class TorchInBackward(Torch):
    """Each parameter is updated as soon as its gradient is there, which is then freed."""

    def _make_optimizers(self) -> list[torch.optim.Optimizer]:
        optimizers = []
        for index, parameter in enumerate(self._parameters):
            fused = not (self._part.has_sparse_table and index == 0)
            own = optimizer(self._rule, [parameter], fused)
            update_in_backward(parameter, own)
            optimizers.append(own)
        return optimizers

    def _update(self) -> None:
        """The hooks have done it."""


def optimizer(rule: str, parameters: list[Any], fused: bool) -> torch.optim.Optimizer:
    """The rule; its fused kernel takes no sparse gradients."""
    rate = rules.RATE[rule]
    optim = torch.optim
    if rule in (SGD, MOMENTUM):
        momentum = rules.MOMENTUM_FACTOR if rule == MOMENTUM else 0.0
        return optim.SGD(parameters, rate, momentum, fused=fused)
    if rule == ADAGRAD:
        return optim.Adagrad(
            parameters,
            rate,
            initial_accumulator_value=rules.INITIAL_ACCUMULATOR,
            eps=rules.EPSILON,
            fused=fused,
        )
    betas = (rules.BETA1, rules.BETA2)
    if rule == ADAM:
        return optim.Adam(parameters, rate, betas, rules.EPSILON, fused=fused)
    return optim.AdamW(
        parameters, rate, betas, rules.EPSILON, weight_decay=rules.WEIGHT_DECAY, fused=fused
    )


class DensePart:
    """Linear layers: torch has the units first."""

    has_sparse_table = False

    def __init__(self, part: Any, rule: str) -> None:
        self.part = part

    def input(self, x: Tensor) -> Tensor:
        return x

    def laid_out(self, weight: Tensor) -> Tensor:
        """A copy in the memory layout that torch is fastest with."""
        return weight.clone()

    def forward(self, w: list[Any], x: Tensor) -> Tensor:
        for kernel, bias in zip(w[::2], w[1::2], strict=True):
            x = F.relu(F.linear(x, kernel, bias))
        return x

    def to_torch(self, weights: list[np.ndarray]) -> list[np.ndarray]:
        return [w.T for w in weights]

    def to_keras(self, weights: list[np.ndarray]) -> list[np.ndarray]:
        return [w.T for w in weights]


class EmbeddingPart(DensePart):
    """The table comes first and stays as it is."""

    def __init__(self, part: Embedding, rule: str) -> None:
        super().__init__(part, rule)
        self.has_sparse_table = rule in ROWS_LOOKED_UP

    def forward(self, w: list[Any], x: Tensor) -> Tensor:
        rows = F.embedding(x, w[0], sparse=self.has_sparse_table)
        return F.relu(F.linear(rows.flatten(1), w[1], w[2]))

    def to_torch(self, weights: list[np.ndarray]) -> list[np.ndarray]:
        return [weights[0], *super().to_torch(weights[1:])]

    def to_keras(self, weights: list[np.ndarray]) -> list[np.ndarray]:
        return self.to_torch(weights)


class TransformerPart(DensePart):
    """Query, key and value are one product, as in torch.nn.MultiheadAttention."""

    def forward(self, w: list[Any], x: Tensor) -> Tensor:
        inputs, output, gamma1, beta1, up, up_bias, down, down_bias, gamma2, beta2 = w
        batch, length, width = x.shape
        packed = F.linear(x, inputs).view(batch, length, 3, self.part.heads, -1)
        q, k, v = packed.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        projected = F.linear(attended.reshape(batch, length, width), output)
        h = F.layer_norm(x + projected, (width,), gamma1, beta1, 1e-3)
        mlp = F.linear(F.relu(F.linear(h, up, up_bias)), down, down_bias)
        return F.layer_norm(h + mlp, (width,), gamma2, beta2, 1e-3)

    def to_torch(self, weights: list[np.ndarray]) -> list[np.ndarray]:
        *qkv, output = (w.reshape(-1, self.part.width) for w in weights[:4])
        packed = np.concatenate([w.reshape(self.part.width, -1).T for w in qkv])
        return [packed, output.T, *(w.T for w in weights[4:])]

    def to_keras(self, weights: list[np.ndarray]) -> list[np.ndarray]:
        width, heads = self.part.width, self.part.heads
        qkv = [w.T.reshape(width, heads, -1) for w in np.split(weights[0], 3)]
        output = weights[1].T.reshape(heads, -1, width)
        return [*qkv, output, *(w.T for w in weights[2:])]


class ConvolutionsPart(DensePart):
    """In channels-last memory, the faster one on CPUs, which also keeps Keras' order of units."""

    def input(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)

    def laid_out(self, weight: Tensor) -> Tensor:
        if weight.dim() == 4:
            return weight.clone(memory_format=torch.channels_last)
        return weight.clone()

    def forward(self, w: list[Any], x: Tensor) -> Tensor:
        h = F.max_pool2d(F.relu(F.conv2d(x, w[0], w[1])), 2)
        h = F.relu(F.conv2d(h, w[2], w[3])).permute(0, 2, 3, 1)
        return F.relu(F.linear(h.flatten(1), w[4], w[5]))

    def to_torch(self, weights: list[np.ndarray]) -> list[np.ndarray]:
        return [w.transpose(3, 2, 0, 1) if w.ndim == 4 else w.T for w in weights]

    def to_keras(self, weights: list[np.ndarray]) -> list[np.ndarray]:
        return [w.transpose(2, 3, 1, 0) if w.ndim == 4 else w.T for w in weights]


PARTS: dict[type, Any] = {
    Dense: DensePart,
    Embedding: EmbeddingPart,
    Transformer: TransformerPart,
    Convolutions: ConvolutionsPart,
}
