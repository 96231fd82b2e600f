"""Warnings name the line of the user's code that they are about."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import keras
import pytest
import tensorflow as tf

import splitop
import splitop.lib


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return tf.function(function, autograph=False)


@pytest.mark.parametrize("make", [_plain, tf.function, splitop.function])
@pytest.mark.parametrize("kind", ["seed", "library"])
def test_of_a_step_in_a_function(
    kind: str, make: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = keras.layers.Dense(3)
    layer.build((None, 2))
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(layer.trainable_variables)
    seeds: list[Any] = [None] if kind == "seed" else []
    if kind == "library":
        monkeypatch.setattr(splitop.lib, "__path__", [str(tmp_path)])

    @make
    def step(x: tf.Tensor) -> None:
        splitop.minimize(optimizer, layer(x), layer.trainable_variables, *seeds)

    with pytest.warns(Warning, match="seeds with ones|reference path") as caught:
        step(tf.ones([2, 2]))
    assert [warning.filename for warning in caught] == [__file__]
