"""The second part's step in TensorFlow, on each path: one tf.function."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from benchmarks.gpu import timing
from benchmarks.gpu.candidate import Candidate
from benchmarks.gpu.cases import Case
from benchmarks.gpu.device import Array, Work
from benchmarks.gpu.tensorflow_device import TensorFlowDevice
from benchmarks.gpu.tensorflow_updates import Update, Updates

FUSED = "splitop"
REFERENCE = "reference"
KERAS = "keras"
KERAS_JIT = "keras jit"
PATHS = (FUSED, REFERENCE, KERAS, KERAS_JIT)


class TensorFlowStep(Candidate):
    """A path's step, with a model and an optimizer of its own."""

    block_seconds = timing.HOST_BLOCK_SECONDS

    def __init__(
        self, device: TensorFlowDevice, case: Case, path: str, x: tf.Tensor, seed: tf.Tensor
    ) -> None:
        self.how = "host"
        self._device = device
        self._inputs = (x, seed)
        self._model = _model(case)
        self._updates = Updates(self._model, case.rule)
        updates = {
            FUSED: self._updates.fused,
            REFERENCE: self._updates.reference,
            KERAS: self._updates.keras,
            KERAS_JIT: self._updates.keras,
        }
        self._function = self._make_function(updates[path](), jit=path == KERAS_JIT)

    def run(self, index: int) -> None:
        self._device.keep(self._function(*self._inputs))

    def set_rate(self, rate: float) -> None:
        self._updates.set_rate(rate)

    def load(self, variables: list[Array]) -> None:
        for variable, value in zip(self._model.trainable_variables, variables, strict=True):
            variable.assign(value)

    def variables(self) -> list[Array]:
        return [tf.identity(variable.value) for variable in self._model.trainable_variables]

    def prepare(self) -> Work:
        self.run(0)
        return lambda: self.run(0)

    def seconds(self, work: Work) -> float:
        return self._device.seconds(work)

    def peak_bytes(self) -> int | None:
        return self._device.peak_bytes(lambda: self.run(0))

    def _make_function(self, update: Update, jit: bool) -> Any:
        last = self._updates.variables[-1].value

        # What is returned can't be had before the updates are done.
        @tf.function(autograph=False, jit_compile=jit)
        def function(x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            with tf.control_dependencies([update(self._model(x), seed)]):
                return tf.identity(last[0])

        return function


def make_inputs(case: Case) -> tuple[tf.Tensor, tf.Tensor]:
    """x and the seed."""
    shape = (case.batch, case.width)
    x, seed = (tf.random.stateless_normal(shape, [0, number]) for number in range(2))
    dtype = tf.as_dtype(case.dtype)
    return tf.cast(x, dtype), tf.cast(seed * case.batch**-0.5, dtype)


def make_variables(case: Case) -> list[Array]:
    """Values that all paths begin with: kernel and bias of each layer from the input up."""
    variables = []
    for layer in range(case.layers):
        kernel = tf.random.stateless_normal([case.width] * 2, [1, layer])
        bias = tf.random.stateless_normal([case.width], [2, layer])
        variables += [kernel * (2 / case.width) ** 0.5, bias * 0.1]
    return variables


def _model(case: Case) -> Any:
    dtype = "mixed_bfloat16" if case.mixed else "float32"
    layers = [
        keras.layers.Dense(case.width, activation="relu", dtype=dtype) for _ in range(case.layers)
    ]
    return keras.Sequential([keras.layers.Input([case.width], dtype=case.dtype), *layers])
