"""Chains of dense layers for the op tests, and programs that run the op on them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from splitop._src import ops
from tests import oracle
from tests.state import HYPER, make_slots


@dataclasses.dataclass(frozen=True)
class Chain:
    """Everything that one call of the op is given, as arrays of one dtype.

    With `forward` it is given x of the bottom layer, and runs the forward pass itself.
    """

    seed: np.ndarray
    layers: tuple[oracle.Layer, ...]
    rule: str
    hyper: np.ndarray
    forward: bool = False

    def tensors(self) -> dict[str, np.ndarray]:
        """The inputs that are tensors: seed, x0, x1, ..., r0, ..., hyper."""
        tensors = {"seed": self.seed, "hyper": self.hyper}
        for i, layer in enumerate(self.layers):
            if not self.forward or layer is self.layers[-1]:
                tensors[f"x{i}"] = layer.x
            if layer.reference is not None and not self.forward:
                tensors[f"r{i}"] = layer.reference
        return tensors

    def variables(self) -> dict[str, np.ndarray]:
        """The variables: k0, b0, ... and their slots k0.0, k0.1, b0.0, ..."""
        variables = {}
        for i, layer in enumerate(self.layers):
            variables[f"k{i}"] = layer.kernel
            variables |= {f"k{i}.{s}": slot for s, slot in enumerate(layer.kernel_slots)}
            if layer.bias is not None:
                variables[f"b{i}"] = layer.bias
                variables |= {f"b{i}.{s}": slot for s, slot in enumerate(layer.bias_slots)}
        return variables

    def updated(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """What the oracle makes of it: the variables, and the input gradient."""
        layers, gradient = oracle.dense_chain(self.seed, self.layers, self.rule, self.hyper)
        return dataclasses.replace(self, layers=tuple(layers)).variables(), gradient


def plain_layer(
    kernel: tf.Variable,
    bias: tf.Variable | None,
    x: tf.Tensor | None,
    reference: tf.Tensor | None = None,
    activation: str = "linear",
) -> ops.LayerArgs:
    """The arguments of a layer without slots."""
    return ops.LayerArgs(
        x=x,
        reference=reference,
        activation=activation,
        alpha=0.0,
        kernel=kernel,
        bias=bias,
        kernel_slots=(),
        bias_slots=(),
        kernel_decayed=False,
        bias_decayed=False,
        name="kernel",
    )


def make_chain(
    widths: Sequence[int] = (3, 4, 5),
    *,
    batch: int = 6,
    activations: str | Sequence[str] = "relu",
    use_bias: bool = True,
    rule: str = "adam",
    dtype: Any = np.float32,
    forward: bool = False,
) -> Chain:
    """A chain of `len(widths) - 1` layers, from `widths[-1]` inputs up to `widths[0]` units."""
    random = np.random.default_rng(0)
    count = len(widths) - 1
    names = [activations] * count if isinstance(activations, str) else activations

    def array(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(dtype)

    def state(*shape: int) -> tuple[np.ndarray, ...]:
        return make_slots(random, rule, shape, dtype)

    layers: list[oracle.Layer] = []
    x = array(batch, widths[-1])
    for units, inputs, name in reversed(list(zip(widths, widths[1:], names, strict=False))):
        kernel, bias = array(inputs, units), array(units) if use_bias else None
        z = x @ kernel + (bias if bias is not None else 0)
        activation = oracle.ACTIVATIONS[name]
        reference = activation.reference(z, 0.25)
        layers.insert(
            0,
            oracle.Layer(
                x=x,
                reference=None if reference is None else reference.astype(dtype),
                activation=name,
                alpha=0.25,
                kernel=kernel,
                bias=bias,
                kernel_slots=state(inputs, units),
                bias_slots=state(units) if use_bias else (),
                kernel_decayed=True,
            ),
        )
        x = activation.forward(z, 0.25).astype(dtype)
    seed = array(batch, widths[0])
    return Chain(seed, tuple(layers), rule, np.array(HYPER[rule], dtype), forward)


def emit(
    chain: Chain,
    tensors: Mapping[str, Any],
    variables: Mapping[str, Any],
    *,
    input_gradient: bool = True,
) -> tuple[tf.Operation, tf.Tensor | None]:
    """Adds the op to the current graph, its inputs replaced by the given ones."""

    def slots(of: str) -> tuple[Any, ...]:
        return tuple(variables[name] for name in sorted(variables) if name.startswith(f"{of}."))

    layers = [
        ops.LayerArgs(
            x=tensors.get(f"x{i}"),
            reference=tensors.get(f"r{i}"),
            activation=layer.activation,
            alpha=layer.alpha,
            kernel=variables[f"k{i}"],
            bias=variables.get(f"b{i}"),
            kernel_slots=slots(f"k{i}"),
            bias_slots=slots(f"b{i}"),
            kernel_decayed=layer.kernel_decayed,
            bias_decayed=layer.bias_decayed,
            name=f"dense_{i}/kernel",
            kernel_copy=tensors.get(f"c{i}"),
        )
        for i, layer in enumerate(chain.layers)
    ]
    return ops.dense_chain(
        tensors["seed"],
        layers,
        rule=chain.rule,
        hyper=tensors["hyper"],
        input_gradient=input_gradient,
        seed_name="grad_ys:0",
        forward=chain.forward,
    )


@dataclasses.dataclass(frozen=True)
class NeverInitialized:
    """What is left of a variable that nobody has given a value."""

    handle: tf.Tensor
    dtype: tf.DType


def make_variables(
    values: Mapping[str, np.ndarray],
    *,
    known_shapes: bool = False,
    same: Mapping[str, str] | None = None,
    never_initialized: str | None = None,
) -> dict[str, Any]:
    """One variable for each of `values`.

    Args:
        values: Initial values by name.
        known_shapes: Otherwise a graph can't tell what the variables hold.
        same: Names of variables that are in truth another one.
        never_initialized: Name of a variable that gets no value.
    """
    shape = None if known_shapes else tf.TensorShape(None)
    variables = {name: tf.Variable(value, shape=shape) for name, value in values.items()}
    variables |= {name: variables[other] for name, other in (same or {}).items()}
    if never_initialized is not None:
        dtype = variables[never_initialized].dtype
        handle = tf.raw_ops.VarHandleOp(dtype=dtype, shape=shape, shared_name="no_value")
        variables[never_initialized] = NeverInitialized(handle, dtype)
    return variables


def with_values(variables: Mapping[str, Any]) -> dict[str, tf.Variable]:
    """The variables that were initialised."""
    return {n: v for n, v in variables.items() if not isinstance(v, NeverInitialized)}


CPU = "/CPU:0"


class SessionProgram:
    """The op in a TF1 graph, on the device of the variables; the tensors are fed."""

    def __init__(
        self, chain: Chain, known_shapes: bool = False, device: str = CPU, **options: Any
    ) -> None:
        self.graph = tf.Graph()
        with self.graph.as_default():
            with tf.device(device):
                self.variables = make_variables(
                    chain.variables(), known_shapes=known_shapes, **options
                )
            self._placeholders = {
                name: tf.compat.v1.placeholder(array.dtype, array.shape if known_shapes else None)
                for name, array in chain.tensors().items()
            }
            _, self._gradient = emit(chain, self._placeholders, self.variables)
            self.session = tf.compat.v1.Session(config=session_config())
            self.session.run(tf.compat.v1.global_variables_initializer())

    def run(
        self, tensors: Mapping[str, np.ndarray], options: Any = None, metadata: Any = None
    ) -> np.ndarray:
        """Runs the op once; returns the input gradient."""
        feeds = {self._placeholders[name]: array for name, array in tensors.items()}
        return self.session.run(self._gradient, feeds, options, metadata)

    def state(self) -> dict[str, np.ndarray]:
        """The values of all variables that have one."""
        return self.session.run(with_values(self.variables))

    def assign(self, name: str, value: np.ndarray) -> None:
        """Gives a variable another value."""
        with self.graph.as_default():
            self.session.run(self.variables[name].assign(value))

    def close(self) -> None:
        self.session.close()


def session_config() -> Any:
    """For variables on any device: what has no kernel there runs on the CPU."""
    return tf.compat.v1.ConfigProto(allow_soft_placement=True)


class FunctionProgram:
    """The op in a tf.function, on the device of the variables; the tensors are its arguments."""

    def __init__(
        self, chain: Chain, known_shapes: bool = False, device: str = CPU, **options: Any
    ) -> None:
        with tf.device(device):
            self.variables = make_variables(chain.variables(), known_shapes=known_shapes, **options)

        @tf.function(autograph=False)
        def step(tensors: dict[str, tf.Tensor]) -> tf.Tensor:
            return emit(chain, tensors, self.variables)[1]

        specs = {
            name: tf.TensorSpec(array.shape if known_shapes else None, array.dtype)
            for name, array in chain.tensors().items()
        }
        self._step = step.get_concrete_function(specs)

    def run(self, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        """Runs the op once; returns the input gradient."""
        return self._step({n: tf.constant(array) for n, array in tensors.items()}).numpy()

    def state(self) -> dict[str, np.ndarray]:
        """The values of all variables that have one."""
        return {n: v.numpy() for n, v in with_values(self.variables).items()}

    def assign(self, name: str, value: np.ndarray) -> None:
        """Gives a variable another value."""
        self.variables[name].assign(value)

    def close(self) -> None:
        pass


PROGRAMS = {"session": SessionProgram, "function": FunctionProgram}


@contextlib.contextmanager
def nothing_changes(program: SessionProgram | FunctionProgram) -> Iterator[None]:
    """Asserts that every variable and slot has the same bits afterwards."""
    before = program.state()
    yield
    after = program.state()
    assert after.keys() == before.keys()
    for name, value in before.items():
        assert value.tobytes() == after[name].tobytes(), name
