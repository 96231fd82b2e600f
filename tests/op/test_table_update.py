"""Splitop>TableUpdate: values, errors before anything is written, memory."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow as tf

from splitop._src import library
from splitop._src.errors import SplitError
from splitop._src.table_update import TableArgs, table_update
from tests import oracle
from tests.op.buffers import address, read
from tests.op.gpu import on_gpu
from tests.state import HYPER, make_slots

ROWS, ROW = 50, (3, 2)
IDS = [7, 0, 7, 49, 3, 7, 0]
BAGS = [2, 0, 0, 1, 1, 1, 2]
InvalidArgument = tf.errors.InvalidArgumentError
COMBINERS = {"sum": lambda n: 1, "mean": lambda n: 1 / n, "sqrtn": lambda n: 1 / np.sqrt(n)}


def dense_gradient(gradient, ids, bags=None, combiner="sum"):
    """The gradient of the whole table, in float64."""
    total = np.zeros((ROWS, *ROW))
    positions = range(len(ids)) if bags is None else bags
    sizes = {position: list(positions).count(position) for position in positions}
    for row, position in zip(ids, positions, strict=True):
        scale = 1 if bags is None else COMBINERS[combiner](sizes[position])
        total[row] += scale * gradient[position].reshape(ROW)
    return total


@pytest.mark.parametrize("rule", oracle.ALL_RULES)
@pytest.mark.parametrize("all_rows", [False, True])
@pytest.mark.parametrize("index_dtype", [tf.int32, tf.int64])
def test_steps(rule, all_rows, index_dtype, device):
    if "GPU" in device and rule not in oracle.RULES:
        pytest.skip("row-wise rules are fused on CPUs only")
    random = np.random.default_rng(0)
    values = random.normal(size=(2, ROWS, *ROW))
    slots = [make_slots(random, rule, (ROWS, *ROW), np.float64) for _ in values]
    with tf.device(device):
        tables = [tf.Variable(value) for value in values]
        states = [tuple(tf.Variable(slot) for slot in of_table) for of_table in slots]

    @tf.function(autograph=False)
    def step(gradient, in_bags):
        own = TableArgs(
            gradient,
            tf.constant(IDS, index_dtype),
            None,
            "sum",
            all_rows,
            False,
            tables[0],
            states[0],
            True,
            "own",
        )
        bags = TableArgs(
            in_bags,
            tf.constant(IDS, index_dtype),
            tf.constant(BAGS, index_dtype),
            "mean",
            all_rows,
            False,
            tables[1],
            states[1],
            False,
            "bags",
        )
        table_update([own, bags], rule=rule, hyper=tf.constant(HYPER[rule], tf.float64))

    touched = np.ones(ROWS, bool) if all_rows else np.isin(np.arange(ROWS), IDS)
    for _ in range(3):
        given = random.normal(size=(len(IDS), 6)), random.normal(size=(3, 6))
        gradients = (
            dense_gradient(given[0], IDS),
            dense_gradient(given[1], IDS, BAGS, "mean"),
        )
        expected = [
            oracle.update(table.numpy(), [s.numpy() for s in state], g, decayed, rule, HYPER[rule])
            for table, state, g, decayed in zip(
                tables, states, gradients, (True, False), strict=True
            )
        ]
        before = [table.numpy() for table in tables]
        step(*given)
        for table, state, was, (value, new_slots) in zip(
            tables, states, before, expected, strict=True
        ):
            np.testing.assert_allclose(table.numpy()[touched], value[touched], 1e-12, 1e-12)
            np.testing.assert_array_equal(table.numpy()[~touched], was[~touched])
            for slot, new in zip(state, new_slots, strict=True):
                np.testing.assert_allclose(slot.numpy()[touched], new[touched], 1e-12, 1e-12)


def call(device="/CPU:0", **replaced):
    """Runs the bare op under sgd, with no shape function before it."""
    with tf.device(device):
        table = tf.Variable(np.ones((ROWS, 4), np.float32))
        arguments = {
            "gradients": [np.ones((2, 4), np.float32)],
            "ids": [np.array([1, 2, 3])],
            "gradient_rows": [np.array([0, 1, 1])],
            "tables": [table.handle],
            "slots": [],
            "hyper": np.array([0, 0.5], np.float32),
            "conditions": [],
            "combiners": ["sum"],
            "in_bags": [True],
            "all_rows": [False],
            "sums_squares": [False],
            "rule": "sgd",
            "decayed": [False],
            "table_names": ["table"],
        }
        try:
            library.load().splitop_table_update(**(arguments | replaced))
        finally:
            value = table.numpy()
    return value


def test_a_call_under_a_condition(device):
    assert (call(device, conditions=[True]) != 1).any()
    np.testing.assert_array_equal(call(device, conditions=[False]), np.ones((ROWS, 4)))


def test_a_call(device):
    value = call(device)
    np.testing.assert_array_equal(value[1:4], np.full((3, 4), 0.5))
    np.testing.assert_array_equal(value[4:], np.ones((ROWS - 4, 4)))


def test_an_id_in_no_bag_has_no_gradient(device):
    value = call(device, gradient_rows=[np.array([0, -1, 1], np.int32)])
    np.testing.assert_array_equal(value[1:4, 0], [0.5, 1, 0.5])


def test_an_empty_batch(device):
    value = call(
        device,
        gradients=[np.ones((0, 4), np.float32)],
        ids=[np.zeros(0, np.int64)],
        gradient_rows=[np.zeros(0, np.int64)],
    )
    np.testing.assert_array_equal(value, np.ones((ROWS, 4)))


def test_an_empty_batch_of_all_rows(device):
    """The slots go on without a gradient."""
    with tf.device(device):
        slot = tf.Variable(np.full((ROWS, 4), 2, np.float32))
    value = call(
        device,
        gradients=[np.ones((0, 4), np.float32)],
        ids=[np.zeros(0, np.int64)],
        gradient_rows=[np.zeros(0, np.int64)],
        all_rows=[True],
        slots=[slot.handle],
        rule="momentum",
        hyper=np.array([0, 0.5, 1, -0.25, 0], np.float32),
    )
    np.testing.assert_array_equal(slot, np.ones((ROWS, 4)))
    np.testing.assert_array_equal(value, np.full((ROWS, 4), 0.75))


@pytest.mark.parametrize("gpu", [on_gpu("/GPU:0", id="gpu")])
def test_on_a_gpu_what_is_out_of_range_is_skipped(gpu):
    """As in TensorFlow's own kernels there."""
    value = call(gpu, ids=[np.array([1, 50, -3])])
    np.testing.assert_array_equal(value[1], np.full(4, 0.5))
    np.testing.assert_array_equal(np.delete(value, 1, 0), np.ones((ROWS - 1, 4)))
    value = call(gpu, gradient_rows=[np.array([0, 2, 1])])
    np.testing.assert_array_equal(value[1:4, 0], [0.5, 1, 0.5])


