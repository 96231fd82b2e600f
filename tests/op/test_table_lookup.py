"""The op Splitop>TableLookup."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from splitop._src.errors import VariableListError
from splitop._src.table_lookup import table_lookup
from tests.op.buffers import address, read


@pytest.fixture(autouse=True)
def _on_the_cpu():
    """There is no GPU kernel."""
    with tf.device("/CPU:0"):
        yield


def lookup(table: Any, ids: Any) -> Any:
    return table_lookup(table, ids, table_name="emb", name="lookup")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("row", [(), (5,), (2, 3)])
@pytest.mark.parametrize("ids", [3, [], [[1, 1], [8, 0]]])
def test_is_a_gather(dtype: str, row: tuple[int, ...], ids: Any) -> None:
    table = tf.Variable(np.random.default_rng(0).normal(size=(9, *row)).astype(dtype))
    for id_dtype in (tf.int32, tf.int64):
        of_type = tf.constant(ids, id_dtype)
        np.testing.assert_array_equal(lookup(table, of_type), tf.gather(table, of_type))


def test_the_shape_is_known_in_a_function() -> None:
    table = tf.Variable(tf.zeros([9, 5]))
    shapes = []

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.int32)])
    def run(ids: Any) -> Any:
        rows = lookup(table, ids)
        shapes.append(rows.shape.as_list())
        return rows

    assert run(tf.zeros([2, 3], tf.int32)).shape == (2, 3, 5)
    assert shapes == [[None, 3, 5]]


@pytest.mark.parametrize("bad", [-1, 9])
def test_ids_out_of_range(bad: int) -> None:
    table = tf.Variable(tf.zeros([9, 5]))
    message = rf'splitop: SplitError: the ids of "emb" must be in \[0, 9\)\. Received: {bad} at pos'
    with pytest.raises(tf.errors.InvalidArgumentError, match=message + r"ition 2\."):
        lookup(table, [1, 2, bad, 4])


def test_the_table_is_not_copied_then() -> None:
    """As it is after TensorFlow's gather, which has every read of the whole table make a copy."""
    table = tf.Variable(tf.random.normal([9, 5]))
    lookup(table, [1, 2])
    assert address(read(table)) == address(read(table))


def test_what_is_no_table() -> None:
    with pytest.raises(VariableListError, match="emb must be a resource variable"):
        lookup(tf.zeros([9, 5]), [1])
    with pytest.raises(tf.errors.InvalidArgumentError, match='table "emb" must be a variable of'):
        lookup(tf.Variable(1.0), [0])


def test_a_write_before_is_seen_and_one_after_is_not() -> None:
    table = tf.Variable(tf.zeros([9, 5]))

    @tf.function
    def run() -> Any:
        table.assign_add(tf.ones([9, 5]))
        rows = lookup(table, [3])
        table.assign_add(tf.ones([9, 5]))
        return rows

    for expected in (1, 3, 5):
        np.testing.assert_array_equal(run(), np.full((1, 5), expected))
