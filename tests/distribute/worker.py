"""What one of several workers that train together does: see `processes.run_workers`."""

from __future__ import annotations

import tensorflow as tf

from tests.distribute import replicas

RUNS = (
    ("mixed", "momentum"),
    ("bags", "Adam"),
    ("narrow", "clipnorm"),
    ("wide", "LossScaleOptimizer, global_clipnorm"),
)


def train() -> dict[tuple[str, ...], replicas.Trained]:
    """All of RUNS, on both paths."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    count = strategy.num_replicas_in_sync
    replicas._strategies[count] = strategy
    return {
        (*run, backend): replicas.train(*run, backend, replicas=count)
        for run in RUNS
        for backend in ("auto", "reference")
    }
