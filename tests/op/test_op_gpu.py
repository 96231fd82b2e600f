"""What only the GPU kernel has: TF32, strategies, memory, its errors."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow as tf

from tests.op.chains import (
    FunctionProgram,
    SessionProgram,
    emit,
    make_chain,
    make_variables,
    nothing_changes,
)
from tests.op.gpu import on_gpu

pytestmark = pytest.mark.parametrize("device", [on_gpu("/GPU:0", id="gpu")])

STRATEGY = "SPLITOP_CUDA_STRATEGY"


def results(device, chain):
    """All values after a step, by name."""
    run = FunctionProgram(chain, device=device)
    gradient = run.run(chain.tensors())
    return {"input gradient": gradient, **run.state()}


def test_runs_on_the_gpu(device):
    chain = make_chain()
    run = SessionProgram(chain, device=device)
    options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.SOFTWARE_TRACE)
    metadata = tf.compat.v1.RunMetadata()
    run.run(chain.tensors(), options, metadata)
    where = [
        stats.device
        for stats in metadata.step_stats.dev_stats
        if any("= Splitop>DenseChain(" in node.timeline_label for node in stats.node_stats)
    ]
    assert [name[-5:] for name in where] == ["GPU:0"]
    run.close()


def test_obeys_tensor_float_32_at_run_time(device):
    chain = make_chain((64, 96), batch=64, activations="linear", rule="sgd")
    run = FunctionProgram(chain, device=device)
    gradients = []
    for enabled in (False, True, False):
        tf.config.experimental.enable_tensor_float_32_execution(enabled)
        for name, value in chain.variables().items():
            run.assign(name, value)
        gradients.append(run.run(chain.tensors()))
    full, short, again = gradients
    np.testing.assert_array_equal(full, again)
    exact = chain.seed.astype(np.float64) @ chain.layers[0].kernel.T.astype(np.float64)
    # TF32 keeps 10 bits of a factor, float32 has 23.
    assert abs(short - exact).max() > 100 * abs(full - exact).max()


def test_float64_ignores_tensor_float_32(device):
    chain = make_chain((7, 5), rule="sgd", dtype=np.float64)
    full = results(device, chain)
    tf.config.experimental.enable_tensor_float_32_execution(True)
    for name, value in results(device, chain).items():
        np.testing.assert_array_equal(value, full[name], err_msg=name)


@pytest.mark.parametrize("rule", ["sgd", "adam"])
@pytest.mark.parametrize("strategy", ["", "auto", "tiles"])
def test_strategy_from_the_environment(device, monkeypatch, strategy, rule):
    monkeypatch.setenv(STRATEGY, strategy)
    chain = make_chain((7, 5), rule=rule, dtype=np.float64)
    expected, gradient = chain.updated()
    for name, value in results(device, chain).items():
        right = gradient if name == "input gradient" else expected[name]
        np.testing.assert_allclose(value, right, 1e-13, 1e-13, err_msg=name)


def test_unknown_strategy(device, monkeypatch):
    monkeypatch.setenv(STRATEGY, "magic")
    chain = make_chain()
    run = FunctionProgram(chain, device=device)
    message = 'splitop: unknown SPLITOP_CUDA_STRATEGY. Received: "magic".'
    error = pytest.raises(tf.errors.InvalidArgumentError, match=re.escape(message))
    with nothing_changes(run), error:
        run.run(chain.tensors())


def test_strategy_that_can_not_do_it(device, monkeypatch):
    monkeypatch.setenv(STRATEGY, "accumulate")  # for sgd only
    chain = make_chain(rule="adam")
    run = FunctionProgram(chain, device=device)
    error = pytest.raises(tf.errors.UnimplementedError, match=r'\(strategy "accumulate"\)')
    with nothing_changes(run), error:
        run.run(chain.tensors())


def test_variables_on_two_devices(device):
    chain = make_chain()
    with tf.device(device):
        variables = make_variables(chain.variables())
    with tf.device("/CPU:0"):
        variables |= make_variables({"k1": chain.variables()["k1"]})
    tensors = {name: tf.constant(array) for name, array in chain.tensors().items()}
    step = tf.function(lambda: emit(chain, tensors, variables)[1], autograph=False)
    with pytest.raises(tf.errors.OpError, match="device"):
        step()
