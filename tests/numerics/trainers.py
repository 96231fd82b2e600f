"""One second part of several dense chains, trained in a TF1 graph or in a tf.function.

A trainer holds its variables; `step` runs one seeded step and returns the layer inputs and
activation references that TensorFlow computed in it, for the oracle. In mixed precision
layers compute in 16 bits, on float32 variables.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import splitop
from tests import oracle
from tests.accuracy import PRECISIONS, Precision
from tests.numerics.optimizers import BETA1, BETA2, KERAS, TF1, Recipe, u_product

ALPHA = 0.2
START = 7  # steps that the optimizer has taken before the test's first one

FORWARD = {
    "linear": lambda z: z,
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "leaky_relu": lambda z: tf.nn.leaky_relu(z, ALPHA),
    "elu": tf.nn.elu,
    "selu": tf.nn.selu,
    "tanh": tf.nn.tanh,
    "sigmoid": tf.nn.sigmoid,
    "softplus": tf.nn.softplus,
    "silu": tf.nn.silu,
    "gelu": tf.nn.gelu,
}


@dataclasses.dataclass(frozen=True)
class ChainSpec:
    """A chain from `widths[0]` inputs up to `widths[-1]` units."""

    widths: tuple[int, ...]
    activation: str
    use_bias: bool


CPU = "/CPU:0"

# What Keras calls the precisions of tests/accuracy.py.
POLICIES = {
    "float32": "float32",
    "float64": "float64",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}


@dataclasses.dataclass(frozen=True)
class Path:
    """How a trainer runs: the backend, the device of its variables, and whether XLA compiles it."""

    backend: str
    device: str
    jit: bool = False


State = dict[str, np.ndarray]


def weight_shapes(specs: Sequence[ChainSpec]) -> dict[str, tuple[int, ...]]:
    """Shape of every weight: "c/l/kernel", "c/l/bias" (layers bottom up); slots add "/0", ..."""
    shapes = {}
    for c, spec in enumerate(specs):
        for layer, shape in enumerate(zip(spec.widths, spec.widths[1:], strict=False)):
            shapes[f"{c}/{layer}/kernel"] = shape
            if spec.use_bias:
                shapes[f"{c}/{layer}/bias"] = shape[1:]
    return shapes


def random_state(specs: Sequence[ChainSpec], recipe: Recipe, dtype: Any) -> State:
    """Weights and a non-zero optimizer state."""
    random = np.random.default_rng(5)
    state = {}
    for name, shape in weight_shapes(specs).items():
        value = random.normal(size=shape) / (np.sqrt(shape[0]) if len(shape) > 1 else 1)
        state[name] = value.astype(dtype)
        for s, slot in enumerate(oracle.random_slots(recipe.rule, shape, random)):
            state[f"{name}/{s}"] = slot.astype(dtype)
    return state


class _Trainer:
    """What both flavours share: names of variables, and the two ends of a step."""

    recipe: Recipe
    devices: set[str]  # of the fused ops

    def __init__(self, specs: Sequence[ChainSpec], path: Path) -> None:
        self.specs, self.path = specs, path
        self.variables: dict[str, Any] = {}
        self.plan: splitop.Plan

    def _apply(self, optimizer: Any, outputs: Sequence[Any], seeds: Sequence[Any]) -> Any:
        weights = [v for name, v in self.variables.items() if name.count("/") == 2]
        self.plan = splitop.plan(
            optimizer, list(outputs), weights, list(seeds), backend=self.path.backend
        )
        step = self.plan.apply()
        operations = tf.compat.v1.get_default_graph().get_operations()
        self.devices = {op.device for op in operations if op.type.startswith("Splitop>")}
        return step


class GraphTrainer(_Trainer):
    """A TF1 graph, a TF1 optimizer, a session."""

    def __init__(
        self,
        specs: Sequence[ChainSpec],
        rule: str,
        path: Path,
        precision: str,
        state: State,
    ) -> None:
        super().__init__(specs, path)
        self.recipe = TF1[rule]
        self._graph = tf.Graph()
        dtype = PRECISIONS[precision].tensors
        with self._graph.as_default(), tf.device(path.device):
            self._x = [tf.compat.v1.placeholder(dtype, [None, s.widths[0]]) for s in specs]
            self._seeds = [tf.compat.v1.placeholder(dtype, [None, s.widths[-1]]) for s in specs]
            built = [self._chain(c, x, state) for c, x in enumerate(self._x)]
            optimizer = self.recipe.make()
            self._train = self._apply(optimizer, [y for y, _ in built], self._seeds)
            self._forward = [tensors for _, tensors in built]
            weights = {n: v for n, v in self.variables.items() if n.count("/") == 2}
            for name, weight in weights.items():
                for s, slot in enumerate(self.recipe.slots):
                    self.variables[f"{name}/{s}"] = optimizer.get_slot(weight, slot)
            self._assign = {n: self._assigner(v) for n, v in self.variables.items()}
            config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
            self.session = tf.compat.v1.Session(config=config)
            self.session.run(tf.compat.v1.global_variables_initializer())
            if self.recipe.rule == "adam":
                for power, beta in zip(
                    optimizer._get_beta_accumulators(), (BETA1, BETA2), strict=True
                ):
                    self.session.run(power.assign(beta ** (START + 1)))
        self.set_state(state)

    def _chain(self, c: int, x: tf.Tensor, state: State) -> tuple[tf.Tensor, list[Any]]:
        spec, tensors = self.specs[c], []
        for layer in range(len(spec.widths) - 1):
            name = f"{c}/{layer}"
            self.variables[f"{name}/kernel"] = kernel = tf.Variable(state[f"{name}/kernel"])
            z = tf.matmul(x, tf.cast(kernel, x.dtype))
            if spec.use_bias:
                self.variables[f"{name}/bias"] = bias = tf.Variable(state[f"{name}/bias"])
                z = z + tf.cast(bias, x.dtype)
            y = FORWARD[spec.activation](z)
            tensors.append((x, z, y))
            x = y
        return x, tensors

    def _assigner(self, variable: tf.Variable) -> tuple[tf.Operation, tf.Tensor]:
        value = tf.compat.v1.placeholder(variable.dtype, variable.shape)
        return tf.compat.v1.assign(variable, value).op, value

    def set_state(self, state: State) -> None:
        self.session.run(
            [self._assign[n][0] for n in state], {self._assign[n][1]: v for n, v in state.items()}
        )

    def state(self) -> State:
        return self.session.run(self.variables)

    def step(self, xs: Sequence[np.ndarray], seeds: Sequence[np.ndarray]) -> list[Any]:
        feeds = {
            **dict(zip(self._x, xs, strict=True)),
            **dict(zip(self._seeds, seeds, strict=True)),
        }
        return self.session.run([self._forward, self._train], feeds)[0]

    def close(self) -> None:
        self.session.close()


class FunctionTrainer(_Trainer):
    """Keras layers, a Keras optimizer, a tf.function."""

    def __init__(
        self,
        specs: Sequence[ChainSpec],
        rule: str,
        path: Path,
        precision: str,
        state: State,
        loss_scale: float | None = None,
    ) -> None:
        super().__init__(specs, path)
        self.recipe = KERAS[rule]
        self._layers = [
            [
                keras.layers.Dense(units, use_bias=spec.use_bias, dtype=POLICIES[precision])
                for units in spec.widths[1:]
            ]
            for spec in specs
        ]
        with tf.device(path.device):
            optimizer = self._build()
            whole = optimizer
            if loss_scale is not None:
                whole = keras.optimizers.LossScaleOptimizer(optimizer, loss_scale)
                whole.build(list(self.variables.values()))
        weights = dict(self.variables)
        for name, weight in weights.items():
            for s, slot in enumerate(self.recipe.slots):
                index = optimizer._get_variable_index(weight)
                self.variables[f"{name}/{s}"] = getattr(optimizer, slot)[index]

        @tf.function(autograph=False, jit_compile=path.jit or None)
        def step(xs: list[tf.Tensor], seeds: list[tf.Tensor]) -> list[Any]:
            built = [self._chain(c, x) for c, x in enumerate(xs)]
            self._apply(whole, [y for y, _ in built], seeds)
            return [tensors for _, tensors in built]

        self._step = step
        self.set_state(state)

    def _build(self) -> Any:
        """Creates the weights; returns the optimizer, after its first steps."""
        for c, (spec, layers) in enumerate(zip(self.specs, self._layers, strict=True)):
            for number, (layer, inputs) in enumerate(zip(layers, spec.widths, strict=False)):
                layer.build((None, inputs))
                self.variables[f"{c}/{number}/kernel"] = layer.kernel
                if spec.use_bias:
                    self.variables[f"{c}/{number}/bias"] = layer.bias
        optimizer = self.recipe.make()
        optimizer.build(list(self.variables.values()))
        optimizer.iterations.assign(START)
        if self.recipe.rule == "nadam":
            optimizer._u_product.assign(u_product(START))
        return optimizer

    def _chain(self, c: int, x: tf.Tensor) -> tuple[tf.Tensor, list[Any]]:
        tensors = []
        for layer in self._layers[c]:
            z = layer(x)
            y = FORWARD[self.specs[c].activation](z)
            tensors.append((x, z, y))
            x = y
        return x, tensors

    def set_state(self, state: State) -> None:
        for name, value in state.items():
            self.variables[name].assign(value)

    def state(self) -> State:
        return {name: np.asarray(v) for name, v in self.variables.items()}

    def step(self, xs: Sequence[np.ndarray], seeds: Sequence[np.ndarray]) -> list[Any]:
        tensors = self._step([tf.constant(x) for x in xs], [tf.constant(s) for s in seeds])
        return tf.nest.map_structure(lambda t: t.numpy(), tensors)

    def close(self) -> None:
        pass


TRAINERS = {"tf1": GraphTrainer, "keras": FunctionTrainer}


def oracle_layers(
    c: int,
    spec: ChainSpec,
    tensors: Sequence[Any],
    state: Mapping[str, np.ndarray],
    recipe: Recipe,
    precision: Precision,
) -> list[oracle.Layer]:
    """The chain for the oracle: from the top down, with TensorFlow's own forward values."""
    slots = range(len(recipe.slots))
    layers = []
    for number, (x, z, y) in enumerate(tensors):
        name = f"{c}/{number}"
        reads = oracle.ACTIVATIONS[spec.activation].reads
        kernel = state[f"{name}/kernel"]
        layers.insert(
            0,
            oracle.Layer(
                x=x,
                reference={"": None, "z": z, "y": y}[reads],
                activation=spec.activation,
                alpha=ALPHA,
                kernel=kernel,
                kernel_copy=kernel.astype(precision.tensors) if precision.mixed else None,
                kernel_slots=tuple(state[f"{name}/kernel/{s}"] for s in slots),
                kernel_decayed=recipe.decays,
                bias=state[f"{name}/bias"] if spec.use_bias else None,
                bias_slots=tuple(state[f"{name}/bias/{s}"] for s in slots) if spec.use_bias else (),
                bias_decayed=recipe.decays,
            ),
        )
    return layers
