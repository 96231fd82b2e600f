"""Dense layers in a gradient graph, and the chains that they form."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from splitop._src.graph.activations import Activation, match_activation
from splitop._src.graph.dense import BiasGradient, InputGradient, KernelGradient
from splitop._src.graph.devices import Place
from splitop._src.graph.gradient_graph import GradientGraph


@dataclasses.dataclass(frozen=True, eq=False)
class DenseLayer:
    """A dense layer's backward pass: what the fused op takes over, and what it is given.

    Attributes:
        kernel: Index of its kernel in the variable list.
        bias: Index of its bias, or None.
        place: Where its variables are.
        inputs: How many inputs it has.
        outputs: How many outputs.
        x: Its input; as a matrix [rows, inputs].
        activation: The activation whose gradient the op computes; None if it starts at dL/dz.
        top: The gradient that the op is given, dL/dy or dL/dz; as a matrix [rows, outputs].
        input_gradient: dL/dx, where something needs it.
        input_gradient_is_matrix: Whether that is [rows, inputs]; else it has the shape of x.
        kernel_copy: In mixed precision, what dL/dx is computed from; else None.
        entry: The ops that use `top` and are taken over; none where there are `others`.
        others: Where the layer is used in several places, x and `top` of each other one. It is then
            a chain by itself, which starts at dL/dz and ends at the kernel.
    """

    kernel: int
    bias: int | None
    place: Place
    inputs: int
    outputs: int
    x: Any
    activation: Activation | None
    top: Any
    input_gradient: Any | None
    input_gradient_is_matrix: bool
    kernel_copy: Any | None
    entry: frozenset[Any]
    others: tuple[tuple[Any, Any], ...] = ()

    @property
    def variables(self) -> list[int]:
        """Indices of its kernel and bias."""
        return [self.kernel] if self.bias is None else [self.kernel, self.bias]

    @property
    def xs(self) -> list[Any]:
        """Its input in every place where it is used."""
        return [self.x, *(x for x, _ in self.others)]

    @property
    def tops(self) -> list[Any]:
        """The gradient that the op is given, for every place."""
        return [self.top, *(top for _, top in self.others)]

    @property
    def forward_tensors(self) -> list[Any]:
        """What its backward pass reads of the forward pass."""
        reference = None if self.activation is None else self.activation.reference
        read = (*self.xs, reference, self.kernel_copy)
        return [tensor for tensor in read if tensor is not None]


def read_layer(
    gradients: GradientGraph,
    kernel: tuple[int, KernelGradient],
    bias: tuple[int, BiasGradient] | None,
    below: InputGradient | None,
    place: Place,
) -> DenseLayer:
    """Puts a layer together, with its activation if nothing else needs dL/dz."""
    index, product = kernel
    own = {product.op}
    if bias is not None:
        own.add(bias[1].op)
    if below is not None and below.op in gradients.kept:
        below = None
    if below is not None:
        own.add(below.op)
    root = gradients.root(product.output_gradient)
    activation = None if product.others else match_activation(gradients, root)
    if activation is not None:
        needed_elsewhere = activation.ops & gradients.kept or not own.issuperset(
            gradients.consumers(root)
        )
        if needed_elsewhere:
            activation = None
    return DenseLayer(
        kernel=index,
        bias=None if bias is None else bias[0],
        place=place,
        inputs=product.inputs,
        outputs=product.outputs,
        x=product.x,
        activation=activation,
        top=root if activation is None else gradients.root(activation.upstream),
        input_gradient=None if below is None else below.tensor,
        input_gradient_is_matrix=below is not None and below.is_matrix,
        kernel_copy=below.factor if below is not None and below.is_copy else None,
        entry=_entry(product, own, activation),
        others=tuple((each.x, gradients.root(each.output_gradient)) for each in product.others),
    )


def _entry(product: KernelGradient, own: set[Any], activation: Activation | None) -> frozenset[Any]:
    """The ops that use a layer's `top` and are taken over."""
    if product.others:
        return frozenset()
    return frozenset(own) if activation is None else activation.ops


def link_chains(
    gradients: GradientGraph, layers: Sequence[DenseLayer]
) -> tuple[tuple[DenseLayer, ...], ...]:
    """Joins each layer with the one right below it on its device, if nothing stands between."""
    below = {}
    for upper in layers:
        lower = _layer_below(gradients, upper, layers)
        if lower is not None:
            below[upper.kernel] = lower
    linked = {lower.kernel for lower in below.values()}
    chains = []
    for top in layers:
        if top.kernel in linked:
            continue
        chain = [top]
        while chain[-1].kernel in below:
            chain.append(below[chain[-1].kernel])
        chains.append(tuple(chain))
    return tuple(chains)


def _layer_below(
    gradients: GradientGraph, upper: DenseLayer, layers: Sequence[DenseLayer]
) -> DenseLayer | None:
    if upper.input_gradient is None:
        return None
    users = gradients.consumers(upper.input_gradient)
    for lower in layers:
        joins = lower.top is upper.input_gradient and lower.outputs == upper.inputs
        if joins and lower.place == upper.place and lower.entry.issuperset(users):
            return lower
    return None
