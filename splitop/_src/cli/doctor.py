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
    problem = _report(library.reason())
    return problem or max(_report(self_test(*test), *test) for test in _tests())


def _report(problem: str | None, device: str | None = None, jit: bool = False) -> int:
    if problem is not None:
        print(f"\nNot well: {problem}")
        return 1
    if device is not None:
        print(f"self-test:     ok on {_where(device, jit)}")
    return 0


def _where(device: str, jit: bool) -> str:
    return f"{device}, jit_compile=True" if jit else device


def devices() -> list[str]:
    """Names of the devices that the compiled op is tested on: the CPU, and a GPU it can use."""
    import tensorflow as tf

    usable = library.cuda_reason() is None and tf.config.list_physical_devices("GPU")
    return ["CPU:0", "GPU:0"] if usable else ["CPU:0"]


def _tests() -> list[tuple[str, bool]]:
    """The devices, and whether XLA compiles the test, which it can for CPUs."""
    inside_xla = [] if library.xla_reason() else [("CPU:0", True)]
    return [(name, False) for name in devices()] + inside_xla


def self_test(device: str, jit: bool = False) -> str | None:
    """Trains a small dense chain for a few steps on both paths and compares the weights.

    With `jit` XLA compiles the fused steps.

    The bound is relative to the reference path's own rounding error, which is measured
    against the same training in float64.

    Returns:
        What went wrong, or None.
    """
    try:
        with full_precision():
            fused = _train(backend.FUSED, np.float32, device, jit)
            reference = _train(backend.REFERENCE, np.float32, device)
            oracle = _train(backend.REFERENCE, np.float64, device)
    except Exception as error:
        return f"The self-test on {_where(device, jit)} failed. Received: {error!r}."
    for name, exact in oracle.items():
        difference = np.abs(fused[name] - exact).max()
        bound = 2 * np.abs(reference[name] - exact).max() + 4 * np.spacing(
            np.abs(reference[name]).max()
        )
        if not difference <= bound:
            return (
                "The compiled op and TensorFlow do not agree: rebuild splitop, and report it if "
                f"that does not help. Received: on {_where(device, jit)}, {name} differs by "
                f"{difference:.3g}, at most {bound:.3g} is rounding."
            )
    return None


def _train(path: str, dtype: Any, device: str, jit: bool = False) -> dict[str, np.ndarray]:
    """Weights after a few Adam steps on one path and device, from a fixed start."""
    import keras
    import tensorflow as tf

    import splitop

    generator = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        # The same start for both dtypes.
        return generator.standard_normal(shape, np.float32).astype(dtype)

    with tf.device(device):
        variables = []
        for layer, (inputs, outputs) in enumerate(itertools.pairwise(WIDTHS)):
            shapes = {f"kernel_{layer}": (inputs, outputs), f"bias_{layer}": (outputs,)}
            variables += [tf.Variable(random(*shape), name=name) for name, shape in shapes.items()]
        x, seed = random(BATCH, WIDTHS[0]), random(BATCH, WIDTHS[-1])
        # With a small epsilon Adam magnifies the rounding of gradients near zero.
        optimizer = keras.optimizers.Adam(0.01, epsilon=0.1)
        optimizer.build(variables)

        @tf.function(autograph=False, jit_compile=jit)
        def step() -> None:
            iv = tf.constant(x)
            for kernel, bias in zip(variables[::2], variables[1::2], strict=True):
                iv = tf.nn.tanh(tf.matmul(iv, kernel) + bias)
            splitop.minimize(optimizer, iv, variables, grad_ys=tf.constant(seed), backend=path)

        train = step.get_concrete_function()  # TensorFlow warns of functions made again and again
        for _ in range(STEPS):
            train()
    return {variable.name: variable.numpy() for variable in variables}
