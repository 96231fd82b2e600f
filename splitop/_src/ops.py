"""The typed wrapper of the compiled op `Splitop>DenseChain` (csrc/tf)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from splitop._src import library
from splitop._src.errors import SeedError, SplitError, VariableListError
from splitop._src.graph.dense import SHORT_DTYPES


@dataclasses.dataclass(frozen=True)
class LayerArgs:
    """One dense layer of a chain: y = act(z), z = x @ kernel + bias.

    Variables are of one dtype, float32 or float64, and tensors are of the same; in mixed
    precision, on GPUs, tensors are bfloat16 or float16 and variables float32. A variable is
    a tf.Variable or a keras.Variable.

    Attributes:
        x: The layer's input, [batch, inputs].
        reference: What the activation's gradient reads, [batch, outputs]: the output y or the
            input z (`csrc/include/splitop/activation.h` says which); None if it is linear.
        activation: Name of the activation: linear, relu, relu6, leaky_relu, elu, selu, tanh,
            sigmoid, softplus, silu or gelu.
        alpha: Slope of leaky_relu for negative inputs; not read for the others.
        kernel: Variable [inputs, outputs], or of more dimensions that split so.
        bias: Variable of `outputs` elements, or None.
        kernel_slots: The kernel's slots, variables of its shape, in the rule's order.
        bias_slots: The bias's slots, variables of its shape; empty without a bias.
        kernel_decayed: Whether weight decay applies to the kernel.
        bias_decayed: Whether weight decay applies to the bias.
        name: What the user calls the kernel; for messages.
        kernel_copy: In mixed precision, the kernel in the tensors' dtype, as the forward pass
            has read it, if the layer's dL/dx is computed: by all but the last layer, and by
            that one too if the chain's is wanted. Else None.
    """

    x: tf.Tensor
    reference: tf.Tensor | None
    activation: str
    alpha: float
    kernel: Any
    bias: Any | None
    kernel_slots: tuple[Any, ...]
    bias_slots: tuple[Any, ...]
    kernel_decayed: bool
    bias_decayed: bool
    name: str
    kernel_copy: tf.Tensor | None = None


def dense_chain(
    seed: tf.Tensor,
    layers: Sequence[LayerArgs],
    *,
    rule: str,
    hyper: tf.Tensor,
    input_gradient: bool,
    seed_name: str,
    name: str | None = None,
) -> tuple[tf.Operation, tf.Tensor | None]:
    """Adds the op that runs the seeded backward pass and updates all variables of a chain.

    Shapes are checked as far as they are known, and again, before anything is written, when
    the op runs: then as tf.errors.InvalidArgumentError, or as FailedPreconditionError for a
    variable without a value.

    Args:
        seed: dL/dy of the first layer, [batch, outputs].
        layers: The layers from the top (next to the intermediate vector) down; the input of
            each is the output of the next. No variable may appear twice.
        rule: The update rule: sgd, momentum or adam.
        hyper: The rule's hyperparameters in its order, a tensor of the variables' dtype.
        input_gradient: Whether dL/dx of the last layer is wanted.
        seed_name: What the user calls the seed; for messages.
        name: Name of the operation.

    Returns:
        The operation, and dL/dx of the last layer, [batch, inputs], or None if not wanted.

    Raises:
        SplitError: Outside a graph, without a layer, or for a tensor of the wrong dtype.
        SeedError: The seed's dtype does not go with that of the first kernel.
        VariableListError: Something that is no resource variable.
        ValueError: TensorFlow's, for shapes or attributes that do not fit.
        LibraryError: The compiled library is not there.
    """
    if tf.executing_eagerly():
        raise SplitError("dense_chain needs a tf.Graph or a tf.function. Received: an eager call.")
    if not layers:
        raise SplitError("dense_chain needs at least one layer. Received: none.")
    _check_dtypes(seed, layers, hyper, seed_name)
    biased = [layer for layer in layers if layer.bias is not None]
    slots = [layer.kernel_slots for layer in layers] + [layer.bias_slots for layer in biased]
    result = library.load().splitop_dense_chain(
        seed=seed,
        layer_inputs=[layer.x for layer in layers],
        references=[layer.reference for layer in layers if layer.reference is not None],
        kernel_copies=[layer.kernel_copy for layer in layers if layer.kernel_copy is not None],
        kernels=[resource_handle(layer.kernel, layer.name) for layer in layers],
        biases=[resource_handle(layer.bias, f"bias of {layer.name}") for layer in biased],
        slots=[resource_handle(slot, "a slot") for of_variable in slots for slot in of_variable],
        hyper=hyper,
        num_input_gradients=int(input_gradient),
        activations=[layer.activation for layer in layers],
        alphas=[layer.alpha for layer in layers],
        use_bias=[layer.bias is not None for layer in layers],
        rule=rule,
        decayed=[layer.kernel_decayed for layer in layers]
        + [layer.bias_decayed for layer in biased],
        layer_names=[layer.name for layer in layers],
        seed_name=seed_name,
        name=name,
    )
    # Without outputs the generated wrapper returns the operation itself.
    return (result[0].op, result[0]) if input_gradient else (result, None)


def _check_dtypes(
    seed: tf.Tensor, layers: Sequence[LayerArgs], hyper: tf.Tensor, seed_name: str
) -> None:
    """Names the user's tensor where TensorFlow would name the op's inputs."""
    variables = tf.as_dtype(layers[0].kernel.dtype)
    if seed.dtype != variables and (variables != tf.float32 or seed.dtype not in SHORT_DTYPES):
        mixed = " (bfloat16 or float16 in mixed precision)" if variables == tf.float32 else ""
        raise SeedError(
            f'seed "{seed_name}" must be {variables.name}, as "{layers[0].name}" is{mixed}. '
            f"Received: {seed.dtype.name}."
        )
    if hyper.dtype != variables:
        raise SplitError(
            f"hyper must be {variables.name}, as the variables are. Received: {hyper.dtype.name}."
        )
    for layer in layers:
        for what, tensor in (
            (f'the input of "{layer.name}"', layer.x),
            (f'the activation of the layer of "{layer.name}"', layer.reference),
            (f'the copy of "{layer.name}"', layer.kernel_copy),
        ):
            if tensor is not None and tensor.dtype != seed.dtype:
                raise SplitError(
                    f"{what} must be {seed.dtype.name}, as the seed is. "
                    f"Received: {tensor.dtype.name}."
                )


def resource_handle(variable: Any, what: str) -> tf.Tensor:
    """The resource handle of a tf.Variable or a keras.Variable."""
    handle = getattr(variable, "handle", None)
    if handle is None or handle.dtype != tf.resource:
        raise VariableListError(f"{what} must be a resource variable. Received: {variable!r}.")
    return handle
