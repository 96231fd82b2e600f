"""Checkpoints move freely between the fused and the reference path."""

from __future__ import annotations

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop

PATHS = [("fused", "reference"), ("reference", "fused"), ("fused", "fused")]
X = np.random.default_rng(0).normal(size=(16, 7)).astype(np.float32)
SEED = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)


class KerasRun:
    """A Keras second part with its optimizer, trained by one backend."""

    def __init__(self, backend: str) -> None:
        self.model = keras.Sequential(
            [keras.Input((7,)), keras.layers.Dense(5, "relu"), keras.layers.Dense(3)]
        )
        self.optimizer = keras.optimizers.AdamW(
            keras.optimizers.schedules.ExponentialDecay(0.01, 2, 0.5), weight_decay=0.1
        )
        self.optimizer.build(self.model.trainable_variables)
        self.checkpoint = tf.train.Checkpoint(model=self.model, optimizer=self.optimizer)

        @tf.function(autograph=False)
        def step() -> None:
            weights = self.model.trainable_variables
            splitop.minimize(
                self.optimizer, self.model(X), weights, tf.constant(SEED), backend=backend
            )

        self.step = step

    def state(self) -> list[bytes]:
        variables = [*self.model.variables, *self.optimizer.variables]
        return [np.asarray(v).tobytes() for v in variables]


@pytest.mark.parametrize(("writer", "reader"), PATHS)
def test_train_checkpoint(writer: str, reader: str, tmp_path: pathlib.Path) -> None:
    first = KerasRun(writer)
    for _ in range(3):
        first.step()
    path = first.checkpoint.write(str(tmp_path / "ckpt"))
    written = first.state()

    second = KerasRun(reader)
    second.step()  # its state is another one now
    assert second.state() != written
    second.checkpoint.read(path).assert_consumed()
    assert second.state() == written

    # From the same state, the path of the reader goes on as if it had always been at work.
    third = KerasRun(reader)
    third.checkpoint.read(path).assert_consumed()
    for run in (second, third):
        run.step()
    assert second.state() == third.state() != written
    assert int(second.optimizer.iterations.numpy()) == 4


class GraphRun:
    """A TF1 second part with its optimizer and a Saver."""

    def __init__(self, backend: str) -> None:
        self._graph = tf.Graph()
        with self._graph.as_default():
            tf.compat.v1.set_random_seed(2)
            with tf.compat.v1.variable_scope("second_part"):
                y = X
                for number, units in enumerate((5, 3)):
                    kernel = tf.compat.v1.get_variable(f"w{number}", (y.shape[1], units))
                    bias = tf.compat.v1.get_variable(f"b{number}", (units,))
                    y = tf.nn.tanh(tf.nn.bias_add(tf.matmul(y, kernel), bias))
            self._train = splitop.minimize(
                tf.compat.v1.train.AdamOptimizer(0.01),
                y,
                tf.compat.v1.trainable_variables(),
                tf.constant(SEED),
                global_step=tf.compat.v1.train.get_or_create_global_step(),
                backend=backend,
            )
            self._variables = tf.compat.v1.global_variables()
            self._saver = tf.compat.v1.train.Saver()
            self.session = tf.compat.v1.Session()
            self.session.run(tf.compat.v1.global_variables_initializer())

    def step(self) -> None:
        self.session.run(self._train)

    def state(self) -> dict[str, bytes]:
        values = self.session.run({v.name: v for v in self._variables})
        return {name: np.asarray(value).tobytes() for name, value in values.items()}

    def save(self, path: pathlib.Path) -> str:
        return self._saver.save(self.session, str(path))

    def restore(self, path: str) -> None:
        self._saver.restore(self.session, path)


@pytest.mark.parametrize(("writer", "reader"), PATHS)
def test_saver(writer: str, reader: str, tmp_path: pathlib.Path) -> None:
    first, second = GraphRun(writer), GraphRun(reader)
    with first.session, second.session:
        for _ in range(3):
            first.step()
        path = first.save(tmp_path / "model.ckpt")
        assert second.state() != first.state()
        second.restore(path)
        assert second.state() == first.state()
        second.step()
        assert second.state()["global_step:0"] == np.int64(4).tobytes()
        assert second.state().keys() == first.state().keys()
