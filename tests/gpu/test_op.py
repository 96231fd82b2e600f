"""The op and the public API on a GPU of TensorFlow's, in every precision, against the oracle.

What the op does about locks, copies, errors and placement is tested in tests/op, there on CPUs
and on GPUs alike.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from splitop._src import library
from tests import oracle
from tests.accuracy import PRECISIONS, assert_accurate, few_ulp, results
from tests.gpu.chains import CHAIN_RULES, STEPS, forward
from tests.kernels import plain
from tests.kernels.problems import make_problem

_config = library.build_config()
if _config is not None and _config.tensorflow is None:
    pytest.skip("the build has no TensorFlow op", allow_module_level=True)

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

import splitop  # noqa: E402
from tests.numerics.optimizers import KERAS, Recipe  # noqa: E402
from tests.op.chains import Chain, FunctionProgram, nothing_changes  # noqa: E402
from tests.op.gpu import on_gpu  # noqa: E402

pytestmark = pytest.mark.parametrize("device", [on_gpu("/GPU:0", id="gpu")])

State = dict[str, np.ndarray]


@pytest.fixture(autouse=True)
def _tf32(request: pytest.FixtureRequest) -> Iterator[None]:
    """Allowed only where the test is about it."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    wanted = "tf32" in request.node.callspec.params.values()
    tf.config.experimental.enable_tensor_float_32_execution(wanted)
    yield
    tf.config.experimental.enable_tensor_float_32_execution(before)


# ---- the op ----


@dataclasses.dataclass(frozen=True)
class AnyChain(Chain):
    """A chain that may be of mixed precision."""

    def tensors(self) -> State:
        copies = {f"c{i}": layer.kernel_copy for i, layer in enumerate(self.layers)}
        return super().tensors() | {n: copy for n, copy in copies.items() if copy is not None}

    def with_variables(self, state: State) -> AnyChain:
        """The chain with these values in its variables, and kernels read after that."""

        def slots(of: str) -> tuple[np.ndarray, ...]:
            return tuple(state[name] for name in sorted(state) if name.startswith(f"{of}."))

        layers = [
            dataclasses.replace(
                layer,
                kernel=state[f"k{i}"],
                bias=state.get(f"b{i}"),
                kernel_slots=slots(f"k{i}"),
                bias_slots=slots(f"b{i}"),
            )
            for i, layer in enumerate(self.layers)
        ]
        return dataclasses.replace(self, layers=tuple(forward(layer) for layer in layers))


def make_chain(precision: str, rule: str) -> AnyChain:
    problem = make_problem(
        PRECISIONS[precision], 37, (61, 52, 19), ["tanh", "relu"], [True, False], rule
    )
    return AnyChain(problem.seed, problem.layers, rule, problem.hyper)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("rule", CHAIN_RULES)
def test_the_op(device: str, precision: str, rule: str) -> None:
    chain = make_chain(precision, rule)
    program = FunctionProgram(chain, device=device)
    for _ in range(STEPS):
        gradient = program.run(chain.tensors())
        step = (chain.seed, chain.layers, rule, chain.hyper)
        after = chain.with_variables(program.state())
        assert_accurate(
            results(after.layers, gradient),
            results(*plain.dense_chain(*step, tf32=precision == "tf32")),
            results(*oracle.dense_chain(*step)),
            few_ulp(*step, PRECISIONS[precision]),
        )
        chain = after


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_who_read_a_variable_before_keeps_its_value(device: str, precision: str) -> None:
    chain = make_chain(precision, "adam")
    program = FunctionProgram(chain, device=device)
    with tf.device(device):
        held = {name: variable.read_value() for name, variable in program.variables.items()}
    program.run(chain.tensors())
    after = program.state()
    for name, value in chain.variables().items():
        np.testing.assert_array_equal(held[name], value, name)
        assert not np.array_equal(after[name], value), name


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_error_leaves_the_variables(device: str, precision: str) -> None:
    chain = make_chain(precision, "adam")
    program = FunctionProgram(chain, device=device)
    wrong = chain.tensors() | {"r0": chain.layers[0].reference[:-1]}
    error = pytest.raises(tf.errors.InvalidArgumentError, match=r"must have shape \[37, 19\]")
    with nothing_changes(program), error:
        program.run(wrong)


# ---- Keras models in mixed precision, through the public API ----

WIDTHS = (40, 33, 24, 7)
ACTIVATIONS = ("relu", "tanh", "linear")
BATCH = 29
STARTED = 7  # steps that the optimizer has taken before


