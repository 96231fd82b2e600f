"""`python -m splitop doctor`: versions, state, and a self-test of the compiled op."""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from splitop._src import backend, build_info, library
from splitop._src.errors import SplitError
from splitop._src.full_precision import full_precision

STEPS = 3
BATCH = 8
WIDTHS = (7, 33, 19)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints what is installed and whether the compiled op computes what TensorFlow does.

    Returns:
        0 if all is well, 1 otherwise.
    """
    argparse.ArgumentParser(
        prog="python -m splitop doctor",
        description="Show versions and state, and test the compiled op.",
    ).parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        print(build_info.build_info(), flush=True)
    except SplitError as error:
        return _report(str(error))
    return _report(library.reason()) or max(_report(self_test(name), name) for name in devices())


def _report(problem: str | None, device: str | None = None) -> int:
    if problem is not None:
        print(f"\nNot well: {problem}")
        return 1
    if device is not None:
        print(f"self-test:     ok on {device}")
    return 0


def devices() -> list[str]:
    """Names of the devices that the compiled op is tested on: the CPU, and a GPU it can use."""
    import tensorflow as tf

    usable = library.cuda_reason() is None and tf.config.list_physical_devices("GPU")
    return ["CPU:0", "GPU:0"] if usable else ["CPU:0"]


def self_test(device: str) -> str | None:
    """Trains a small dense chain for a few steps on both paths and compares the weights.

    The bound is relative to the reference path's own rounding error, which is measured
    against the same training in float64.

    Returns:
        What went wrong, or None.
    """
    try:
        with full_precision():
            fused = _train(backend.FUSED, np.float32, device)
            reference = _train(backend.REFERENCE, np.float32, device)
            oracle = _train(backend.REFERENCE, np.float64, device)
    except Exception as error:
        return f"The self-test on {device} failed. Received: {error!r}."
    for name, exact in oracle.items():
        difference = np.abs(fused[name] - exact).max()
        bound = 2 * np.abs(reference[name] - exact).max() + 4 * np.spacing(
            np.abs(reference[name]).max()
        )
        if not difference <= bound:
            return (
                "The compiled op and TensorFlow do not agree: rebuild splitop, and report it if "
                f"that does not help. Received: on {device}, {name} differs by "
                f"{difference:.3g}, at most {bound:.3g} is rounding."
            )
    return None


def _train(path: str, dtype: Any, device: str) -> dict[str, np.ndarray]:
    """Weights after a few Adam steps on one path and device, from a fixed start."""
    import tensorflow as tf

    import splitop

    generator = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        # The same start for both dtypes.
        return generator.standard_normal(shape, np.float32).astype(dtype)

    with tf.Graph().as_default(), tf.device(device), tf.compat.v1.Session() as session:
        iv = tf.constant(random(BATCH, WIDTHS[0]))
        variables = []
        for layer, (inputs, outputs) in enumerate(itertools.pairwise(WIDTHS)):
            shapes = {f"kernel_{layer}": (inputs, outputs), f"bias_{layer}": (outputs,)}
            kernel, bias = (
                tf.Variable(random(*shape), name=name) for name, shape in shapes.items()
            )
            variables += [kernel, bias]
            iv = tf.nn.tanh(tf.matmul(iv, kernel) + bias)
        seed = tf.constant(random(BATCH, WIDTHS[-1]))
        # With a small epsilon Adam magnifies the rounding of gradients near zero.
        optimizer = tf.compat.v1.train.AdamOptimizer(0.01, epsilon=0.1)
        step = splitop.minimize(optimizer, iv, variables, grad_ys=seed, backend=path)
        session.run(tf.compat.v1.global_variables_initializer())
        for _ in range(STEPS):
            session.run(step)
        values = session.run(variables)
    return {variable.op.name: value for variable, value in zip(variables, values, strict=True)}
