"""The op where it runs the forward pass itself: values, errors, locks; on CPUs only."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf

from splitop._src import ops
from tests import oracle
from tests.op.buffers import addresses, read
from tests.op.chains import (
    CPU,
    PROGRAMS,
    FunctionProgram,
    emit,
    make_chain,
    make_variables,
    nothing_changes,
    plain_layer,
)
from tests.op.gpu import on_gpu
from tests.op.test_op_concurrency import Counter, together

InvalidArgument = tf.errors.InvalidArgumentError
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}


@pytest.fixture(params=PROGRAMS)
def program(request):
    """Makes programs that run a chain on the CPU."""
    made = []

    def make(chain, **options):
        made.append(PROGRAMS[request.param](chain, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def assert_close(chain, state, gradient):
    expected, expected_gradient = chain.updated()
    tolerance = TOLERANCE[chain.seed.dtype.type]
    np.testing.assert_allclose(gradient, expected_gradient, tolerance, tolerance)
    for name, value in expected.items():
        np.testing.assert_allclose(state[name], value, tolerance, tolerance, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", oracle.ACTIVATIONS)
def test_activations(program, activation, dtype):
    names = [activation, activation, "tanh"]
    chain = make_chain((4, 7, 3, 5), activations=names, rule="sgd", dtype=dtype, forward=True)
    run = program(chain)
    gradient = run.run(chain.tensors())
    assert_close(chain, run.state(), gradient)


@pytest.mark.parametrize("rule", oracle.RULES)
@pytest.mark.parametrize("use_bias", [True, False])
def test_rules(program, rule, use_bias):
    chain = make_chain((3, 4, 5), rule=rule, use_bias=use_bias, dtype=np.float64, forward=True)
    run = program(chain, known_shapes=True)
    gradient = run.run(chain.tensors())
    assert_close(chain, run.state(), gradient)


def test_the_forward_pass_is_that_of_the_weights_as_they_are(program):
    """A second step goes on from the first one's weights, not from the given activations."""
    chain = make_chain((9, 33, 17), activations="tanh", rule="momentum", forward=True)
    run = program(chain)
    for _ in range(3):
        state, layers = run.state(), []
        x = chain.layers[-1].x
        for index, layer in reversed(list(enumerate(chain.layers))):
            slots = {
                f"{of}_slots": tuple(state[name] for name in sorted(state) if name.startswith(key))
                for of, key in (("kernel", f"k{index}."), ("bias", f"b{index}."))
            }
            kernel, bias = state[f"k{index}"], state[f"b{index}"]
            y = np.tanh(x @ kernel + bias)
            layers.insert(
                0,
                dataclasses.replace(layer, x=x, reference=y, kernel=kernel, bias=bias, **slots),
            )
            x = y
        now = dataclasses.replace(chain, layers=tuple(layers))
        gradient = run.run(chain.tensors())
        assert_close(now, run.state(), gradient)


def test_batch_may_differ_from_call_to_call(program):
    chains = [
        make_chain(batch=batch, rule="sgd", dtype=np.float64, forward=True) for batch in (1, 9)
    ]
    run = program(chains[0])
    for chain in chains:
        assert run.run(chain.tensors()).shape == (len(chain.seed), 5)


def test_shapes_are_inferred():
    chain = make_chain((3, 4, 5), forward=True)
    with tf.Graph().as_default(), tf.device(CPU):
        tensors = {name: tf.constant(array) for name, array in chain.tensors().items()}
        _, gradient = emit(chain, tensors, make_variables(chain.variables(), known_shapes=True))
    assert gradient.shape == (6, 5)


def zeros(*shape):
    return np.zeros(shape, np.float32)


# From the top down: dense_0 maps 4 to 3, dense_1 maps 5 to 4; the batch is 6.
WRONG_TENSORS = {
    "seed_batch": ({"seed": zeros(2, 3)}, 'splitop: SeedError: seed "grad_ys:0" must have shape'),
    "input_width": ({"x1": zeros(6, 6)}, 'the input of "dense_1/kernel" must have shape [?, 5]'),
    "input_rank": ({"x1": zeros(6, 5, 1)}, 'the input of "dense_1/kernel" must have shape [?, 5]'),
    "empty_batch": ({"seed": zeros(0, 3), "x1": zeros(0, 5)}, "an empty batch trains nothing"),
}


@pytest.mark.parametrize("case", WRONG_TENSORS)
def test_tensor_of_wrong_shape(program, case):
    wrong, message = WRONG_TENSORS[case]
    chain = make_chain(forward=True)
    run = program(chain)
    with nothing_changes(run), pytest.raises(InvalidArgument, match=re.escape(message)):
        run.run(chain.tensors() | wrong)
    run.run(chain.tensors())


WRONG_VARIABLES = {
    "kernels_that_do_not_chain": ("k1", zeros(5, 7), "its units feed"),
    "kernel_of_more_dimensions": ("k1", zeros(5, 2, 2), "(inputs x units; its units feed"),
    "bias_width": ("b1", zeros(3), 'the bias of "dense_1/kernel" must have shape [4]'),
}


