"""A second part in training, from any state again, in a tf.function or in a TF1 graph.

Everything is float64: rounding switches no relu, nor the sign that Lion takes, unless what it
decides on is zero but for rounding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import splitop
from benchmarks.second_parts import SecondPart, forward

tf1 = tf.compat.v1

State = dict[str, np.ndarray]
Arrays = list[np.ndarray]


@contextlib.contextmanager
def _float64() -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy(before)


class _Vector:
    """Variables of one dtype, read and written as one: a test does so hundreds of times."""

    def __init__(self, variables: dict[str, tf.Variable]) -> None:
        self._shapes = {name: variable.shape for name, variable in variables.items()}
        self._sizes = [shape.num_elements() for shape in self._shapes.values()]

        @tf.function(autograph=False)
        def gather() -> Any:
            return tf.concat([tf.reshape(each, [-1]) for each in variables.values()], axis=0)

        @tf.function(autograph=False)
        def scatter(vector: Any) -> None:
            parts = tf.split(vector, self._sizes)
            for variable, part in zip(variables.values(), parts, strict=True):
                variable.assign(tf.reshape(part, variable.shape))

        self._gather, self._scatter = gather, scatter

    def read(self) -> State:
        parts = np.split(self._gather().numpy(), np.cumsum(self._sizes)[:-1])
        return {
            name: part.reshape(shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    def write(self, state: State) -> None:
        self._scatter(tf.constant(np.concatenate([np.ravel(state[name]) for name in self._shapes])))


class FunctionRun:
    """A tf.function and a Keras optimizer."""

    def __init__(
        self, part: SecondPart, make: Callable[[], Any], backend: str, jit: bool = False
    ) -> None:
        with _float64():
            self.model = part.build()
        optimizer = make()
        variables = self.model.trainable_variables
        optimizer.build(variables)
        # Keras numbers optimizers, and layers without a name, through the whole process.
        others = [*self.model.non_trainable_variables, *optimizer.variables]
        named = {v.path: v.value for v in variables}
        named |= {
            f"{number} {v.name.rstrip('_0123456789')}": v.value for number, v in enumerate(others)
        }
        dtypes = dict.fromkeys(variable.dtype for variable in named.values())
        self._vectors = [
            _Vector({name: v for name, v in named.items() if v.dtype == dtype}) for dtype in dtypes
        ]
        self.plan: splitop.Plan

        @tf.function(autograph=False, jit_compile=jit)
        def step(inputs: Sequence[Any], seed: Any) -> None:
            iv = forward(self.model, inputs)
            self.plan = splitop.plan(optimizer, iv, variables, seed, backend=backend)
            self.plan.apply()

        self._step = step

    def step(self, inputs: Arrays, seed: np.ndarray) -> None:
        self._step([tf.constant(x) for x in inputs], tf.constant(seed))

    def state(self) -> State:
        return {name: value for each in self._vectors for name, value in each.read().items()}

    def set_state(self, state: State) -> None:
        for each in self._vectors:
            each.write(state)

    def close(self) -> None:
        pass


class GraphRun:
    """A TF1 graph, a session and a TF1 optimizer."""

    def __init__(self, part: SecondPart, make: Callable[[], Any], backend: str) -> None:
        with tf.Graph().as_default(), _float64():
            self.model = part.build()
            self._inputs = [tf1.placeholder(x.dtype, x.shape) for x in self.model.inputs]
            iv = forward(self.model, self._inputs)
            self._seed = tf1.placeholder(iv.dtype, iv.shape)
            variables = self.model.trainable_variables
            self.plan = splitop.plan(make(), iv, variables, self._seed, backend=backend)
            self._step = self.plan.apply()
            self._all = {variable.name: variable for variable in tf1.global_variables()}
            self._values = {
                name: tf1.placeholder(variable.dtype, variable.shape)
                for name, variable in self._all.items()
            }
            self._assign = [
                variable.assign(self._values[name], read_value=False)
                for name, variable in self._all.items()
            ]
            self._session = tf1.Session()
            self._session.run(tf1.global_variables_initializer())

    def step(self, inputs: Arrays, seed: np.ndarray) -> None:
        feeds = dict(zip(self._inputs, inputs, strict=True))
        self._session.run(self._step, {**feeds, self._seed: seed})

    def state(self) -> State:
        return self._session.run(self._all)

    def set_state(self, state: State) -> None:
        self._session.run(self._assign, {self._values[name]: state[name] for name in self._all})

    def close(self) -> None:
        self._session.close()


RUNS = {"keras": FunctionRun, "tf1": GraphRun}
