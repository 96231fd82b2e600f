"""The same inputs give the same bits, whatever runs them."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.op.chains import SessionProgram, make_chain

SCRIPT = "tests.op.same_bits"
ROOT = pathlib.Path(__file__).parents[2]


def lines(threads: int) -> list[str]:
    process = subprocess.run(
        [sys.executable, "-m", SCRIPT, str(threads)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return process.stdout.splitlines()


@pytest.mark.slow
def test_any_number_of_threads():
    one = lines(1)
    assert len(one) == 12
    assert one[0::2] == one[1::2]  # session and function
    assert lines(2) == one
    assert lines(7) == one


def test_run_to_run(program):
    chain = make_chain((33, 65, 129), batch=31)
    first, second = program(chain), program(chain)
    for _ in range(3):
        np.testing.assert_array_equal(first.run(chain.tensors()), second.run(chain.tensors()))
    for name, value in first.state().items():
        assert value.tobytes() == second.state()[name].tobytes(), name


@pytest.mark.parametrize("in_caller_thread", [False, True])
def test_denormals_do_not_depend_on_the_thread(in_caller_thread):
    """TensorFlow's own threads flush them, a session's caller does not."""
    chain = make_chain((5, 7), batch=3, activations="linear", rule="momentum")
    tensors = chain.tensors() | {"seed": chain.seed * np.float32(1e-38)}
    run = SessionProgram(chain)
    for name, value in chain.variables().items():
        run.assign(name, value * np.float32(1e-38))
    run.run(tensors, tf.compat.v1.RunOptions(inter_op_thread_pool=-in_caller_thread))
    for name, value in run.state().items():
        denormal = (value != 0) & (abs(value) < np.finfo(np.float32).tiny)
        assert not denormal.any(), name
    run.close()
