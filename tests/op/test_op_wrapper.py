"""What the typed wrapper and the graph refuse, and what the wrapper returns."""

from __future__ import annotations

import dataclasses
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from splitop._src import ops
from splitop._src.errors import SeedError, SplitError, VariableListError
from tests.op.chains import emit, make_chain, make_variables


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def constants(chain, **replaced):
    return {name: tf.constant(array) for name, array in (chain.tensors() | replaced).items()}


def emit_with(chain, tensors=None, variables=None, **options):
    """Adds the op with some tensors and variables replaced."""
    made = make_variables(chain.variables(), known_shapes=True)
    return emit(chain, constants(chain, **(tensors or {})), made | (variables or {}), **options)


def layer_args(chain, **replaced):
    """The top layer's arguments, some of them replaced."""
    layer = chain.layers[0]
    variables = make_variables(chain.variables())
    args = ops.LayerArgs(
        x=tf.constant(layer.x),
        reference=tf.constant(layer.reference),
        activation=layer.activation,
        alpha=0.0,
        kernel=variables["k0"],
        bias=variables["b0"],
        kernel_slots=(variables["k0.0"], variables["k0.1"]),
        bias_slots=(variables["b0.0"], variables["b0.1"]),
        kernel_decayed=True,
        bias_decayed=False,
        name="dense_0/kernel",
    )
    return dataclasses.replace(args, **replaced)


def call(chain, layers, **replaced):
    options = {
        "rule": chain.rule,
        "hyper": tf.constant(chain.hyper),
        "input_gradient": False,
        "seed_name": "grad_ys:0",
    }
    return ops.dense_chain(tf.constant(chain.seed), layers, **(options | replaced))


def test_returns_the_operation_and_the_gradient():
    operation, gradient = emit_with(make_chain())
    assert operation.type == "Splitop>DenseChain"
    assert gradient is operation.outputs[0]
    assert gradient.shape == (6, 5)


def test_returns_no_gradient_when_not_wanted():
    operation, gradient = emit_with(make_chain(), input_gradient=False)
    assert operation.type == "Splitop>DenseChain"
    assert gradient is None
    assert not operation.outputs


def test_is_stateful(graph):
    operation, _ = emit_with(make_chain())
    assert operation.op_def.is_stateful


def test_gradient_shape_is_known_as_far_as_the_inputs_tell():
    chain = make_chain()
    tensors = {
        name: tf.compat.v1.placeholder(array.dtype, [None] * array.ndim)
        for name, array in chain.tensors().items()
    }
    _, gradient = emit(chain, tensors, make_variables(chain.variables(), known_shapes=True))
    assert gradient.shape.as_list() == [None, 5]
    tensors["r0"] = tf.constant(chain.layers[0].reference)
    _, gradient = emit(chain, tensors, make_variables(chain.variables()))
    assert gradient.shape.as_list() == [6, None]


def test_accepts_keras_variables():
    chain = make_chain()
    variables = {n: keras.Variable(value) for n, value in chain.variables().items()}
    operation, _ = emit(chain, constants(chain), variables)
    assert operation.type == "Splitop>DenseChain"


def test_has_no_gradient_of_its_own():
    chain = make_chain()
    tensors = constants(chain)
    _, gradient = emit(chain, tensors, make_variables(chain.variables()))
    with pytest.raises(LookupError, match="DenseChain"):
        tf.gradients(gradient, tensors["seed"])


def test_no_layers():
    with pytest.raises(SplitError, match="at least one layer"):
        call(make_chain(), [])


@pytest.mark.parametrize("dtype", [np.float64, np.int32])
def test_seed_of_wrong_dtype(dtype):
    message = (
        'seed "grad_ys:0" must be float32, as "dense_0/kernel" is (bfloat16 or float16 in mixed '
        f"precision). Received: {dtype.__name__}."
    )
    with pytest.raises(SeedError, match=re.escape(message)):
        emit_with(make_chain(), {"seed": np.zeros((6, 3), dtype)})


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_seed_of_wrong_dtype_for_float64(dtype):
    message = (
        f'seed "grad_ys:0" must be float64, as "dense_0/kernel" is. Received: {dtype.__name__}.'
    )
    with pytest.raises(SeedError, match=re.escape(message)):
        emit_with(make_chain(dtype=np.float64), {"seed": np.zeros((6, 3), dtype)})


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("x1", 'the input of "dense_1/kernel" must be float32, as the seed is'),
        ("r0", 'the activation of the layer of "dense_0/kernel" must be float32, as the seed is'),
        ("hyper", "hyper must be float32, as the variables are"),
    ],
)
def test_tensor_of_wrong_dtype(name, what):
    chain = make_chain()
    message = f"{what}. Received: float64."
    with pytest.raises(SplitError, match=re.escape(message)):
        emit_with(chain, {name: chain.tensors()[name].astype(np.float64)})


@pytest.mark.parametrize(
    ("name", "described"),
    [
        ("k1", 'kernel "dense_1/kernel"'),
        ("b0", 'the bias of "dense_0/kernel"'),
        ("k1.1", 'slot 1 of kernel "dense_1/kernel"'),
    ],
)
def test_variable_of_wrong_dtype(name, described):
    chain = make_chain()
    wrong = tf.Variable(chain.variables()[name].astype(np.float64))
    message = (
        f"splitop: VariableListError: {described} must be a variable of float, as the seed is. "
        "Received: double."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        emit_with(chain, variables={name: wrong})


def test_no_resource_variable():
    chain = make_chain()
    reference_variable = tf.compat.v1.Variable(chain.variables()["b0"], use_resource=False)
    message = "bias of dense_0/kernel must be a resource variable. Received: <tf.Variable"
    with pytest.raises(VariableListError, match=re.escape(message)):
        emit_with(chain, variables={"b0": reference_variable})
    with pytest.raises(VariableListError, match="a slot must be a resource variable"):
        emit_with(chain, variables={"b0.1": np.zeros(3)})


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [
        ({"activation": "mish"}, {}, "mish"),
        ({}, {"rule": "adagrad"}, "adagrad"),
        ({}, {"rule": "momentum"}, 'takes 2 slots, the rule "momentum" having 1 a variable'),
        ({"kernel_slots": ()}, {}, 'takes 4 slots, the rule "adam" having 2 a variable'),
        ({"reference": None}, {}, "takes 1 references, one for each layer that is not linear"),
        ({"activation": "linear"}, {}, "takes 0 references"),
    ],
    ids=["activation", "rule", "rule's slots", "slots", "no reference", "reference"],
)
def test_arguments_that_do_not_fit_together(layer, options, message):
    chain = make_chain((3, 4))
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        call(chain, [layer_args(chain, **layer)], **options)
