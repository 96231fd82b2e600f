"""The op computes what the oracle does, in a session and in a function."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests import oracle
from tests.op.chains import Chain, emit, make_chain, make_variables, nothing_changes

GPU_RULES = ("sgd", "momentum", "adam")
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}


def assert_close(chain: Chain, state: dict, gradient: np.ndarray) -> None:
    expected, expected_gradient = chain.updated()
    tolerance = TOLERANCE[chain.seed.dtype.type]
    np.testing.assert_allclose(gradient, expected_gradient, tolerance, tolerance)
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(state[name], value, tolerance, tolerance, err_msg=name)


@pytest.mark.parametrize("rule", oracle.RULES)
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rules(program, device, rule, use_bias, dtype):
    chain = make_chain((3, 4, 5), rule=rule, use_bias=use_bias, dtype=dtype)
    run = program(chain)
    if "GPU" in device and rule not in GPU_RULES:
        with nothing_changes(run), pytest.raises(tf.errors.UnimplementedError, match="refused"):
            run.run(chain.tensors())
        return
    gradient = run.run(chain.tensors())
    assert_close(chain, run.state(), gradient)


@pytest.mark.parametrize("activation", oracle.ACTIVATIONS)
def test_activations(program, activation):
    chain = make_chain((7, 5), activations=activation, rule="sgd", dtype=np.float64)
    run = program(chain)
    gradient = run.run(chain.tensors())
    assert_close(chain, run.state(), gradient)


def test_mixed_layers(program):
    names = ("tanh", "linear", "leaky_relu", "sigmoid")
    chain = make_chain((2, 9, 1, 17, 8), batch=1, activations=names, rule="momentum")
    run = program(chain, known_shapes=True)
    gradient = run.run(chain.tensors())
    assert_close(chain, run.state(), gradient)


def test_batch_may_differ_from_call_to_call(program):
    small, large = (make_chain(batch=batch, rule="sgd", dtype=np.float64) for batch in (2, 9))
    run = program(small)
    run.run(small.tensors())
    assert run.run(large.tensors()).shape == (9, 5)


HEADS = {"k0": (2, 4, 2, 3), "b0": (2, 3), "k1": (5, 2, 4), "b1": (8, 1)}


def test_variables_of_more_dimensions(program):
    """Kernels [heads, 4, 2, 3] and [5, heads, 4], as attention has them."""
    chain = make_chain((6, 8, 5), dtype=np.float64)
    run = program(chain)
    flat = {name: value.shape for name, value in run.state().items()}
    for name, value in chain.variables().items():
        run.assign(name, value.reshape(HEADS[name.partition(".")[0]]))
    gradient = run.run(chain.tensors())
    state = {name: value.reshape(flat[name]) for name, value in run.state().items()}
    assert_close(chain, state, gradient)


def test_known_variables_of_more_dimensions():
    chain = make_chain((6, 8, 5))
    values = {
        name: value.reshape(HEADS[name.partition(".")[0]])
        for name, value in chain.variables().items()
    }
    with tf.Graph().as_default():
        tensors = {name: tf.constant(value) for name, value in chain.tensors().items()}
        _, gradient = emit(chain, tensors, make_variables(values, known_shapes=True))
        assert gradient.shape == (6, 5)
