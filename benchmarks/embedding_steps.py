"""The step of a second part that is an embedding table, Flatten and a dense layer, on each path.

All paths have the same weights and ids. `reference` is TensorFlow's gradients and the TF1
optimizer's sparse ops; all others train with the Keras optimizer, `xla` and `fused, xla` in a
function with jit_compile=True.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import splitop
from benchmarks.cases import FUSED, KERAS, LAZY, REFERENCE, XLA, EmbeddingCase
from benchmarks.steps import AGREEMENT, apply_keras, function_of

BATCHES = 8  # of ids, in turn, so that no row is in the cache from the step before
RATE = 0.01
KERAS_OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(RATE),
    "Adagrad": lambda: keras.optimizers.Adagrad(RATE),
    "Adam": lambda: keras.optimizers.Adam(RATE),
}
TF1_OPTIMIZERS = {
    "SGD": lambda: tf.compat.v1.train.GradientDescentOptimizer(RATE),
    "Adagrad": lambda: tf.compat.v1.train.AdagradOptimizer(RATE),
    "Adam": lambda: tf.compat.v1.train.AdamOptimizer(RATE),
}


class EmbeddingStep:
    """One path's step."""

    def __init__(self, case: EmbeddingCase, path: str):
        random = np.random.default_rng(0)
        shape = (case.batch, case.fields)
        self._ids = [tf.constant(random.integers(0, case.rows, shape)) for _ in range(BATCHES)]
        seed = random.standard_normal((case.batch, case.units)) / case.batch
        self._seed = tf.constant(seed, tf.float32)
        keras.utils.set_random_seed(0)
        self._model = _model(case)
        variables = self._model.trainable_variables
        update = _update(path, case.optimizer, variables)

        @function_of(path)
        def step(ids: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            with tf.control_dependencies([update(self._model(ids), seed)]):
                return tf.identity(variables[-1].value[0])

        self._step = step
        self._runs = 0

    def __call__(self) -> None:
        """Runs the step and waits for its end."""
        self._step(self._ids[self._runs % BATCHES], self._seed).numpy()
        self._runs += 1

    def looked_up(self) -> np.ndarray:
        """The rows of the first batch, which every path's first step updates."""
        # A gather from the variable itself would have every later read copy the whole table.
        return self._model.layers[0].embeddings.numpy()[np.unique(self._ids[0])]


def check_agreement(steps: dict[str, EmbeddingStep]) -> None:
    """Runs the first step of each path and asserts that it moves the table alike on all.

    It begins with empty slots, so that a lazy step is the optimizer's own, and Keras and TF1,
    which differ in Adagrad's first accumulator and where an id repeats, are told apart.
    """
    before = steps[KERAS].looked_up()
    after = {}
    for path, step in steps.items():
        step()
        after[path] = step.looked_up()
    moved = np.linalg.norm(after[KERAS] - before)
    assert moved > 0, "the step must move the rows looked up"
    for path in after.keys() - {REFERENCE}:
        difference = np.linalg.norm(after[path] - after[KERAS])
        assert difference <= AGREEMENT * moved, f"{path}: {difference} of {moved}"


def _model(case: EmbeddingCase) -> Any:
    return keras.Sequential(
        [
            keras.layers.Input([case.fields], dtype="int64"),
            keras.layers.Embedding(case.rows, case.width),
            keras.layers.Flatten(),
            keras.layers.Dense(case.units, activation="relu"),
        ]
    )


def _update(path: str, optimizer: str, variables: list[Any]) -> Callable[[Any, Any], Any]:
    if path == REFERENCE:
        given = TF1_OPTIMIZERS[optimizer]()
        return lambda iv, seed: splitop.minimize(given, iv, variables, seed, backend=REFERENCE)
    own = KERAS_OPTIMIZERS[optimizer]()
    own.build(variables)
    if path in (KERAS, XLA):
        return lambda iv, seed: apply_keras(own, iv, seed, variables)
    sparse = "lazy" if path == LAZY else "exact"
    return lambda iv, seed: splitop.minimize(own, iv, variables, seed, backend=FUSED, sparse=sparse)
