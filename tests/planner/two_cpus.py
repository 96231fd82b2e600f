"""Trains a model whose layers are on two CPUs, on both paths: `two_cpus.py session|function`."""

from __future__ import annotations

import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import splitop

tf1 = tf.compat.v1

CPUS = ("/CPU:0", "/CPU:1")
# From the bottom up.
DEVICES = (CPUS[0], CPUS[1], CPUS[1], CPUS[0])
STEPS = 3
X = np.random.default_rng(0).normal(size=(6, 5))


def make_variables() -> list[tuple[tf.Variable, tf.Variable]]:
    random = np.random.default_rng(1)
    pairs = []
    for number, device in enumerate(DEVICES):
        with tf.device(device):
            kernel = tf.Variable(random.normal(size=(5, 5)), name=f"k{number}")
            pairs.append((kernel, tf.Variable(random.normal(size=5), name=f"b{number}")))
    return pairs


def step(pairs: Any, optimizer: Any, backend: str) -> tf.Operation:
    h = tf.constant(X)
    for kernel, bias in pairs:
        h = tf.tanh(tf.matmul(h, kernel) + bias)
    variables = [variable for pair in pairs for variable in pair]
    plan = splitop.plan(optimizer, h, variables, backend=backend)
    operation = plan.apply()
    if backend == "fused":
        graph = tf1.get_default_graph()
        ops = [op for op in graph.get_operations() if op.type == "Splitop>DenseChain"]
        assert [op.device[-5:] for op in ops] == ["CPU:0", "CPU:1", "CPU:0"]
        assert [len(chain.layers) for chain in plan.chains] == [1, 2, 1]
    return operation


def with_session(backend: str) -> list[np.ndarray]:
    with tf.Graph().as_default():
        pairs = make_variables()
        train = step(pairs, tf1.train.AdamOptimizer(0.01), backend)
        with tf1.Session(config=tf1.ConfigProto(device_count={"CPU": 2})) as session:
            session.run(tf1.global_variables_initializer())
            for _ in range(STEPS):
                session.run(train)
            return session.run([variable for pair in pairs for variable in pair])


def with_function(backend: str) -> list[np.ndarray]:
    pairs = make_variables()
    variables = [variable for pair in pairs for variable in pair]
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(variables)

    @tf.function(autograph=False)
    def train() -> None:
        step(pairs, optimizer, backend)

    for _ in range(STEPS):
        train()
    assert optimizer.iterations.numpy() == STEPS
    return [variable.numpy() for variable in variables]


def main() -> None:
    (cpu,) = tf.config.list_physical_devices("CPU")
    logical = [tf.config.LogicalDeviceConfiguration() for _ in CPUS]
    tf.config.set_logical_device_configuration(cpu, logical)
    train = {"session": with_session, "function": with_function}[sys.argv[1]]
    for fused, reference in zip(train("fused"), train("reference"), strict=True):
        np.testing.assert_allclose(fused, reference, rtol=1e-9, atol=1e-11)


if __name__ == "__main__":
    main()
