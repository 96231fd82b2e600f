"""Bad inputs get an error that names them, and nothing is written."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow as tf

from splitop._src.errors import SplitError
from tests.op.chains import SessionProgram, emit, make_chain, make_variables, nothing_changes

InvalidArgument = tf.errors.InvalidArgumentError


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


# From the top down: dense_0 maps 4 to 3, dense_1 maps 5 to 4; the batch is 6.
WRONG_TENSORS = {
    "seed_batch": (
        {"seed": zeros(2, 3)},
        'splitop: SeedError: seed "grad_ys:0" must have shape [6, 3] (batch of the second '
        """part's input x units of "dense_0/kernel"). Received: [2, 3].""",
    ),
    "seed_width": ({"seed": zeros(6, 1)}, 'seed "grad_ys:0" must have shape [6, 3]'),
    "seed_vector": ({"seed": zeros(6)}, 'seed "grad_ys:0" must have shape [6, 3]'),
    "seed_scalar": ({"seed": zeros()}, "Received: []."),
    "seed_rank_3": ({"seed": zeros(6, 3, 1)}, "Received: [6, 3, 1]."),
    "seed_empty": ({"seed": zeros(0, 3)}, "Received: [0, 3]."),
    "upper_input_batch": (
        {"x0": zeros(7, 4)},
        'splitop: SplitError: the input of "dense_0/kernel" must have shape [6, 4] (batch of '
        """the second part's input x inputs of "dense_0/kernel"). Received: [7, 4].""",
    ),
    "bottom_input_width": (
        {"x1": zeros(6, 6)},
        'the input of "dense_1/kernel" must have shape [?, 5] (batch x inputs of '
        '"dense_1/kernel"). Received: [6, 6].',
    ),
    "bottom_input_batch": ({"x1": zeros(8, 5)}, "must have shape [8, 4]"),
    "input_rank": ({"x1": zeros(6, 5, 1)}, 'the input of "dense_1/kernel" must have shape [?, 5]'),
    "reference_batch": (
        {"r1": zeros(5, 4)},
        'the activation of the layer of "dense_1/kernel" must have shape [6, 4] (batch of the '
        """second part's input x units of "dense_1/kernel"). Received: [5, 4].""",
    ),
    "reference_width": (
        {"r0": zeros(6, 4)},
        'the layer of "dense_0/kernel" must have shape [6, 3]',
    ),
    "hyper_short": (
        {"hyper": zeros(4)},
        "input hyper must have shape [5] (the update rule's hyperparameters). Received: [4].",
    ),
    "hyper_scalar": ({"hyper": zeros()}, "input hyper must have shape [5]"),
    "empty_batch": (
        {
            "seed": zeros(0, 3),
            "x0": zeros(0, 4),
            "x1": zeros(0, 5),
            "r0": zeros(0, 3),
            "r1": zeros(0, 4),
        },
        'the input of "dense_1/kernel" must have at least one row: an empty batch trains '
        "nothing. Received: [0, 5].",
    ),
}


@pytest.mark.parametrize("case", WRONG_TENSORS)
def test_tensor_of_wrong_shape(program, case):
    wrong, message = WRONG_TENSORS[case]
    chain = make_chain()
    run = program(chain)
    with nothing_changes(run), pytest.raises(InvalidArgument, match=re.escape(message)):
        run.run(chain.tensors() | wrong)
    run.run(chain.tensors())


WRONG_VARIABLES = {
    "kernel_inputs": (
        "k1",
        zeros(9, 4),
        'slot 0 of kernel "dense_1/kernel" must have shape [9, 4]',
    ),
    "kernel_rank": (
        "k0",
        zeros(4),
        'splitop: SplitError: kernel "dense_0/kernel" must have shape [?, ?] (inputs x units). '
        "Received: [4].",
    ),
    "kernel_units": ("k0", zeros(4, 2), 'the bias of "dense_0/kernel" must have shape [2]'),
    "kernels_that_do_not_chain": (
        "k1",
        zeros(5, 7),
        'kernel "dense_1/kernel" must have shape [?, 4] (inputs x units; its units feed '
        '"dense_0/kernel"). Received: [5, 7].',
    ),
    "kernel_without_columns": (
        "k0",
        zeros(4, 0),
        'kernel "dense_0/kernel" must have at least one row and one column. Received: [4, 0].',
    ),
    "bias_width": (
        "b1",
        zeros(3),
        'the bias of "dense_1/kernel" must have shape [4] (units of "dense_1/kernel"). '
        "Received: [3].",
    ),
    "bias_elements": (
        "b0",
        zeros(2, 2),
        'the bias of "dense_0/kernel" must have shape [3] (units of "dense_0/kernel"). '
        "Received: [2, 2].",
    ),
    "kernel_inputs_of_heads": (
        "k1",
        zeros(2, 3, 4),
        'kernel "dense_1/kernel" must have shape [5, 4] (inputs x units; its units feed '
        '"dense_0/kernel"). Received: [2, 3, 4].',
    ),
    "kernel_units_of_heads": (
        "k1",
        zeros(5, 2, 3),
        'kernel "dense_1/kernel" must have shape [5, 4] (inputs x units; its units feed '
        '"dense_0/kernel"). Received: [5, 2, 3].',
    ),
    "kernel_that_does_not_split": (
        "k0",
        zeros(2, 3, 2),
        'kernel "dense_0/kernel" must have shape [4, ?] (inputs x units). Received: [2, 3, 2].',
    ),
    "empty_kernel_of_heads": (
        "k0",
        zeros(4, 0, 3),
        'kernel "dense_0/kernel" must have at least one row and one column. Received: [4, 0, 3].',
    ),
    "slot_of_a_kernel_of_heads": (
        "k0",
        zeros(4, 3, 1),
        'slot 0 of kernel "dense_0/kernel" must have shape [4, 3, 1] (the shape of its variable). '
        "Received: [4, 3].",
    ),
    "kernel_slot": (
        "k1.1",
        zeros(4, 5),
        'slot 1 of kernel "dense_1/kernel" must have shape [5, 4] (the shape of its variable). '
        "Received: [4, 5].",
    ),
    "bias_slot": (
        "b0.0",
        zeros(),
        'slot 0 of the bias of "dense_0/kernel" must have shape [3] (the shape of its variable). '
        "Received: [].",
    ),
}


