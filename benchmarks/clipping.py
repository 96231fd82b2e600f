"""`python -m benchmarks.clipping`: what a step takes whose gradients are clipped or checked.

The second part's step given the seed, forward included, with Keras' Adam: fused (a
`splitop.function`), and Keras' own `apply` of TensorFlow's gradients (a tf.function), in turn.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import splitop
from benchmarks import second_parts
from benchmarks.cases import CASES, FUSED, KERAS
from benchmarks.interleave import interleave, warm_up
from benchmarks.second_parts import SecondPart
from benchmarks.steps import LEARNING_RATE, apply_keras, function_of
from benchmarks.table import aligned

# Name: the part, and the rows of a batch.
PARTS: dict[str, tuple[SecondPart, int]] = {
    **{
        case.name: (second_parts.mlp(case.width, [case.width] * case.layers), case.batch)
        for case in CASES
    },
    "transformer b32": (second_parts.transformer(1000, 64, 256, 4, blocks=1), 32),
}
Optimizer = Callable[[], Any]
OPTIMIZERS: dict[str, Optimizer] = {
    "as it is": lambda: keras.optimizers.Adam(LEARNING_RATE),
    "clipvalue": lambda: keras.optimizers.Adam(LEARNING_RATE, clipvalue=1e-3),
    "clipnorm": lambda: keras.optimizers.Adam(LEARNING_RATE, clipnorm=1e-2),
    "global_clipnorm": lambda: keras.optimizers.Adam(LEARNING_RATE, global_clipnorm=1e-2),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(LEARNING_RATE)),
}
ROUNDS = 30


def steps(part: SecondPart, batch: int) -> dict[str, Callable[[], object]]:
    """A step for each optimizer and path."""
    return {
        f"{path}, {name}": _step(part, batch, path, make)
        for name, make in OPTIMIZERS.items()
        for path in (FUSED, KERAS)
    }


def _step(part: SecondPart, batch: int, path: str, make: Optimizer) -> Callable[[], object]:
    keras.utils.set_random_seed(0)
    model, optimizer = part.build(), make()
    variables = model.trainable_variables
    optimizer.build(variables)
    random = np.random.default_rng(0)
    inputs = [tf.constant(x) for x in part.inputs(model, batch, random)]
    (iv,) = model.outputs
    seed = tf.constant(random.standard_normal((batch, *iv.shape[1:])) / batch, tf.float32)

    @function_of(path)
    def step(inputs: list[tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
        iv = second_parts.forward(model, inputs)
        if path == FUSED:
            update = splitop.minimize(optimizer, iv, variables, seed, backend=FUSED)
        else:
            update = apply_keras(optimizer, iv, seed, variables)
        with tf.control_dependencies([update]):
            return tf.reshape(variables[-1].value, [-1])[0]

    return lambda: step(inputs, seed).numpy()


def rows() -> Iterator[list[str]]:
    """The medians in ms, and how many times as long Keras takes."""
    yield ["ms: fused, Keras, Keras / fused", *OPTIMIZERS]
    for name, (part, batch) in PARTS.items():
        of_part = steps(part, batch)
        warm_up(of_part.values())
        taken = {
            step: 1e3 * float(np.median(seconds))
            for step, seconds in interleave(of_part, ROUNDS).items()
        }
        cells = []
        for optimizer in OPTIMIZERS:
            fused, plain = (taken[f"{path}, {optimizer}"] for path in (FUSED, KERAS))
            cells.append(f"{fused:.3g}, {plain:.3g}, {plain / fused:.2f}")
        yield [name, *cells]


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.clipping", description=__doc__).parse_args()
    print("\n".join(aligned(list(rows()))))


if __name__ == "__main__":
    main()
