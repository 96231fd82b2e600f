"""A fused step takes no memory of the size of a weight, outside of XLA and inside."""

from __future__ import annotations

import pathlib

import pytest

from tests.packaging.test_library import run_python

ROOT = pathlib.Path(__file__).resolve().parents[2]
WIDTH = 2048
MATRIX = 4 * WIDTH**2 / 2**20

# Prints by how many MiB the process has grown at most. What TensorFlow, and XLA, take for the first
# step of all is taken before.
STEPS = """
import keras, splitop, tensorflow as tf

def prepare(width):
    model = keras.Sequential([keras.layers.Dense(width, "relu") for _ in range(2)])
    model.build((8, width))
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False, jit_compile={jit})
    def step(x):
        splitop.minimize(optimizer, model(x), model.trainable_variables, backend="{backend}")

    return lambda: step(tf.ones([8, width]))

def status(field):
    (line,) = [line for line in open("/proc/self/status") if line.startswith(field)]
    return int(line.split()[1]) / 1024

prepare(32)()
steps = prepare({width})
before = status("VmRSS")
for _ in range(4):
    steps()
print(status("VmHWM") - before)
"""


def _growth(backend: str, jit: bool) -> float:
    out = run_python(STEPS.format(width=WIDTH, backend=backend, jit=jit), ROOT)
    return float(out.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("jit", [False, True])
def test_peak_memory(jit: bool) -> None:
    """The reference path keeps a gradient at least."""
    assert _growth("fused", jit) < 0.5 * MATRIX
    assert _growth("reference", jit) >= MATRIX
