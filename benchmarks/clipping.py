"""`python -m benchmarks.clipping`: what a step takes whose gradients are clipped or checked.

The second part's step given the seed, forward included, with Keras' Adam: fused (a
`splitop.function`), and Keras' own `apply` of TensorFlow's gradients (a tf.function), in turn.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import keras

from benchmarks import second_parts
from benchmarks.cases import CASES, FUSED, KERAS
from benchmarks.interleave import medians
from benchmarks.model_steps import LEARNING_RATE, ModelStep
from benchmarks.second_parts import SecondPart
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


def steps(part: SecondPart, batch: int) -> dict[str, ModelStep]:
    """A step for each optimizer and path."""
    return {
        f"{path}, {name}": ModelStep(part, batch, path, make)
        for name, make in OPTIMIZERS.items()
        for path in (FUSED, KERAS)
    }


def rows() -> Iterator[list[str]]:
    """The medians in ms, and how many times as long Keras takes."""
    yield ["ms: fused, Keras, Keras / fused", *OPTIMIZERS]
    for name, (part, batch) in PARTS.items():
        taken = medians(steps(part, batch), ROUNDS)
        cells = []
        for optimizer in OPTIMIZERS:
            fused, plain = (1e3 * taken[f"{path}, {optimizer}"] for path in (FUSED, KERAS))
            cells.append(f"{fused:.3g}, {plain:.3g}, {plain / fused:.2f}")
        yield [name, *cells]


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.clipping", description=__doc__).parse_args()
    print("\n".join(aligned(list(rows()))))


if __name__ == "__main__":
    main()
