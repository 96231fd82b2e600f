"""Splitop>MultiTensorUpdate: values, errors before anything is written, memory."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow as tf

from splitop._src import library
from splitop._src.errors import SplitError, VariableListError
from splitop._src.multi_tensor_update import UpdateArgs, multi_tensor_update
from tests import oracle
from tests.accuracy import PRECISIONS
from tests.kernels.updates import STEPS, State, assert_update_accurate, make_update
from tests.op.buffers import address, read

SHAPES = [(), (3,), (0, 2), (5, 7), (2, 3, 3, 4), (300, 201)]
InvalidArgument = tf.errors.InvalidArgumentError


class Program:
    """An update in a tf.function, on variables of its own."""

    def __init__(self, update, state, device="/CPU:0"):
        with tf.device(device):
            self.variables = [tf.Variable(value) for value in state.variables]
            self.slots = [tuple(tf.Variable(slot) for slot in slots) for slots in state.slots]

        @tf.function(autograph=False)
        def step(gradients, hyper):
            zipped = zip(gradients, self.variables, self.slots, update.decayed, strict=True)
            multi_tensor_update(
                [
                    UpdateArgs(gradient, variable, slots, decayed, f"w{i}")
                    for i, (gradient, variable, slots, decayed) in enumerate(zipped)
                ],
                rule=update.rule,
                hyper=hyper,
            )

        self.run = step

    def state(self):
        return State(
            tuple(variable.numpy() for variable in self.variables),
            tuple(tuple(slot.numpy() for slot in slots) for slots in self.slots),
        )


@pytest.mark.parametrize("rule", oracle.ALL_RULES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_rule(rule, dtype, device):
    if "GPU" in device and oracle.ALL_RULES[rule].rowwise:
        pytest.skip("row-wise rules have no GPU kernel")
    update, state = make_update(PRECISIONS[dtype], SHAPES, rule)
    program = Program(update, state, device)
    for _ in range(STEPS):
        program.run(update.gradients, update.hyper)
        after = program.state()
        assert_update_accurate(update, state, after)
        state = after


def test_in_a_session(device):
    update, state = make_update(PRECISIONS["float32"], SHAPES, "adam")
    with tf.Graph().as_default():
        program = Program(update, state, device)
        program.run(update.gradients, update.hyper)
        step = tf.compat.v1.get_default_graph().get_operations()[-1]
        config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
        with tf.compat.v1.Session(config=config) as session:
            session.run(tf.compat.v1.global_variables_initializer())
            session.run(step)
            values = session.run((program.variables, program.slots))
    assert_update_accurate(update, state, State(tuple(values[0]), tuple(values[1])))


def test_buffers_stay_in_place(device):
    update, state = make_update(PRECISIONS["float32"], [(64, 64), (64,)], "adam")
    program = Program(update, state, device)
    resources = [*program.variables, *[slot for slots in program.slots for slot in slots]]
    program.run(update.gradients, update.hyper)  # the initial values may be shared with constants
    before = [address(read(resource)) for resource in resources]
    program.run(update.gradients, update.hyper)
    assert [address(read(resource)) for resource in resources] == before


def test_a_tensor_read_before_keeps_its_values(device):
    update, state = make_update(PRECISIONS["float32"], [(64, 64), (64,)], "momentum")
    program = Program(update, state, device)
    held = [read(variable) for variable in program.variables]
    program.run(update.gradients, update.hyper)
    for tensor, value in zip(held, state.variables, strict=True):
        np.testing.assert_array_equal(tensor, value)
    assert_update_accurate(update, state, program.state())


def test_a_gradient_that_is_the_variable_itself(device):
    update, state = make_update(PRECISIONS["float32"], [(64, 64)], "momentum")
    program = Program(update, state, device)
    program.run([read(program.variables[0])], update.hyper)
    own = type(update)(state.variables, update.rule, update.hyper, update.decayed)
    assert_update_accurate(own, state, program.state())


def variables():
    return [tf.Variable(np.ones(shape, np.float32)) for shape in ((3,), (2, 2))]


def call(**replaced):
    """Runs the bare op under momentum, with no shape function before it, on the CPU."""
    with tf.device("/CPU:0"):
        weights, slots = variables(), variables()
        arguments = {
            "gradients": [np.ones((3,), np.float32), np.ones((2, 2), np.float32)],
            "variables": [variable.handle for variable in weights],
            "slots": [slot.handle for slot in slots],
            "hyper": np.array([0, 0.9, 1, -0.1, 0], np.float32),
            "conditions": [],
            "clips": [],
            "rule": "momentum",
            "decayed": [False, True],
            "variable_names": ["a", "b"],
        }
        try:
            library.load().splitop_multi_tensor_update(**(arguments | replaced))
        finally:
            state = [variable.numpy() for variable in [*weights, *slots]]
    return state


def test_conditions_and_clips():
    changed, kept = call(conditions=[True]), call(conditions=[False])
    assert all((value != 1).all() for value in changed[:1])
    for value in kept:
        np.testing.assert_array_equal(value, np.ones(value.shape))
    # The slot m = 0.9 m + g, of gradients of 1.
    clipped = call(clips=[np.array([[3, np.inf], [2, 0.5]], np.float32)])
    np.testing.assert_allclose(clipped[2], np.full(3, 0.9 + 3), rtol=1e-6)
    np.testing.assert_allclose(clipped[3], np.full((2, 2), 0.9 + 0.5), rtol=1e-6)


BAD = {
    "condition": ({"conditions": [[True, False]]}, "conditions must have shape [] (a scalar)"),
    "conditions": ({"conditions": [True, True]}, "takes 1 conditions at most. Received: 2."),
    "clips": (
        {"clips": [np.ones((1, 2), np.float32)]},
        "clips must have shape [2, 2] (a factor and a bound for each variable)",
    ),
    "gradient": (
        {"gradients": [np.ones(3, np.float32), np.ones(4, np.float32)]},
        'splitop: SplitError: the gradient of "b" must have shape [2, 2] (the shape of its '
        "variable). Received: [4].",
    ),
    "hyper": ({"hyper": np.ones(2, np.float32)}, "hyper must have shape [5]"),
    "rule": ({"rule": "lars"}, 'unknown update rule. Received: "lars".'),
    "names": ({"variable_names": ["a"]}, "takes 2 variable_names, one a variable. Received: 1."),
    "decayed": ({"decayed": [True]}, "takes 2 decayed entries, one a variable. Received: 1."),
    "number of slots": (
        {"rule": "adam"},
        'takes 4 slots, the rule "adam" having 2 a variable. Received: 2.',
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case):
    replaced, message = BAD[case]
    with pytest.raises(InvalidArgument, match=re.escape(message)):
        call(**replaced)


def bad_resources():
    """Resources that are no good in the place of the second variable, or of its slot."""
    with tf.device("/CPU:0"):
        wide = tf.Variable(np.ones((2, 2)))
        odd = tf.Variable(np.ones(4, np.float32))
        empty = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[2, 2], shared_name="no_value")
    return {"wide": wide, "odd": odd, "empty": empty}


@pytest.mark.parametrize(
    ("which", "error", "message"),
    [
        ("wide", InvalidArgument, 'variable "b" must be a variable of float, as its gradient is'),
        ("empty", tf.errors.FailedPreconditionError, 'variable "b" has no value'),
        ("odd", InvalidArgument, 'slot 0 of variable "b" must have shape [2, 2]'),
    ],
)
def test_bad_variables_leave_all_as_it_was(which, error, message):
    bad = bad_resources()
    with tf.device("/CPU:0"):
        weights, slots = variables(), variables()
        handles = [bad.get(which)] if which == "empty" else [bad[which].handle]
        in_slots = message.startswith("slot")
        with pytest.raises(error, match=re.escape(message)):
            call(
                variables=[weights[0].handle, weights[1].handle if in_slots else handles[0]],
                slots=[slots[0].handle, handles[0] if in_slots else slots[1].handle],
            )
        for variable in [*weights, *slots]:
            np.testing.assert_array_equal(variable, np.ones(variable.shape))


def test_one_variable_twice():
    with tf.device("/CPU:0"):
        variable = tf.Variable(np.ones((3,), np.float32))
        message = 'variable "a" and variable "b" are the same variable'
        with pytest.raises(InvalidArgument, match=message):
            call(
                gradients=[np.ones(3, np.float32)] * 2,
                variables=[variable.handle, variable.handle],
            )
        np.testing.assert_array_equal(variable, np.ones(3))


class TestTheWrapper:
    def update(self, **replaced):
        arguments = {
            "gradient": tf.ones([3]),
            "variable": tf.Variable(tf.ones([3])),
            "slots": (),
            "decayed": False,
            "name": "w",
        }
        return UpdateArgs(**(arguments | replaced))

    def test_eagerly(self):
        with pytest.raises(SplitError, match="Received: an eager call"):
            multi_tensor_update([self.update()], rule="sgd", hyper=tf.ones([2]))

    def test_without_a_variable(self):
        with tf.Graph().as_default(), pytest.raises(SplitError, match="Received: none"):
            multi_tensor_update([], rule="sgd", hyper=tf.ones([2]))

    def test_a_gradient_of_another_dtype(self):
        with tf.Graph().as_default():
            update = self.update(gradient=tf.ones([3], tf.float64))
            message = 'the gradient of "w" must be float32, as hyper is. Received: float64'
            with pytest.raises(SplitError, match=message):
                multi_tensor_update([update], rule="sgd", hyper=tf.ones([2]))

    def test_no_variable(self):
        with tf.Graph().as_default():
            update = self.update(variable=tf.ones([3]))
            with pytest.raises(VariableListError, match="w must be a resource variable"):
                multi_tensor_update([update], rule="sgd", hyper=tf.ones([2]))

    def test_a_known_shape_that_does_not_fit(self):
        with tf.Graph().as_default():
            update = self.update(gradient=tf.ones([4]))
            with pytest.raises(ValueError, match='the gradient of "w" must have shape'):
                multi_tensor_update([update], rule="sgd", hyper=tf.ones([2]))
