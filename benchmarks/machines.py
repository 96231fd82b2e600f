"""`python -m benchmarks.machines`: a step of both parts in two processes, and in one.

Both processes are on this machine and share its cores: it shows what TensorFlow's cluster runtime
adds, not what a second machine gives. "send" is a run that sends a tensor as large as IV, and does
nothing else: a step can't take less than that twice.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

import splitop
from benchmarks.interleave import interleave, warm_up

tf1 = tf.compat.v1

SERVE = "import splitop; splitop.cluster.Cluster().serve()"
CLASSES, LAYERS = 10, 3


class Step:
    """A step of two parts in a session of its own, on two hosts or in this process."""

    def __init__(self, cluster: splitop.cluster.Cluster | None, width: int, batch: int):
        on_first, on_second = contextlib.nullcontext, contextlib.nullcontext
        if cluster is not None:
            on_first, on_second = cluster.first_part, cluster.second_part
        with tf.Graph().as_default():
            tf1.set_random_seed(0)
            with on_second(), tf1.variable_scope("second_part"):
                iv = tf1.get_variable("x", [batch, width], trainable=False)
                for number in range(LAYERS):
                    w = tf1.get_variable(f"w{number}", [width, width])
                    iv = tf.nn.relu(tf.matmul(iv, w))
                self._sent = tf1.get_variable("sent", [batch, width], trainable=False)
            with on_first(), tf1.variable_scope("first_part"):
                labels = tf.constant(np.arange(batch) % CLASSES)
                logits = tf.matmul(iv, tf1.get_variable("w", [width, CLASSES]))
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                    labels=labels, logits=logits
                )
                self._received = tf.reduce_max(self._sent).op
            self.ops = splitop.split_minimize(
                tf.reduce_mean(losses),
                iv,
                first_optimizer=tf1.train.GradientDescentOptimizer(0.1),
                second_optimizer=tf1.train.AdamOptimizer(1e-3),
                forward="stash",
            )
            self.weights = tf1.trainable_variables()
            self.session = tf1.Session() if cluster is None else cluster.session()
            self.session.run(tf1.global_variables_initializer())

    def both(self) -> None:
        """Both parts in one run."""
        self.session.run(self.ops.train_both)

    def two_runs(self) -> None:
        """Each part in a run of its own; the seed stays where it is."""
        self.session.run(self.ops.train_first)
        self.session.run(self.ops.train_second)

    def send(self) -> None:
        """Sends one tensor of the size of IV, and reads it there."""
        self.session.run(self._received)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.machines", description=__doc__)
    parser.add_argument("--width", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 128, 1024])
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args(argv)
    spec = _free_addresses()
    config = {"cluster": spec, "task": {"type": "second", "index": 0}}
    environment = os.environ | {"TF_CONFIG": json.dumps(config)}
    second = subprocess.Popen([sys.executable, "-c", SERVE], env=environment)
    try:
        cluster = splitop.cluster.Cluster(spec, "first")
        for width in options.width:
            for batch in options.batch:
                _measure(cluster, width, batch, options.rounds)
        cluster.stop()
        second.wait(30)
    finally:
        second.kill()
        second.wait()


def _measure(cluster: splitop.cluster.Cluster, width: int, batch: int, rounds: int) -> None:
    two, one = Step(cluster, width, batch), Step(None, width, batch)
    with two.session, one.session:
        steps: dict[str, Callable[[], None]] = {
            "one process, one run": one.both,
            "two processes, one run": two.both,
            "one process, two runs": one.two_runs,
            "two processes, two runs": two.two_runs,
            "two processes, send": two.send,
        }
        warm_up(steps.values())
        seconds = interleave(steps, rounds)
        traffic = splitop.cluster.bytes_across(two.session, two.ops.train_both)
        one.both()
        same = all(map(np.array_equal, *(s.session.run(s.weights) for s in (one, two))))
    print(f"{LAYERS} x {width}, batch {batch}: {traffic.total:,} bytes across, same bits: {same}")
    for name, each in seconds.items():
        quarters = statistics.quantiles(each, n=4)
        print(f"  {name:24} {_ms(quarters[1])}  (quartiles {_ms(quarters[0])}, {_ms(quarters[2])})")


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"


def _free_addresses() -> dict[str, str]:
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in (first, second)]
    return {
        part: f"127.0.0.1:{port}" for part, port in zip(("first", "second"), ports, strict=True)
    }


if __name__ == "__main__":
    main()
