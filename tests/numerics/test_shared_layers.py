"""The accuracy rule for a dense layer that is used in several places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import splitop
from tests import oracle
from tests.accuracy import assert_accurate, few_ulp, results
from tests.numerics.optimizers import TF1

tf1 = tf.compat.v1

INPUTS, UNITS, STEPS = 23, 17, 5
SHAPES = ((11, INPUTS), (3, 5, INPUTS), (1, INPUTS))


class Trainer:
    """Trains one layer that is used with several inputs, all by a sum of their gradients."""

    def __init__(self, name: str, backend: str, dtype: Any, count: int):
        self._recipe = TF1[name]
        with tf.Graph().as_default() as graph:
            self._kernel = tf1.get_variable("k", [INPUTS, UNITS], dtype)
            self._bias = tf1.get_variable("b", [UNITS], dtype)
            self.xs = [tf1.placeholder(dtype, (None, *shape[1:])) for shape in SHAPES[:count]]
            self.ys = [tf.tanh(tf.tensordot(x, self._kernel, 1) + self._bias) for x in self.xs]
            self.seeds = [tf1.placeholder(dtype, y.shape) for y in self.ys]
            optimizer = self._recipe.make()
            variables = [self._kernel, self._bias]
            self.plan = splitop.plan(optimizer, self.ys, variables, self.seeds, backend=backend)
            self._step = self.plan.apply()
            self._state = [
                [variable, *(optimizer.get_slot(variable, slot) for slot in self._recipe.slots)]
                for variable in variables
            ]
            self._session = tf1.Session(graph=graph)
            self._session.run(tf1.global_variables_initializer())

    def state(self) -> list[list[np.ndarray]]:
        """The kernel with its slots, the bias with its slots."""
        return [self._session.run(of_variable) for of_variable in self._state]

    def set_state(self, state: list[list[np.ndarray]]) -> None:
        with self._session.graph.as_default():
            for of_variable, values in zip(self._state, state, strict=True):
                for variable, value in zip(of_variable, values, strict=True):
                    variable.load(value, self._session)

    def step(self, xs: list[np.ndarray], seeds: list[np.ndarray]) -> list[np.ndarray]:
        """Takes a step; returns the outputs before it."""
        feed = dict(zip([*self.xs, *self.seeds], [*xs, *seeds], strict=True))
        outputs = self._session.run(self.ys, feed)
        self._session.run(self._step, feed)
        return outputs

    def close(self) -> None:
        self._session.close()


def rows(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])


def layer_of(state: list[list[np.ndarray]], x: np.ndarray, y: np.ndarray) -> list[oracle.Layer]:
    (kernel, *kernel_slots), (bias, *bias_slots) = state
    layer = oracle.Layer(
        x=x,
        reference=y,
        activation="tanh",
        kernel=kernel,
        bias=bias,
        kernel_slots=tuple(kernel_slots),
        bias_slots=tuple(bias_slots),
    )
    return [layer]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adagrad"])
def test_shared_layer(name: str, dtype: Any, count: int) -> None:
    recipe, random = TF1[name], np.random.default_rng(5)
    fused, plain = (Trainer(name, backend, dtype, count) for backend in ("fused", "reference"))
    try:
        ((layer,),) = (chain.layers for chain in fused.plan.chains)
        assert (layer.kernel, layer.bias) == ("k:0", "b:0")
        for t in range(1, STEPS + 1):
            xs = [random.normal(size=shape).astype(dtype) for shape in SHAPES[:count]]
            seeds = [
                random.normal(size=(*shape[:-1], UNITS)).astype(dtype) for shape in SHAPES[:count]
            ]
            before = fused.state()
            plain.set_state(before)
            outputs = fused.step(xs, seeds)
            plain.step(xs, seeds)
            tensors = rows(xs), rows(outputs)
            problem = (rows(seeds), layer_of(before, *tensors), recipe.rule, recipe.hyper(t))
            few = few_ulp(*problem, dtype)
            del few["input gradient"]
            exact, _ = oracle.dense_chain(*problem)
            assert_accurate(
                results(layer_of(fused.state(), *tensors), None),
                results(layer_of(plain.state(), *tensors), None),
                results(exact, None),
                few,
            )
    finally:
        fused.close()
        plain.close()
