"""Trains a SplitStep on the two hosts of TF_CONFIG and on one: it has to be the same.

In a process of its own, as TensorFlow connects to a cluster before it has run anything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

import splitop

BATCH, FEATURES, IV, ROWS = 7, 5, 3, 11
SECOND, FIRST = (
    "/job:second/replica:0/task:0/device:CPU:0",
    "/job:first/replica:0/task:0/device:CPU:0",
)


class Model:
    """A SplitStep, and the batches that its second part reads."""

    def __init__(self, on_second: Callable[[], Any], forward: str):
        keras.utils.set_random_seed(2)
        with on_second():
            x, ids = keras.Input((FEATURES,)), keras.Input((2,), dtype="int64")
            h = keras.layers.Dense(8, "relu")(x)
            h = keras.layers.Dropout(0.2, seed=4)(h)
            bags = keras.layers.Flatten()(keras.layers.Embedding(ROWS, 3)(ids))
            h = keras.layers.Concatenate()([h, bags])
            self.second = keras.Model([x, ids], keras.layers.Dense(IV, "tanh")(h))
            second_optimizer = keras.optimizers.Adam(0.02)
        self.first = keras.Sequential([keras.Input((IV,)), keras.layers.Dense(4)])
        self.optimizers = keras.optimizers.Adam(0.02), second_optimizer
        self.step = splitop.SplitStep(
            self.second,
            self.first,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            first_optimizer=self.optimizers[0],
            second_optimizer=second_optimizer,
            forward=forward,
            backend="fused",
        )
        self._on_second = on_second

    def batch(self, number: int) -> tuple[Any, Any]:
        random = np.random.default_rng(number)
        with self._on_second():
            x = tf.constant(random.normal(size=(BATCH, FEATURES)), tf.float32)
            ids = tf.constant(random.integers(0, ROWS, (BATCH, 2)))
        return [x, ids], tf.constant(random.integers(0, 4, BATCH))

    def two_calls(self, number: int) -> None:
        inputs, labels = self.batch(number)
        iv = self.step.forward_second(inputs)
        assert iv.device == inputs[0].device
        _, seed = self.step.train_first(iv, labels)
        self.step.train_second(seed)

    def state(self) -> list[np.ndarray]:
        owners = (self.second, self.first, *self.optimizers)
        return [variable.numpy() for owner in owners for variable in owner.variables]


def sent(run: Callable[[], Any]) -> list[tuple[str, str, str]]:
    """What TensorFlow sends in the functions that `run` builds: name, from, to; no signals."""
    context.context().enable_run_metadata()
    context.context().export_run_metadata()  # Of calls before, too.
    try:
        run()
        metadata = context.context().export_run_metadata()
    finally:
        context.context().disable_run_metadata()
    found = []
    for graph in (g for function in metadata.function_graphs for g in function.partition_graphs):
        for node in graph.node:
            if node.op == "_Send" and not _is_signal(node, graph):
                ends = (node.attr[end].s.decode() for end in ("send_device", "recv_device"))
                found.append((node.input[0], *ends))
    return [each for each in found if each[1] != each[2]]


def _is_signal(node: Any, graph: Any) -> bool:
    """Whether an empty constant is sent, to say that something is done."""
    (source,) = (each for each in graph.node if each.name == node.input[0].split(":")[0])
    return source.op == "Const" and bool(source.input)


def check(cluster: splitop.cluster.Cluster, forward: str) -> None:
    two, one = Model(cluster.second_part, forward), Model(contextlib.nullcontext, forward)
    assert {v.value.device for v in two.second.variables if v.trainable} == {SECOND}
    assert {v.value.device for v in one.second.variables} == {FIRST}
    inputs, labels = two.batch(0)
    both = sent(lambda: two.step.step(inputs, labels))
    assert sorted(each[1:] for each in both) == [(FIRST, SECOND), (SECOND, FIRST)], both
    one.step.step(*one.batch(0))
    parts = sent(lambda: two.two_calls(1))
    assert sorted(each[1:] for each in parts) == [(FIRST, SECOND), (SECOND, FIRST)], parts
    one.two_calls(1)
    for number in range(2, 6, 2):
        for each in (two, one):
            each.step.step(*each.batch(number))
            each.two_calls(number + 1)
    for left, right in zip(two.state(), one.state(), strict=True):
        np.testing.assert_array_equal(left, right)
    print(f"{forward}: the same bits", flush=True)


def main() -> None:
    cluster = splitop.cluster.Cluster()
    cluster.connect()
    for forward in ("stash", "recompute"):
        check(cluster, forward)
    cluster.stop()
    print("done", flush=True)


if __name__ == "__main__":
    main()
