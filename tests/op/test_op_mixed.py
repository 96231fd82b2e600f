"""Mixed precision: tensors of 16 bits, variables of float32."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf

from splitop._src import library
from splitop._src.dense_sweep import dense_sweep
from splitop._src.errors import SplitError
from splitop._src.ops import LayerArgs
from tests import oracle
from tests.op.chains import CPU, Chain, emit, make_variables
from tests.op.gpu import on_gpu

HYPER = {"sgd": (0.25, 0.5), "momentum": (0.25, 0.5, 1, -0.5, -0.25)}
WIDTHS = (3, 4, 5)
BATCH = 6
DEVICES = [CPU, on_gpu("/GPU:0", id="gpu")]


def small_integers(rule: str = "momentum") -> Chain:
    """A chain of two layers on which nothing is rounded, in any of the dtypes."""
    random = np.random.default_rng(3)

    def array(*shape: int) -> np.ndarray:
        return random.integers(-1, 2, shape).astype(np.float32)

    def layer(units: int, inputs: int, activation: str) -> oracle.Layer:
        slots = oracle.RULES[rule].num_slots
        return oracle.Layer(
            x=array(BATCH, inputs),
            reference=array(BATCH, units) if activation == "relu" else None,
            activation=activation,
            kernel=array(inputs, units),
            bias=array(units),
            kernel_slots=tuple(array(inputs, units) for _ in range(slots)),
            bias_slots=tuple(array(units) for _ in range(slots)),
            kernel_decayed=True,
        )

    layers = (layer(3, 4, "linear"), layer(4, 5, "relu"))
    return Chain(array(BATCH, WIDTHS[0]), layers, rule, np.array(HYPER[rule], np.float32))


def tensors_of(chain: Chain, dtype: tf.DType, copies: int) -> dict[str, tf.Tensor]:
    """The op's tensors, with copies of that many kernels."""
    arrays = chain.tensors() | {f"c{i}": chain.layers[i].kernel for i in range(copies)}
    hyper = tf.constant(arrays.pop("hyper"))
    return {"hyper": hyper} | {name: tf.constant(a, dtype) for name, a in arrays.items()}


@pytest.fixture
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def build(dtype=tf.bfloat16, copies=2, input_gradient=True, tensors=None, variables=None):
    chain = small_integers()
    made = make_variables(chain.variables(), known_shapes=True) | (variables or {})
    inputs = tensors_of(chain, dtype, copies) | (tensors or {})
    return emit(chain, inputs, made, input_gradient=input_gradient)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
@pytest.mark.parametrize(("input_gradient", "copies"), [(True, 2), (False, 1)])
def test_emits(graph, dtype, input_gradient, copies):
    operation, gradient = build(dtype, copies, input_gradient)
    assert operation.get_attr("T") == dtype
    assert operation.get_attr("V") == tf.float32
    assert operation.get_attr("num_kernel_copies") == copies
    if input_gradient:
        assert gradient.dtype == dtype
        assert gradient.shape == (BATCH, 5)


