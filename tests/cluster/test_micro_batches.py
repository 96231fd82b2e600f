"""Micro-batches on the second part's host: built there, their loops run there."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop.cluster import Cluster, bytes_across

tf1 = tf.compat.v1

BATCH, FEATURES, IV = 7, 5, 3


@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_the_same_bits_and_nothing_else_crosses(cluster: Cluster, backend: str) -> None:
    one, _ = _trained(None, backend)
    two, traffic = _trained(cluster, backend)
    for left, right in zip(two, one, strict=True):
        np.testing.assert_array_equal(left, right)
    crossed = sorted((c.source, c.bytes) for c in traffic.with_content())
    assert crossed == [(f"/job:{part}/task:0", BATCH * IV * 4) for part in ("first", "second")]


def _trained(cluster: Cluster | None, backend: str) -> tuple[list[np.ndarray], Any]:
    """All variables after some steps, and what has crossed in one of them."""
    on_second = contextlib.nullcontext if cluster is None else cluster.second_part
    random = np.random.default_rng(0)
    with tf.Graph().as_default():
        with on_second():
            x = tf.constant(random.normal(size=(BATCH, FEATURES)), tf.float32)
            w = tf1.get_variable("w", initializer=_numbers(random, FEATURES, 4))
            v = tf1.get_variable("v", initializer=_numbers(random, 4, IV))
            parts = splitop.MicroBatches(
                lambda chunk: tf.matmul(tf.nn.relu(tf.matmul(chunk, w)), v), x, size=2
            )
        with contextlib.nullcontext() if cluster is None else cluster.first_part():
            u = tf1.get_variable("u", initializer=_numbers(random, IV, 2))
            loss = tf.reduce_mean(tf.square(tf.matmul(parts.iv, u)))
            (seed,) = tf.gradients(loss, parts.iv)
        with on_second():
            optimizer = tf1.train.AdamOptimizer(0.02)
            step = parts.minimize(optimizer, [w, v], seed, backend=backend)
        with tf1.Session() if cluster is None else cluster.session() as session:
            session.run(tf1.global_variables_initializer())
            for _ in range(3):
                session.run(step)
            traffic = bytes_across(session, step)
            return session.run(tf1.global_variables()), traffic


def _numbers(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.normal(size=shape).astype(np.float32)