class Trainer:
    """A second part of dense layers in mixed precision, trained by splitop.

    Layers of the oracle go from the top down, Keras layers from the bottom up.
    """

    def __init__(self, policy: str, recipe: Recipe, backend: str, device: str) -> None:
        self.plan: splitop.Plan
        self._decays = recipe.decays
        shapes = zip(WIDTHS, WIDTHS[1:], ACTIVATIONS, strict=False)
        with tf.device(device):
            self._layers = []
            for inputs, units, activation in shapes:
                self._layers.append(keras.layers.Dense(units, activation, dtype=policy))
                self._layers[-1].build((None, inputs))
            self.weights = [weight for layer in self._layers for weight in layer.weights]
            self._optimizer = recipe.make()
            self._optimizer.build(self.weights)
        lists = [getattr(self._optimizer, name) for name in recipe.slots]
        self._slots = {
            weight.path: [slots[i] for slots in lists] for i, weight in enumerate(self.weights)
        }

        @tf.function(autograph=False)
        def step(x: tf.Tensor, seed: tf.Tensor) -> list[tf.Tensor]:
            tensors = [x]
            for layer in self._layers:
                tensors.append(layer(tensors[-1]))
            self.plan = splitop.plan(
                self._optimizer, tensors[-1], self.weights, seed, backend=backend
            )
            self.plan.apply()
            return tensors

        self.step = step

    def state(self) -> list[oracle.Layer]:
        """The layers with the values that the variables have."""

        def values(layer: Any, kind: str) -> dict[str, Any]:
            variable = getattr(layer, kind)
            return {
                kind: variable.numpy(),
                f"{kind}_slots": tuple(slot.numpy() for slot in self._slots[variable.path]),
                f"{kind}_decayed": self._decays,
            }

        return [
            oracle.Layer(
                x=np.empty(0),
                reference=None,
                activation=layer.activation.__name__,
                **values(layer, "kernel"),
                **values(layer, "bias"),
            )
            for layer in reversed(self._layers)
        ]

    def set_state(self, state: Sequence[oracle.Layer], iterations: int) -> None:
        """Gives the variables those values."""
        self._optimizer.iterations.assign(iterations)
        for layer, values in zip(self._layers, reversed(state), strict=True):
            for kind in ("kernel", "bias"):
                variable = getattr(layer, kind)
                variable.assign(getattr(values, kind))
                slots = zip(
                    self._slots[variable.path], getattr(values, f"{kind}_slots"), strict=True
                )
                for slot, value in slots:
                    slot.assign(value)


def with_slots(layer: oracle.Layer, random: np.random.Generator) -> oracle.Layer:
    """A layer whose optimizer state is not zero."""

    def slots(old: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        return tuple((0.01 + 0.1 * random.random(a.shape)).astype(a.dtype) for a in old)

    return dataclasses.replace(
        layer, kernel_slots=slots(layer.kernel_slots), bias_slots=slots(layer.bias_slots)
    )


def between(state: Sequence[oracle.Layer], tensors: Sequence[np.ndarray]) -> list[oracle.Layer]:
    """The layers of a step with its tensors: the input, and the output of each layer."""
    pairs = list(itertools.pairwise(tensors))
    return [
        dataclasses.replace(
            layer,
            x=x,
            reference=None if layer.activation == "linear" else y,
            kernel_copy=layer.kernel.astype(x.dtype),
        )
        for layer, (x, y) in zip(state, reversed(pairs), strict=True)
    ]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "adamw"])
def test_a_keras_model_in_mixed_precision(device: str, policy: str, optimizer: str) -> None:
    precision = PRECISIONS[policy.removeprefix("mixed_")]
    recipe = KERAS[optimizer]
    fused = Trainer(policy, recipe, "fused", device)
    reference = Trainer(policy, recipe, "reference", device)
    random = np.random.default_rng(3)
    state = [with_slots(layer, random) for layer in fused.state()]
    for t in range(STARTED, STARTED + STEPS):
        x = random.normal(size=(BATCH, WIDTHS[0])).astype(precision.tensors)
        seed = random.normal(size=(BATCH, WIDTHS[-1])).astype(precision.tensors)
        for trainer in (fused, reference):
            trainer.set_state(state, t)
            tensors = [tensor.numpy() for tensor in trainer.step(x, seed)]
        step = (seed, between(state, tensors), recipe.rule, recipe.hyper(t + 1))
        assert_accurate(
            results(fused.state(), None),
            results(reference.state(), None),
            results(oracle.dense_chain(*step)[0], None),
            few_ulp(*step, precision),
        )
        state = fused.state()
    assert not fused.plan.declined
    assert not reference.plan.fused
    for weight in fused.weights:
        assert weight.value.device.endswith("GPU:0")