@pytest.mark.parametrize(("input_gradient", "copies"), [(True, 1), (False, 2), (False, 0)])
def test_number_of_copies(graph, input_gradient, copies):
    message = (
        f"takes {1 + input_gradient} kernel_copies, in mixed precision one for each kernel whose "
        f"dL/dx is computed. Received: {copies}."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        build(copies=copies, input_gradient=input_gradient)


def test_copy_of_wrong_shape(graph):
    message = (
        'splitop: SplitError: the copy of kernel "dense_1/kernel" must have shape [5, 4] (the '
        "shape of the kernel). Received: [4, 5]."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        build(tensors={"c1": tf.zeros([4, 5], tf.bfloat16)})


def test_copy_of_wrong_dtype(graph):
    message = 'the copy of "dense_1/kernel" must be bfloat16, as the seed is. Received: float32.'
    with pytest.raises(SplitError, match=re.escape(message)):
        build(tensors={"c1": tf.zeros([5, 4])})


def test_variable_of_wrong_dtype(graph):
    message = (
        'splitop: VariableListError: the bias of "dense_0/kernel" must be a variable of float, '
        "as the hyperparameters are. Received: bfloat16."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        build(variables={"b0": tf.Variable(tf.zeros([3], tf.bfloat16))})


def test_variables_of_float64(graph):
    chain = small_integers()
    arrays = {name: array.astype(np.float64) for name, array in chain.variables().items()}
    layers = [dataclasses.replace(layer, bias=None, bias_slots=()) for layer in chain.layers]
    chain = dataclasses.replace(chain, layers=tuple(layers), hyper=chain.hyper.astype(np.float64))
    with pytest.raises(SplitError, match=re.escape('"grad_ys:0" must be float64')):
        emit(chain, tensors_of(chain, tf.bfloat16, 2), make_variables(arrays))


@pytest.mark.parametrize(
    ("tensors", "variables", "expected"),
    [
        (tf.float32, tf.float64, "float"),
        (tf.float64, tf.float32, "double"),
        (tf.bfloat16, tf.float64, "float"),
        (tf.float16, tf.float64, "float"),
    ],
)
def test_dtypes_that_do_not_go_together(graph, tensors, variables, expected):
    message = f"splitop: Splitop>DenseChain takes variables of {expected} with tensors of "
    with pytest.raises(ValueError, match=re.escape(message)):
        library.load().splitop_dense_chain(
            seed=tf.ones([4, 2], tensors),
            layer_inputs=[tf.ones([4, 3], tensors)],
            references=[],
            kernel_copies=[],
            kernels=[tf.Variable(tf.ones([3, 2], variables)).handle],
            biases=[],
            slots=[],
            hyper=tf.ones([2], variables),
            conditions=[],
            clips=[],
            kernel_gradients=[],
            num_input_gradients=0,
            activations=["linear"],
            alphas=[0.0],
            use_bias=[False],
            rule="sgd",
            decayed=[False],
            layer_names=["kernel"],
            seed_name="seed",
        )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.float16])
@pytest.mark.parametrize("rule", HYPER)
@pytest.mark.parametrize("input_gradient", [True, False])
def test_exact_where_nothing_is_rounded(device, rule, dtype, input_gradient):
    chain = small_integers(rule)
    with tf.device(device):
        variables = make_variables(chain.variables())
    copies = 0 if dtype == tf.float32 else 1 + input_gradient

    @tf.function(autograph=False)
    def step():
        tensors = tensors_of(chain, dtype, copies)
        operation, gradient = emit(chain, tensors, variables, input_gradient=input_gradient)
        assert operation.type == "Splitop>DenseChain"
        return gradient

    gradient = step()
    expected, expected_gradient = chain.updated()
    for name, value in expected.items():
        np.testing.assert_array_equal(variables[name], value, err_msg=name)
    if input_gradient:
        np.testing.assert_array_equal(tf.cast(gradient, tf.float32), expected_gradient)


@pytest.mark.parametrize("device", DEVICES)
def test_dx_is_taken_from_the_copy(device):
    """Another step may have written the kernel after the forward pass has read it."""
    chain = small_integers("sgd")
    with tf.device(device):
        variables = make_variables(chain.variables())

    @tf.function(autograph=False)
    def step():
        zeros = {f"c{i}": tf.zeros_like(variables[f"k{i}"], tf.bfloat16) for i in range(2)}
        return emit(chain, tensors_of(chain, tf.bfloat16, 0) | zeros, variables)[1]

    np.testing.assert_array_equal(tf.cast(step(), tf.float32), np.zeros((BATCH, 5)))


def test_the_sweep_takes_dx_from_the_copies(graph):
    chain = small_integers()

    def short(array: np.ndarray) -> tf.Tensor:
        return tf.constant(array, tf.bfloat16)

    layers = [
        LayerArgs(
            x=short(layer.x),
            reference=None if layer.reference is None else short(layer.reference),
            activation=layer.activation,
            alpha=0.0,
            kernel=tf.Variable(tf.zeros(layer.kernel.shape)),
            bias=None,
            kernel_slots=(),
            bias_slots=(),
            kernel_decayed=False,
            bias_decayed=False,
            name=f"dense_{i}/kernel",
            kernel_copy=short(layer.kernel),
        )
        for i, layer in enumerate(chain.layers)
    ]
    with tf.device(CPU):
        swept = dense_sweep(
            short(chain.seed),
            layers,
            norms="exact",
            input_gradient=True,
            keep=True,
            seed_name="seed",
        )
    assert {kept.dtype for kept in swept.kernel_gradients} == {tf.float32}
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        gradients, below, norms = session.run(
            (swept.gradients, swept.input_gradient, swept.squared_norms)
        )
    np.testing.assert_array_equal(below, chain.updated()[1])
    for layer, gradient, norm in zip(chain.layers, gradients, norms.T, strict=True):
        of_kernel = layer.x.T @ gradient.astype(np.float32)
        np.testing.assert_array_equal(norm, [(of_kernel**2).sum(), (gradient.sum(0) ** 2).sum()])
