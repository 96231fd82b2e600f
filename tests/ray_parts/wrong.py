"""Parts that have something wrong with them."""

from __future__ import annotations

import dataclasses
import enum
import os
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from splitop.ray import FirstPart, SecondPart
from tests.ray_parts import parts


def head() -> FirstPart:
    return parts.head()


def encoder(**changes: Any) -> SecondPart:
    return dataclasses.replace(parts.encoder("bank"), **changes)


def unbuilt() -> SecondPart:
    return encoder(model=keras.Sequential([keras.layers.Dense(6)]))


def tf1() -> SecondPart:
    return encoder(optimizer=tf.compat.v1.train.AdamOptimizer())


def no_data() -> SecondPart:
    return encoder(data=parts.inputs("bank"))


def raises() -> SecondPart:
    raise KeyError("password")


def dies() -> SecondPart:
    os._exit(1)


def few_rows() -> SecondPart:
    return encoder(data=lambda keys: np.zeros([len(keys) - 1, 7], np.float32))


def no_rows_of_iv() -> SecondPart:
    x = keras.Input((7,))
    iv = keras.layers.Lambda(lambda h: tf.transpose(h))(keras.layers.Dense(6)(x))
    return encoder(model=keras.Model(x, iv))


def other_width() -> SecondPart:
    x = keras.Input((7,))
    return encoder(model=keras.Model(x, keras.layers.Dense(5)(x)))


class Side(str, enum.Enum):
    LEFT = "left"


class NamedSides(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(6)

    def call(self, x: Any) -> Any:
        return {Side.LEFT: self.dense(x)}


def keys_of_a_class() -> SecondPart:
    model = NamedSides()
    model(np.zeros([1, 7], np.float32))
    return encoder(model=model)


def in_a_dictionary() -> SecondPart:
    x = keras.Input((7,))
    return encoder(model=keras.Model(x, {"iv": keras.layers.Dense(6)(x)}))


class Halves(NamedTuple):
    left: Any
    right: Any


class InAClass(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = keras.layers.Dense(6), keras.layers.Dense(6)

    def call(self, x: Any) -> Halves:
        return Halves(self.left(x), self.right(x))


def in_a_class() -> SecondPart:
    model = InAClass()
    model(np.zeros([1, 7], np.float32))
    return encoder(model=model)


def of_two() -> FirstPart:
    left, right = keras.Input((6,)), keras.Input((6,))
    joined = keras.layers.Concatenate()([left, right])
    model = keras.Model((left, right), keras.layers.Dense(parts.CLASSES)(joined))
    return dataclasses.replace(parts.head(), model=model)


def nan() -> SecondPart:
    x = keras.Input((7,))
    return encoder(
        model=keras.Model(x, keras.layers.Dense(6)(x)),
        data=lambda keys: np.full([len(keys), 7], np.nan, np.float32),
        check_numerics=True,
    )