BAD = {
    "an id that is too large": (
        {"ids": [np.array([1, 50, 3])]},
        'splitop: SplitError: the ids of "table" must be in [0, 50). Received: 50 at position 1.',
    ),
    "a negative id": ({"ids": [np.array([1, 2, -1], np.int32)]}, "Received: -1 at position 2."),
    "a bag that is not there": (
        {"gradient_rows": [np.array([0, 1, 2])]},
        'the gradient rows of "table" must be in [0, 2). Received: 2 at position 2.',
    ),
    "the gradient's width": (
        {"gradients": [np.ones((2, 3), np.float32)]},
        'the gradient of "table" must have shape [?, 4] (bags x elements of a row). Received: '
        "[2, 3].",
    ),
    "a gradient for each id": (
        {"in_bags": [False], "gradient_rows": []},
        'the gradient of "table" must have shape [3, 4] (ids x elements of a row). Received: '
        "[2, 4].",
    ),
    "ids of two dimensions": (
        {"ids": [np.array([[1, 2, 3]])]},
        'the ids of "table" must have shape [?] (one dimension). Received: [1, 3].',
    ),
    "too few bags": (
        {"gradient_rows": [np.array([0, 1])]},
        'the gradient rows of "table" must have shape [3] (one for each id). Received: [2].',
    ),
    "combiner": ({"combiners": ["max"]}, 'unknown combiner. Received: "max".'),
    "hyper": ({"hyper": np.ones(3, np.float32)}, "hyper must have shape [2]"),
    "all_rows": (
        {"all_rows": [True, False]},
        "takes 1 all_rows entries, one a table. Received: 2.",
    ),
    "slots": ({"rule": "adagrad"}, 'takes 1 slots, the rule "adagrad" having 1 a table'),
    "bags": ({"in_bags": [False]}, "takes 0 gradient_rows, one for each table that is in_bags"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case):
    replaced, message = BAD[case]
    with tf.device("/CPU:0"):
        table = tf.Variable(np.ones((ROWS, 4), np.float32))
        with pytest.raises((InvalidArgument, ValueError), match=re.escape(message)):
            call(tables=[table.handle], **replaced)
        np.testing.assert_array_equal(table, np.ones((ROWS, 4)))


def test_a_slot_of_more_than_an_element_a_row():
    with tf.device("/CPU:0"):
        slot = tf.Variable(np.ones((ROWS, 4), np.float32))
    message = r'slot 0 of table "table" must have shape \[50\] \(an element for each row of its '
    with pytest.raises((InvalidArgument, ValueError), match=message + r"variable\)"):
        call(rule="rowwise_adagrad", slots=[slot.handle], hyper=np.ones(3, np.float32))
    np.testing.assert_array_equal(slot, np.ones((ROWS, 4)))


def test_the_table_stays_where_it_is(device):
    with tf.device(device):
        table = tf.Variable(np.ones((ROWS, 4), np.float32))
    call(device, tables=[table.handle])
    before = address(read(table))
    call(device, tables=[table.handle])
    assert address(read(table)) == before
    held = read(table)
    value = table.numpy()
    call(device, tables=[table.handle])
    np.testing.assert_array_equal(held, value)
    assert not np.array_equal(table, value)


class TestTheWrapper:
    def table(self, **replaced):
        arguments = {
            "gradient": tf.ones([2, 4]),
            "ids": tf.constant([1, 2]),
            "gradient_rows": None,
            "combiner": "sum",
            "all_rows": False,
            "sums_squares": False,
            "table": tf.Variable(tf.ones([9, 4])),
            "slots": (),
            "decayed": False,
            "name": "t",
        }
        return TableArgs(**(arguments | replaced))

    def test_eagerly(self):
        with pytest.raises(SplitError, match="Received: an eager call"):
            table_update([self.table()], rule="sgd", hyper=tf.ones([2]))

    def test_without_a_table(self):
        with tf.Graph().as_default(), pytest.raises(SplitError, match="Received: none"):
            table_update([], rule="sgd", hyper=tf.ones([2]))

    def test_a_gradient_of_another_dtype(self):
        with tf.Graph().as_default():
            table = self.table(gradient=tf.ones([2, 4], tf.float64))
            with pytest.raises(SplitError, match='the gradient of "t" must be float32'):
                table_update([table], rule="sgd", hyper=tf.ones([2]))

    def test_a_known_shape_that_does_not_fit(self):
        with tf.Graph().as_default():
            table = self.table(gradient=tf.ones([3, 4]))
            with pytest.raises(ValueError, match='the gradient of "t" must have shape'):
                table_update([table], rule="sgd", hyper=tf.ones([2]))
