"""TensorFlow, Keras and splitop: the same Keras model, other gradients and updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import splitop
from benchmarks.peers import rules
from benchmarks.peers.cases import (
    ADAGRAD,
    ADAM,
    ADAMW,
    MOMENTUM,
    SGD,
    Convolutions,
    Dense,
    Embedding,
    Part,
    Transformer,
)
from benchmarks.peers.peer import Absent, Peer
from benchmarks.steps import apply_keras

layers = keras.layers
Update = Callable[[Any, Any], Any]


class TensorFlowPeer(Peer):
    """A function that ends with a small read of a variable behind the updates."""

    _function = staticmethod(tf.function)

    def __init__(self, part: Part, rule: str, jit_compile: bool = False) -> None:
        model = MODELS[type(part)](part)
        variables = model.trainable_variables
        update = self._update(part, rule, variables)

        @self._function(autograph=False, jit_compile=jit_compile)
        def step(x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            with tf.control_dependencies([update(model(x, training=True), seed)]):
                return tf.reshape(variables[-1].value, [-1])[0]

        self._step = step
        self._model = model
        self._batches = [
            (tf.constant(x), tf.constant(seed))
            for x, seed in zip(part.inputs(), part.seeds(), strict=True)
        ]

    def step(self, batch: int) -> None:
        self._step(*self._batches[batch]).numpy()

    def weights(self) -> list[np.ndarray]:
        return self._model.get_weights()

    def set_weights(self, weights: list[np.ndarray]) -> None:
        self._model.set_weights(weights)

    def _update(self, part: Part, rule: str, variables: list[Any]) -> Update:
        raise NotImplementedError


class Splitop(TensorFlowPeer):
    """The fused path, for a Keras optimizer, in a `splitop.function`."""

    _function = staticmethod(splitop.function)

    def _update(self, part: Part, rule: str, variables: list[Any]) -> Update:
        own = _keras_optimizer(rule, variables)
        return lambda iv, seed: splitop.minimize(own, iv, variables, seed, backend="fused")


class Keras(TensorFlowPeer):
    """tf.gradients and the Keras optimizer."""

    def _update(self, part: Part, rule: str, variables: list[Any]) -> Update:
        own = _keras_optimizer(rule, variables)
        return lambda iv, seed: apply_keras(own, iv, seed, variables)


class Reference(TensorFlowPeer):
    """tf.gradients and TensorFlow's own update ops, those of TF1's optimizers."""

    def _update(self, part: Part, rule: str, variables: list[Any]) -> Update:
        if rule == MOMENTUM and isinstance(part, Embedding):
            raise Absent("TF1's momentum leaves rows alone that are not looked up")
        optimizer = _tf1_optimizer(rule)
        own = [variable.value for variable in variables]
        decay = rules.RATE[rule] * rules.WEIGHT_DECAY

        def update(iv: tf.Tensor, seed: tf.Tensor) -> tf.Operation:
            gradients = tf.gradients(iv, own, seed)
            with tf.control_dependencies([_first(gradient) for gradient in gradients]):
                decayed = [w.assign_sub(decay * w) for w in own] if rule == ADAMW else []
            with tf.control_dependencies(decayed):
                return optimizer.apply_gradients(list(zip(gradients, own, strict=True)))

        return update


def _first(gradient: Any) -> tf.Tensor:
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient


def _keras_optimizer(rule: str, variables: list[Any]) -> Any:
    rate = rules.RATE[rule]
    adam = dict(beta_1=rules.BETA1, beta_2=rules.BETA2, epsilon=rules.EPSILON)
    optimizers = keras.optimizers
    optimizer = {
        SGD: lambda: optimizers.SGD(rate),
        MOMENTUM: lambda: optimizers.SGD(rate, rules.MOMENTUM_FACTOR),
        ADAM: lambda: optimizers.Adam(rate, **adam),
        ADAMW: lambda: optimizers.AdamW(rate, rules.WEIGHT_DECAY, **adam),
        ADAGRAD: lambda: optimizers.Adagrad(rate, rules.INITIAL_ACCUMULATOR, epsilon=rules.EPSILON),
    }[rule]()
    optimizer.build(variables)
    return optimizer


def _tf1_optimizer(rule: str) -> Any:
    rate = rules.RATE[rule]
    train = tf.compat.v1.train
    if rule in (ADAM, ADAMW):
        return train.AdamOptimizer(rate, rules.BETA1, rules.BETA2, rules.EPSILON)
    return {
        SGD: lambda: train.GradientDescentOptimizer(rate),
        MOMENTUM: lambda: train.MomentumOptimizer(rate, rules.MOMENTUM_FACTOR),
        ADAGRAD: lambda: train.AdagradOptimizer(rate, rules.INITIAL_ACCUMULATOR),
    }[rule]()


def _dense(part: Dense) -> Any:
    relus = [layers.Dense(part.width, "relu") for _ in range(part.layers)]
    return keras.Sequential([keras.Input((part.width,)), *relus])


def _embedding(part: Embedding) -> Any:
    ids = keras.Input((part.fields,), dtype="int32")
    rows = layers.Flatten()(layers.Embedding(part.rows, part.width)(ids))
    return keras.Model(ids, layers.Dense(part.units, "relu")(rows))


def _transformer(part: Transformer) -> Any:
    x = keras.Input(part.iv_shape)
    attention = layers.MultiHeadAttention(part.heads, part.width // part.heads, use_bias=False)
    h = layers.LayerNormalization()(x + attention(x, x))
    mlp = layers.Dense(part.width)(layers.Dense(4 * part.width, "relu")(h))
    return keras.Model(x, layers.LayerNormalization()(h + mlp))


def _convolutions(part: Convolutions) -> Any:
    x = keras.Input((part.side, part.side, 3))
    h = layers.MaxPooling2D()(layers.Conv2D(part.filters, 3, activation="relu")(x))
    h = layers.Flatten()(layers.Conv2D(2 * part.filters, 3, activation="relu")(h))
    return keras.Model(x, layers.Dense(part.units, "relu")(h))


MODELS: dict[type, Callable[[Any], Any]] = {
    Dense: _dense,
    Embedding: _embedding,
    Transformer: _transformer,
    Convolutions: _convolutions,
}
