"""The step that is timed: the whole second part given the seed, in one function.

Every path runs the same forward, on a Keras model with the same weights, and ends with the
same small read, which can't be had before the updates are done. The fused paths are called as a
`splitop.function`, the others as a tf.function.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import splitop
from benchmarks.cases import FUSED, FUSED_XLA, IN_XLA, KERAS, LAZY, PATHS, REFERENCE, XLA, Case

LEARNING_RATE = 1e-3
EPSILON = 1e-7
CHECKED_STEPS = 3
# Of a step's length. Rounding stays far below, also that of 1 - beta_2, which TF1 and Keras
# compute differently.
AGREEMENT = 1e-3
# XLA computes the activations in another order, so that it switches a relu now and then, with
# splitop and without: 2% of a step's length in the longest batch.
XLA_AGREEMENT = 5e-2


@dataclasses.dataclass(frozen=True)
class Step:
    """One path's training step.

    Attributes:
        run: Runs the step and waits for its end.
        weights: Reads the weights.
        set_weights: Writes them.
    """

    run: Callable[[], Any]
    weights: Callable[[], list[np.ndarray]]
    set_weights: Callable[[list[np.ndarray]], None]


def build_steps(case: Case, paths: Sequence[str] = PATHS) -> dict[str, Step]:
    """A step for each path, all with the same weights, x and seed."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    x = tf.constant(random.standard_normal((case.batch, case.width)), tf.float32)
    seed = tf.constant(random.standard_normal((case.batch, case.width)) / case.batch, tf.float32)
    models = {path: _model(case) for path in paths}
    for model in models.values():
        model.set_weights(models[paths[0]].get_weights())
    return {path: _step(path, model, x, seed) for path, model in models.items()}


def function_of(path: str) -> Any:
    """What a path's step is decorated with."""
    own = path in (FUSED, FUSED_XLA, LAZY)
    make = splitop.function if own else tf.function
    return make(autograph=False, jit_compile=path in IN_XLA)


def check_agreement(steps: dict[str, Step]) -> None:
    """Runs a few steps and asserts that they move the weights alike on all paths.

    Each step starts from the same weights everywhere: otherwise rounding switches some relu
    on or off sooner or later, and the paths part.
    """
    for _ in range(CHECKED_STEPS):
        before = steps[REFERENCE].weights()
        for step in steps.values():
            step.set_weights(before)
            step.run()
        after = steps[REFERENCE].weights()
        for path, step in steps.items():
            agreement = XLA_AGREEMENT if path in IN_XLA else AGREEMENT
            for start, expected, value in zip(before, after, step.weights(), strict=True):
                moved = np.linalg.norm(expected - start)
                difference = np.linalg.norm(value - expected)
                assert moved > 0, "the reference step must move every variable"
                assert difference <= agreement * moved, f"{path}: {difference} of {moved}"


def _model(case: Case) -> Any:
    layers = [keras.layers.Dense(case.width, activation="relu") for _ in range(case.layers)]
    model = keras.Sequential([keras.layers.Input([case.width]), *layers])
    # A bias of zero would leave its rounding errors unseen.
    for layer in layers:
        layer.bias.assign(np.full(case.width, 0.01, np.float32))
    return model


def _step(path: str, model: Any, x: tf.Tensor, seed: tf.Tensor) -> Step:
    variables = model.trainable_variables
    update = _keras_update(variables) if path in (KERAS, XLA) else _splitop_update(path, variables)

    @function_of(path)
    def function(x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([update(model(x), seed)]):
            return tf.identity(variables[-1].value[0])

    return Step(
        run=lambda: function(x, seed).numpy(),
        weights=model.get_weights,
        set_weights=model.set_weights,
    )


def _splitop_update(path: str, variables: list[Any]) -> Callable[[Any, Any], tf.Operation]:
    optimizer = tf.compat.v1.train.AdamOptimizer(LEARNING_RATE, epsilon=EPSILON)

    def update(iv: tf.Tensor, seed: tf.Tensor) -> tf.Operation:
        backend = FUSED if path == FUSED_XLA else path
        plan = splitop.plan(optimizer, iv, variables, grad_ys=seed, backend=backend)
        assert len(plan.fused) == (len(variables) if backend == FUSED else 0), str(plan)
        return plan.apply()

    return update


def _keras_update(variables: list[Any]) -> Callable[[Any, Any], tf.Operation]:
    optimizer = keras.optimizers.Adam(LEARNING_RATE, epsilon=EPSILON)
    optimizer.build(variables)

    return lambda iv, seed: apply_keras(optimizer, iv, seed, variables)


def apply_keras(optimizer: Any, iv: tf.Tensor, seed: tf.Tensor, variables: list[Any]) -> Any:
    """TensorFlow's gradients and a Keras optimizer's own step.

    The step waits for all gradients: without that, TensorFlow on a busy machine has been seen to
    compute one of them from a weight that was updated already, without splitop, too.
    """
    gradients = tf.gradients(iv, [variable.value for variable in variables], seed)
    with tf.control_dependencies(gradients):
        optimizer.apply(gradients, variables)
    return tf.no_op()
