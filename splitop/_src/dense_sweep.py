"""The typed wrappers of the compiled ops `Splitop>DenseSweep` and `Splitop>SquaredNorms`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from splitop._src import library
from splitop._src.ops import LayerArgs, check_chain, resource_handle


@dataclasses.dataclass(frozen=True, eq=False)
class Sweep:
    """What a sweep down a chain gives.

    Attributes:
        gradients: dL/dz of each layer, [batch, outputs].
        input_gradient: dL/dx of the last layer, [batch, inputs]; None if not wanted.
        squared_norms: Of the gradients of the kernels, then of the biases that the layers have or
            might have, [2, layers] of float64; None without norms.
        kernel_gradients: The gradient of each kernel if it is worth keeping for its update, of the
            kernel's dtype: [inputs, outputs], or empty; nothing if they are not asked for.
    """

    gradients: tuple[tf.Tensor, ...]
    input_gradient: tf.Tensor | None
    squared_norms: tf.Tensor | None
    kernel_gradients: tuple[tf.Tensor, ...]


def dense_sweep(
    seed: tf.Tensor,
    layers: Sequence[LayerArgs],
    *,
    norms: str,
    input_gradient: bool,
    keep: bool,
    seed_name: str,
    name: str | None = None,
) -> Sweep:
    """Adds the op that runs the seeded backward pass of a chain, and updates nothing.

    Arguments, checks and errors are those of `dense_chain`; of the variables only the kernels are
    read.

    Args:
        seed: dL/dy of the first layer, [batch, outputs].
        layers: The layers from the top down.
        norms: "none"; "exact"; or "bounds": upper bounds, finite only if all gradients are.
        input_gradient: Whether dL/dx of the last layer is wanted.
        keep: Whether gradients of kernels that are made for the sake of their norms are kept; only
            if these are exact.
        seed_name: What the user calls the seed; for messages.
        name: Name of the operation.
    """
    check_chain("dense_sweep", seed, layers, seed_name)
    gradients, below, squared, kept = library.load().splitop_dense_sweep(
        seed=seed,
        layer_inputs=[layer.x for layer in layers],
        references=[layer.reference for layer in layers if layer.reference is not None],
        kernel_copies=[layer.kernel_copy for layer in layers if layer.kernel_copy is not None],
        kernels=[resource_handle(layer.kernel, layer.name) for layer in layers],
        num_input_gradients=int(input_gradient),
        num_squared_norms=int(norms != "none"),
        num_kernel_gradients=len(layers) if keep else 0,
        V=tf.as_dtype(layers[0].kernel.dtype),
        activations=[layer.activation for layer in layers],
        alphas=[layer.alpha for layer in layers],
        norms=norms,
        layer_names=[layer.name for layer in layers],
        seed_name=seed_name,
        name=name,
    )
    return Sweep(
        tuple(gradients),
        below[0] if below else None,
        squared[0] if squared else None,
        tuple(kept),
    )


def squared_norms(tensors: Sequence[tf.Tensor], name: str | None = None) -> tf.Tensor:
    """The sum of the squares of each tensor, [tensors] of float64; all of float32 or float64."""
    return library.load().splitop_squared_norms(tensors=list(tensors), name=name)
