"""Second parts of several kinds, x to IV, in any size: tiny for tests, realistic for benchmarks.

All are Keras models of the dtype policy in force, with initial weights from `keras.utils`' seed.
Layers have names, so that plans can be compared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

layers = keras.layers


@dataclasses.dataclass(frozen=True)
class SecondPart:
    """A second part and what it reads.

    Attributes:
        build: Makes the model.
        ids: Integers among the inputs are below this; None: there are none.
    """

    build: Callable[[], Any]
    ids: int | None = None

    def inputs(self, model: Any, batch: int, random: np.random.Generator) -> list[np.ndarray]:
        """A batch of each of the model's inputs."""
        return [self._values(x, (batch, *x.shape[1:]), random) for x in model.inputs]

    def _values(self, x: Any, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
        if "int" in x.dtype:
            return random.integers(0, self.ids, shape).astype(x.dtype)
        return random.normal(size=shape).astype(x.dtype)


def forward(model: Any, inputs: Sequence[Any]) -> Any:
    """The intermediate vector in training."""
    return model(inputs if len(inputs) > 1 else inputs[0], training=True)


def mlp(features: int, units: Sequence[int]) -> SecondPart:
    """Dense layers with relu."""

    def build() -> Any:
        x = h = keras.Input((features,))
        for number, width in enumerate(units, 1):
            h = layers.Dense(width, "relu", name=f"dense_{number}")(h)
        return keras.Model(x, h)

    return SecondPart(build)


def dlrm(tables: int, rows: int, width: int, features: int, units: int) -> SecondPart:
    """Embedding tables, and beside them an MLP of dense features; above both an MLP."""

    def build() -> Any:
        x, ids = keras.Input((features,)), keras.Input((tables,), dtype="int32")
        h = layers.Dense(units, "relu", name="bottom_1")(x)
        parts = [layers.Dense(width, "relu", name="bottom_2")(h)]
        for table in range(tables):
            embedding = layers.Embedding(rows, width, name=f"table_{table + 1}")
            parts.append(embedding(ids[:, table]))
        h = layers.Dense(units, "relu", name="top_1")(layers.Concatenate()(parts))
        return keras.Model([x, ids], layers.Dense(units // 2, "relu", name="top_2")(h))

    return SecondPart(build, rows)


def transformer(tokens: int, length: int, width: int, heads: int, blocks: int = 2) -> SecondPart:
    """An encoder: an embedding, blocks of attention and MLP, the average over the sequence."""

    def build() -> Any:
        ids = keras.Input((length,), dtype="int32")
        h = layers.Embedding(tokens, width, name="embedding")(ids)
        for block in range(1, blocks + 1):
            attention = layers.MultiHeadAttention(heads, width // heads, name=f"attention_{block}")
            h = layers.LayerNormalization(name=f"norm_{block}a")(h + attention(h, h))
            up = layers.Dense(4 * width, "relu", name=f"up_{block}")(h)
            down = layers.Dense(width, name=f"down_{block}")(up)
            h = layers.LayerNormalization(name=f"norm_{block}b")(h + down)
        return keras.Model(ids, layers.GlobalAveragePooling1D()(h))

    return SecondPart(build, tokens)


def cnn(side: int, filters: int, units: int) -> SecondPart:
    """Two convolutions, the second one normalised, and two dense layers."""

    def build() -> Any:
        x = keras.Input((side, side, 3))
        h = layers.Conv2D(filters, 3, activation="relu", name="conv_1")(x)
        h = layers.Conv2D(2 * filters, 3, use_bias=False, name="conv_2")(layers.MaxPooling2D()(h))
        h = layers.Activation("relu")(layers.BatchNormalization(name="norm")(h))
        h = layers.Dense(units, "relu", name="dense_1")(layers.Flatten()(h))
        return keras.Model(x, layers.Dense(units // 2, name="dense_2")(h))

    return SecondPart(build)


def mobilenet(side: int, alpha: float) -> SecondPart:
    """MobileNetV2 of keras.applications up to its pooled features, untrained."""

    def build() -> Any:
        return keras.applications.MobileNetV2(
            (side, side, 3), alpha, include_top=False, weights=None, pooling="avg"
        )

    return SecondPart(build)


def lstm(tokens: int, length: int, width: int, units: int) -> SecondPart:
    """An encoder of sequences: an embedding, an LSTM, a dense layer."""

    def build() -> Any:
        ids = keras.Input((length,), dtype="int32")
        h = layers.Embedding(tokens, width, name="embedding")(ids)
        h = layers.LSTM(units, name="lstm")(h)
        return keras.Model(ids, layers.Dense(units // 2, "relu", name="dense")(h))

    return SecondPart(build, tokens)


def tied(tokens: int, length: int, width: int) -> SecondPart:
    """A dense layer that is applied twice, and an embedding that is the output's kernel, too."""

    def build() -> Any:
        ids = keras.Input((length,), dtype="int32")
        embedding = layers.ReversibleEmbedding(tokens, width, name="embedding")
        shared = layers.Dense(width, "tanh", name="shared")
        h = layers.Flatten()(embedding(ids))
        h = shared(shared(layers.Dense(width, "relu", name="dense")(h)))
        return keras.Model(ids, embedding(h, reverse=True))

    return SecondPart(build, tokens)
