"""One of several workers that train together: `python -m tests.distribute.worker FILE`.

TF_CONFIG says which worker this is. Without it, the worker is alone.
"""

from __future__ import annotations

import pickle
import sys

import tensorflow as tf

from tests.distribute import replicas

RUNS = (
    ("mixed", "momentum"),
    ("bags", "Adam"),
    ("narrow", "clipnorm"),
    ("wide", "LossScaleOptimizer, global_clipnorm"),
)


def main() -> None:
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    count = strategy.num_replicas_in_sync
    replicas._strategies[count] = strategy
    trained = {
        (*run, backend): replicas.train(*run, backend, replicas=count)
        for run in RUNS
        for backend in ("auto", "reference")
    }
    with open(sys.argv[1], "wb") as file:
        pickle.dump(trained, file)


if __name__ == "__main__":
    main()
