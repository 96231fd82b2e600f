"""The step of a model of any kind, given the seed, on each path.

All paths have the same weights and inputs. `reference` is TensorFlow's gradients and TF1's Adam
op; all others train with a Keras optimizer, Adam if nothing else is asked for, `xla` and
`fused, xla` in a function with jit_compile=True.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import splitop
from benchmarks import second_parts
from benchmarks.cases import FUSED, FUSED_XLA, IN_XLA, PATHS, REFERENCE, ModelCase
from benchmarks.second_parts import SecondPart
from benchmarks.steps import CHECKED_STEPS, apply_keras, function_of

LEARNING_RATE = 1e-3
# Large enough for gradients that are zero but for rounding, those of an attention's key biases.
EPSILON = 1e-4


def _adam() -> Any:
    return keras.optimizers.Adam(LEARNING_RATE, epsilon=EPSILON)


class ModelStep:
    """One path's step.

    Attributes:
        model: The second part.
    """

    def __init__(
        self, part: SecondPart, batch: int, path: str, make: Callable[[], Any] = _adam
    ) -> None:
        """Builds the model; `make`: its Keras optimizer, on all paths but `reference`."""
        keras.utils.set_random_seed(0)
        self.model = part.build()
        random = np.random.default_rng(0)
        self._inputs = [tf.constant(x) for x in part.inputs(self.model, batch, random)]
        (iv,) = self.model.outputs
        seed = random.standard_normal((batch, *iv.shape[1:])) / batch
        self._seed = tf.constant(seed, tf.float32)
        variables = self.model.trainable_variables
        update = _update(path, variables, make)

        @function_of(path)
        def step(inputs: list[tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
            iv = second_parts.forward(self.model, inputs)
            with tf.control_dependencies([update(iv, seed)]):
                return tf.reshape(variables[-1].value, [-1])[0]

        self._step = step

    def __call__(self) -> None:
        """Runs the step and waits for its end."""
        self._step(self._inputs, self._seed).numpy()


def build_steps(case: ModelCase) -> dict[str, ModelStep]:
    """A step for each path."""
    part = getattr(second_parts, case.name)(**case.sizes)
    return {path: ModelStep(part, case.batch, path) for path in PATHS}


def check_agreement(case: ModelCase, steps: dict[str, ModelStep]) -> None:
    """Runs a few steps, each from the same weights, and asserts that all paths move alike.

    The tables of `reference` are left out: of an id that is repeated, TF1 squares the sum of the
    gradients, where Keras adds up the squares.
    """
    for _ in range(CHECKED_STEPS):
        before = steps[FUSED].model.get_weights()
        for step in steps.values():
            step.model.set_weights(before)
            step()
        for path in steps.keys() - {FUSED}:
            agreement = case.xla_agreement if path in IN_XLA else case.agreement
            _check_alike(path, steps[path].model, steps[FUSED].model, agreement)


def _check_alike(path: str, model: Any, fused: Any, agreement: float) -> None:
    pairs = zip(model.trainable_variables, fused.trainable_variables, strict=True)
    for variable, expected in pairs:
        if path == REFERENCE and variable.name == "embeddings":
            continue
        difference = np.linalg.norm(variable.numpy() - expected.numpy())
        longest = LEARNING_RATE * np.sqrt(expected.numpy().size)
        assert difference <= agreement * longest, f"{path}, {expected.path}: {difference}"


def _update(path: str, variables: list[Any], make: Callable[[], Any]) -> Callable[[Any, Any], Any]:
    if path == REFERENCE:
        given = tf.compat.v1.train.AdamOptimizer(LEARNING_RATE, epsilon=EPSILON)
        return lambda iv, seed: splitop.minimize(given, iv, variables, seed, backend=REFERENCE)
    own = make()
    own.build(variables)
    if path in (FUSED, FUSED_XLA):
        return lambda iv, seed: splitop.minimize(own, iv, variables, seed, backend=FUSED)
    return lambda iv, seed: apply_keras(own, iv, seed, variables)
