"""A step of two parts in one process or on two hosts, by `splitop.cluster`, and its parts' times.

`python -m benchmarks.scaling.hosts first|second|alone`: one of the processes of a measurement.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

import splitop
from benchmarks.scaling.wire import ADDRESSES

v1 = tf.compat.v1
SPEC = {"first": f"{ADDRESSES[0]}:2222", "second": f"{ADDRESSES[1]}:2222"}
WARMUP, ROUNDS = 10, 40


class Parts:
    """A dense second part on data of its own host, and a dense first part.

    Attributes:
        iv: The intermediate vector.
        ops: What splitop.split_minimize returns.
    """

    def __init__(self, batch: int, width: int, second: Any, first: Any) -> None:
        v1.set_random_seed(0)
        with second(), v1.variable_scope("second_part"):
            h = tf.random.stateless_normal([batch, 512], [1, 2])
            for layer, units in enumerate((512, width)):
                w = v1.get_variable(f"w{layer}", [h.shape[1], units])
                h = tf.nn.relu(tf.matmul(h, w))
            self.iv = h
        with first(), v1.variable_scope("first_part"):
            h = tf.nn.relu(tf.matmul(self.iv, v1.get_variable("w0", [width, 256])))
            logits = tf.matmul(h, v1.get_variable("w1", [256, 10]))
            labels = tf.constant(np.arange(batch) % 10)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        self.ops = splitop.split_minimize(
            tf.reduce_mean(loss),
            self.iv,
            first_optimizer=v1.train.AdamOptimizer(1e-3),
            second_optimizer=v1.train.AdamOptimizer(1e-3),
        )


def alone(batch: int, width: int) -> dict[str, float]:
    """Median seconds of the whole step in one process, and of its parts."""
    parts = Parts(batch, width, contextlib.nullcontext, contextlib.nullcontext)
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        iv, seed = session.run([parts.iv, parts.ops.iv_gradients])
        ops, given = parts.ops, {parts.iv: iv}
        forward = _median(lambda: session.run(parts.iv.op))
        # In a run of its own the second part's step has a forward pass, too.
        second = _median(lambda: session.run(ops.train_second, {ops.iv_gradients_ph: seed}))
        return {
            "step": _median(lambda: session.run(ops.train_both)),
            "forward": forward,
            "first": _median(lambda: session.run([ops.train_first, ops.iv_gradients.op], given)),
            "update": second - forward,
            "iv": float(iv.nbytes),
            "seed": float(seed.nbytes),
        }


def first(batch: int, width: int) -> dict[str, float]:
    """Median seconds of the whole step on two hosts."""
    cluster = splitop.cluster.Cluster(SPEC, "first", timeout=120)
    parts = Parts(batch, width, cluster.second_part, cluster.first_part)
    with cluster.session() as session:
        session.run(v1.global_variables_initializer())
        times = {"step": _median(lambda: session.run(parts.ops.train_both))}
    cluster.stop()
    return times


def _median(run: Callable[[], Any]) -> float:
    times = []
    for _ in range(WARMUP + ROUNDS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times[WARMUP:]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("host", choices=["alone", "first", "second"])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--width", type=int, default=256)
    options = parser.parse_args()
    if options.host == "second":
        splitop.cluster.Cluster(SPEC, "second", timeout=120).serve()
        return
    with tf.Graph().as_default():
        measured = (alone if options.host == "alone" else first)(options.batch, options.width)
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
