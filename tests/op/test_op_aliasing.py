"""Copy-on-write: who holds a tensor keeps its values, and nothing is copied needlessly."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.op.buffers import addresses, read
from tests.op.chains import FunctionProgram, emit, make_chain, make_variables, session_config

WIDTH = 64


def square_chain(rule="adam"):
    """Weights, inputs, references and the seed all have one shape."""
    return make_chain((WIDTH, WIDTH, WIDTH), batch=WIDTH, rule=rule)


def check(chain, state):
    expected, _ = chain.updated()
    for name, value in expected.items():
        np.testing.assert_allclose(state[name], value, 1e-4, 1e-4, err_msg=name)


def test_buffers_stay_in_place(device):
    chain = square_chain()
    run = FunctionProgram(chain, device=device)
    run.run(chain.tensors())  # the initial values may be shared with constants
    before = addresses(run.variables)
    for _ in range(3):
        run.run(chain.tensors())
    assert addresses(run.variables) == before


def test_tensor_read_before_keeps_its_values_in_a_function(device):
    chain = square_chain()
    run = FunctionProgram(chain, device=device)
    held = {name: read(variable) for name, variable in run.variables.items()}
    run.run(chain.tensors())
    for name, value in chain.variables().items():
        np.testing.assert_array_equal(held[name], value)
        assert not np.array_equal(run.variables[name], value)
    check(chain, run.state())


def test_held_variable_alone_is_copied(device):
    chain = square_chain()
    run = FunctionProgram(chain, device=device)
    run.run(chain.tensors())
    before = addresses(run.variables)
    held = read(run.variables["k1"])
    run.run(chain.tensors())
    after = addresses(run.variables)
    assert {name for name in before if before[name] != after[name]} == {"k1"}
    del held


def test_tensor_read_before_keeps_its_values_in_a_session(device):
    chain = square_chain()
    with tf.Graph().as_default(), tf.compat.v1.Session(config=session_config()) as session:
        with tf.device(device):
            variables = make_variables(chain.variables())
        reads = {name: read(variable) for name, variable in variables.items()}
        with tf.control_dependencies(reads.values()):
            step, _ = emit(chain, constants(chain), variables)
        with tf.control_dependencies([step]):
            held = {name: tf.identity(read) for name, read in reads.items()}
        session.run(tf.compat.v1.global_variables_initializer())
        old, new = session.run(held), session.run(variables)
    for name, value in chain.variables().items():
        np.testing.assert_array_equal(old[name], value)
    check(chain, new)


def constants(chain):
    return {name: tf.constant(array) for name, array in chain.tensors().items()}


@pytest.mark.parametrize("name", ["seed", "x0", "x1", "r0", "r1"])
@pytest.mark.parametrize("source", ["k0", "k1", "k1.0"])
def test_input_that_is_read_from_an_updated_variable(name, source, device):
    chain = square_chain(rule="momentum")
    with tf.device(device):
        variables = make_variables(chain.variables())
    expected = make_chain_with(chain, name, chain.variables()[source])

    @tf.function(autograph=False)
    def step():
        emit(chain, constants(chain) | {name: read(variables[source])}, variables)

    step()
    check(expected, {n: variable.numpy() for n, variable in variables.items()})


def make_chain_with(chain, name, array):
    """The chain with the tensor of that name replaced."""
    if name == "seed":
        return dataclasses.replace(chain, seed=array)
    field = {"x": "x", "r": "reference"}[name[0]]
    layers = list(chain.layers)
    layers[int(name[1:])] = dataclasses.replace(layers[int(name[1:])], **{field: array})
    return dataclasses.replace(chain, layers=tuple(layers))


def test_variables_that_share_a_buffer(device):
    chain = square_chain(rule="adam")
    shared = chain.variables()["k0.1"]  # it may be a mean of squares
    run = FunctionProgram(chain, device=device)
    with tf.device(device):
        tensor = tf.constant(shared)
    slots = ("k0.0", "k0.1", "k1.0", "k1.1")
    for name in slots:
        run.variables[name].assign(tensor)
    del tensor
    assert len({addresses(run.variables)[name] for name in slots}) == 1
    layers = tuple(
        dataclasses.replace(layer, kernel_slots=(shared, shared)) for layer in chain.layers
    )
    run.run(chain.tensors())
    check(dataclasses.replace(chain, layers=layers), run.state())


def test_variable_with_sparse_updates():
    """tf.Variable.scatter_* switches a variable to TensorFlow's copy-on-read mode."""
    chain = square_chain()
    run = FunctionProgram(chain)
    row = tf.IndexedSlices(tf.zeros([1, WIDTH]), [0])
    for name in ("k0", "k0.1", "k1"):
        run.variables[name].scatter_add(row)
    held = {name: read(variable) for name, variable in run.variables.items()}
    run.run(chain.tensors())
    for name, value in chain.variables().items():
        np.testing.assert_array_equal(held[name], value)
    check(chain, run.state())