@pytest.mark.parametrize("case", WRONG_VARIABLES)
def test_variable_of_wrong_shape(program, case):
    name, value, message = WRONG_VARIABLES[case]
    chain = make_chain(rule="sgd", forward=True)
    run = program(chain)
    before = run.state()[name]
    run.assign(name, value)
    with nothing_changes(run), pytest.raises(InvalidArgument, match=re.escape(message)):
        run.run(chain.tensors())
    run.assign(name, before)
    run.run(chain.tensors())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"x": tf.zeros}, "takes 1 layer_inputs, that of the bottom layer, with forward."),
        ({"reference": tf.zeros}, "takes 0 references, as it runs the forward pass. Received: 1."),
    ],
)
def test_more_than_the_bottom_input(fields, message):
    chain = make_chain((3, 4, 5), activations="tanh")
    with tf.Graph().as_default():
        variables = make_variables(chain.variables())
        args = []
        for index, layer in enumerate(chain.layers):
            bottom = index == 1
            x = tf.constant(layer.x) if bottom or "x" in fields else None
            given = bottom and "reference" in fields
            reference = tf.constant(layer.reference) if given else None
            args.append(plain_layer(variables[f"k{index}"], None, x, reference, "tanh"))
        received = " Received: 2." if "x" in fields else ""
        with pytest.raises(ValueError, match=re.escape(message + received)):
            ops.dense_chain(
                tf.constant(chain.seed),
                args,
                rule="sgd",
                hyper=tf.constant([0.0, 0.1]),
                input_gradient=False,
                seed_name="seed",
                forward=True,
            )


def test_mixed_precision_is_refused():
    with tf.Graph().as_default():
        kernel = tf.Variable(tf.ones([3, 2]))
        layer = plain_layer(kernel, None, tf.ones([4, 3], tf.bfloat16))
        with pytest.raises(ValueError, match=r"float and double tensors\. Received: bfloat16"):
            ops.dense_chain(
                tf.ones([4, 2], tf.bfloat16),
                [layer],
                rule="sgd",
                hyper=tf.constant([0.0, 0.1]),
                input_gradient=False,
                seed_name="seed",
                forward=True,
            )


@pytest.mark.parametrize("device", [on_gpu("/GPU:0", id="gpu")])
def test_there_is_no_gpu_kernel(device):
    chain = make_chain(rule="sgd", forward=True)
    run = FunctionProgram(chain, device=device)
    with nothing_changes(run), pytest.raises(tf.errors.UnimplementedError, match="on CPUs only"):
        run.run(chain.tensors())


@pytest.mark.parametrize("source", ["k0", "k1", "k1.0"])
def test_input_that_is_read_from_an_updated_variable(source):
    chain = make_chain((64, 64, 64), batch=64, rule="momentum", activations="tanh", forward=True)
    given = chain.variables()[source]
    with tf.device(CPU):
        variables = make_variables(chain.variables())

    @tf.function(autograph=False)
    def step():
        tensors = {name: tf.constant(array) for name, array in chain.tensors().items()}
        emit(chain, tensors | {"x1": read(variables[source])}, variables)

    step()
    low = dataclasses.replace(chain.layers[1], x=given)
    y = np.tanh(given @ low.kernel + low.bias)
    low = dataclasses.replace(low, reference=y)
    top = chain.layers[0]
    top = dataclasses.replace(top, x=y, reference=np.tanh(y @ top.kernel + top.bias))
    expected, _ = dataclasses.replace(chain, layers=(top, low)).updated()
    for name, value in expected.items():
        np.testing.assert_allclose(variables[name].numpy(), value, 1e-3, 1e-3, err_msg=name)


def test_buffers_stay_in_place():
    chain = make_chain((64, 64, 64), batch=64, forward=True)
    run = FunctionProgram(chain)
    run.run(chain.tensors())  # the initial values may be shared with constants
    before = addresses(run.variables)
    for _ in range(3):
        run.run(chain.tensors())
    assert addresses(run.variables) == before


def test_the_forward_pass_sees_one_version_of_the_weights():
    """All units are alike as long as no product has seen half of an update."""
    width = 256
    with tf.device(CPU):
        kernels = [tf.Variable(tf.fill([width, width], 0.5 / width)) for _ in range(2)]
        biases = [tf.Variable(tf.fill([width], 0.5)) for _ in range(2)]
    x = tf.ones([8, width])

    @tf.function(autograph=False)
    def step():
        layers = [
            ops.LayerArgs(
                x=x if index == 1 else None,
                reference=None,
                activation="tanh",
                alpha=0.0,
                kernel=kernels[index],
                bias=biases[index],
                kernel_slots=(),
                bias_slots=(),
                kernel_decayed=False,
                bias_decayed=False,
                name="kernel",
            )
            for index in range(2)
        ]
        ops.dense_chain(
            tf.fill([8, width], 1e-3),
            layers,
            rule="sgd",
            hyper=tf.constant([0.0, 1e-3]),
            input_gradient=False,
            seed_name="seed",
            forward=True,
        )

    step()
    counter = Counter(writers=2)
    variables = [*kernels, *biases]
    together(
        lambda: counter.write(step),
        lambda: counter.write(step),
        lambda: counter.read(lambda: [variable.numpy() for variable in variables]),
    )
    for variable in variables:
        value = variable.numpy()
        assert np.isfinite(value).all()
        assert value.min() == value.max()