@pytest.mark.parametrize("case", WRONG_VARIABLES)
def test_variable_of_wrong_shape(program, case):
    name, value, message = WRONG_VARIABLES[case]
    chain = make_chain()
    run = program(chain)
    run.assign(name, value)
    with nothing_changes(run), pytest.raises(InvalidArgument, match=re.escape(message)):
        run.run(chain.tensors())


@pytest.mark.parametrize(
    ("name", "described"),
    [
        ("k0", 'kernel "dense_0/kernel"'),
        ("b1", 'the bias of "dense_1/kernel"'),
        ("k1.0", 'slot 0 of kernel "dense_1/kernel"'),
        ("b0.1", 'slot 1 of the bias of "dense_0/kernel"'),
    ],
)
def test_variable_without_a_value(program, name, described):
    chain = make_chain()
    run = program(chain, never_initialized=name)
    message = f"splitop: VariableListError: {described} has no value: it was never initialized"
    error = pytest.raises(tf.errors.FailedPreconditionError, match=re.escape(message))
    with nothing_changes(run), error:
        run.run(chain.tensors())


def test_deleted_variable():
    chain = make_chain()
    run = SessionProgram(chain)
    with run.graph.as_default():
        destroy = tf.raw_ops.DestroyResourceOp(resource=run.variables.pop("b1").handle)
    run.session.run(destroy)
    message = 'the bias of "dense_1/kernel" has no value: it was never initialized, or was deleted'
    error = pytest.raises(tf.errors.FailedPreconditionError, match=re.escape(message))
    with nothing_changes(run), error:
        run.run(chain.tensors())


@pytest.mark.parametrize(
    ("name", "same_as", "message"),
    [
        ("k1", "k0", 'kernel "dense_0/kernel" and kernel "dense_1/kernel"'),
        ("b1", "b0", 'the bias of "dense_0/kernel" and the bias of "dense_1/kernel"'),
        ("k0.1", "k0.0", 'slot 0 of kernel "dense_0/kernel" and slot 1 of kernel "dense_0/kernel"'),
        ("k1.0", "k1", 'kernel "dense_1/kernel" and slot 0 of kernel "dense_1/kernel"'),
        ("k0.0", "k1.1", 'slot 0 of kernel "dense_0/kernel" and slot 1 of kernel "dense_1/kernel"'),
    ],
)
def test_variable_given_twice(program, name, same_as, message):
    chain = make_chain((4, 4, 4))
    run = program(chain, same={name: same_as})
    message = (
        "splitop: VariableListError: a variable can be updated only once. "
        f"Received: {message} are the same variable."
    )
    with nothing_changes(run), pytest.raises(InvalidArgument, match=re.escape(message)):
        run.run(chain.tensors())


def test_eager_call():
    chain = make_chain()
    with pytest.raises(SplitError, match="Received: an eager call"):
        emit(chain, chain.tensors(), make_variables(chain.variables()))


def build(chain, tensors=None, variables=None):
    """Adds the op to a new graph with all shapes known, some inputs replaced."""
    with tf.Graph().as_default():
        emit(
            chain,
            {n: tf.constant(a) for n, a in (chain.tensors() | (tensors or {})).items()},
            make_variables(chain.variables() | (variables or {}), known_shapes=True),
        )


@pytest.mark.parametrize("case", WRONG_TENSORS)
def test_tensor_of_wrong_shape_shows_in_the_graph(case):
    wrong, message = WRONG_TENSORS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        build(make_chain(), tensors=wrong)


@pytest.mark.parametrize("case", WRONG_VARIABLES)
def test_variable_of_wrong_shape_shows_in_the_graph(case):
    name, value, message = WRONG_VARIABLES[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        build(make_chain(), variables={name: value})
