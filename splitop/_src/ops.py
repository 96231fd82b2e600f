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
    precision, tensors are bfloat16 or float16 and variables float32. A variable is a
    tf.Variable or a keras.Variable.

    Attributes:
        x: The layer's input, [batch, inputs]; None if the op is to compute it.
        reference: What the activation's gradient reads, [batch, outputs]: the output y or the
            input z (`csrc/include/splitop/activation.h` says which); None if it is linear, or if
            the op is to compute it.
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
        kernel_gradient: The kernel's gradient where `dense_sweep` has kept it, [inputs, outputs] of
            the variables' dtype, or an empty tensor; None if it is not given. For all layers of a
            chain, or for none. Not on GPUs.
    """

    x: tf.Tensor | None
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
    kernel_gradient: tf.Tensor | None = None

    @property
    def tensors(self) -> list[tf.Tensor]:
        """What the op takes of the layer besides its variables."""
        given = (self.x, self.reference, self.kernel_copy, self.kernel_gradient)
        return [tensor for tensor in given if tensor is not None]


def dense_chain(
    seed: tf.Tensor,
    layers: Sequence[LayerArgs],
    *,
    rule: str,
    hyper: tf.Tensor,
    input_gradient: bool,
    seed_name: str,
    condition: tf.Tensor | None = None,
    clips: tf.Tensor | None = None,
    forward: bool = False,
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
        rule: The update rule; `csrc/include/splitop/update_rule.h` has them all.
        hyper: The rule's hyperparameters in its order, a tensor of the variables' dtype.
        input_gradient: Whether dL/dx of the last layer is wanted.
        seed_name: What the user calls the seed; for messages.
        condition: A boolean scalar: whether the variables are updated; None: they are. Not with
            an input gradient.
        clips: For each kernel, then for each bias, what its gradient is multiplied by, and to
            which magnitude it is then clipped: [variables, 2] of the variables' dtype. None: the
            gradients stay as they are. Not on GPUs.
        forward: Whether the op runs the forward pass itself: then it takes x of the last layer, and
            no other x and no reference. Kernels have two dimensions. Not in mixed precision, not on
            GPUs.
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
    check_chain("dense_chain", seed, layers, seed_name)
    variables = tf.as_dtype(layers[0].kernel.dtype)
    if hyper.dtype != variables:
        raise SplitError(
            f"hyper must be {variables.name}, as the variables are. Received: {hyper.dtype.name}."
        )
    biased = [layer for layer in layers if layer.bias is not None]
    slots = [layer.kernel_slots for layer in layers] + [layer.bias_slots for layer in biased]
    result = library.load().splitop_dense_chain(
        seed=seed,
        layer_inputs=[layer.x for layer in layers if layer.x is not None],
        references=[layer.reference for layer in layers if layer.reference is not None],
        kernel_copies=[layer.kernel_copy for layer in layers if layer.kernel_copy is not None],
        kernels=[resource_handle(layer.kernel, layer.name) for layer in layers],
        biases=[resource_handle(layer.bias, f"bias of {layer.name}") for layer in biased],
        slots=[resource_handle(slot, "a slot") for of_variable in slots for slot in of_variable],
        hyper=hyper,
        conditions=optional(condition),
        clips=optional(clips),
        kernel_gradients=[
            layer.kernel_gradient for layer in layers if layer.kernel_gradient is not None
        ],
        num_input_gradients=int(input_gradient),
        activations=[layer.activation for layer in layers],
        alphas=[layer.alpha for layer in layers],
        use_bias=[layer.bias is not None for layer in layers],
        rule=rule,
        decayed=[layer.kernel_decayed for layer in layers]
        + [layer.bias_decayed for layer in biased],
        forward=forward,
        layer_names=[layer.name for layer in layers],
        seed_name=seed_name,
        name=name,
    )
    # Without outputs the generated wrapper returns the operation itself.
    return (result[0].op, result[0]) if input_gradient else (result, None)


def check_chain(op: str, seed: tf.Tensor, layers: Sequence[LayerArgs], seed_name: str) -> None:
    """Checks what all ops on a chain are given; names the user's tensors, not the op's inputs.

    Raises:
        SplitError: Outside a graph, without a layer, or for a tensor of the wrong dtype.
        SeedError: The seed's dtype does not go with that of the first kernel.
    """
    check_in_graph(op)
    check_not_empty(op, layers, "layer")
    variables = tf.as_dtype(layers[0].kernel.dtype)
    if seed.dtype != variables and (variables != tf.float32 or seed.dtype not in SHORT_DTYPES):
        mixed = " (bfloat16 or float16 in mixed precision)" if variables == tf.float32 else ""
        raise SeedError(
            f'seed "{seed_name}" must be {variables.name}, as "{layers[0].name}" is{mixed}. '
            f"Received: {seed.dtype.name}."
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


def check_in_graph(op: str) -> None:
    """Raises SplitError outside of a graph."""
    if tf.executing_eagerly():
        raise SplitError(f"{op} needs a tf.Graph or a tf.function. Received: an eager call.")


def check_not_empty(op: str, arguments: Sequence[object], one: str) -> None:
    """Raises SplitError for an op with nothing to do; `one`: of what it needs one."""
    if not arguments:
        raise SplitError(f"{op} needs at least one {one}. Received: none.")


def check_gradient_dtype(gradient: tf.Tensor, hyper: tf.Tensor, name: str) -> None:
    """Raises SplitError, with the user's name of the variable, for a gradient of another dtype."""
    if gradient.dtype != hyper.dtype:
        raise SplitError(
            f'the gradient of "{name}" must be {hyper.dtype.name}, as hyper is. '
            f"Received: {gradient.dtype.name}."
        )


def optional(tensor: tf.Tensor | None) -> list[tf.Tensor]:
    """An op's input that may be missing: a list of at most one."""
    return [] if tensor is None else [tensor]


def resource_handle(variable: Any, what: str) -> tf.Tensor:
    """The resource handle of a tf.Variable or a keras.Variable."""
    handle = getattr(variable, "handle", None)
    if handle is None or handle.dtype != tf.resource:
        raise VariableListError(f"{what} must be a resource variable. Received: {variable!r}.")
    return handle
