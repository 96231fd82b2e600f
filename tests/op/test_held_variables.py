"""The ops Splitop>HoldVariables and Splitop>CheckHeld."""

from __future__ import annotations

import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels

from splitop._src import library
from tests.op.buffers import address, read

VARIABLES = {"a": [1.0, 2.0], "b": [[3]]}


def variables():
    return {name: tf.Variable(value) for name, value in VARIABLES.items()}


def hold(given):
    return library.load().splitop_hold_variables(
        variables=[v.handle for v in given.values()], T=[v.dtype for v in given.values()]
    )


def check(given, held):
    library.load().splitop_check_held(
        variables=[v.handle for v in given.values()], held=held, names=list(given)
    )


def test_what_is_held_is_no_copy():
    given = variables()
    held = hold(given)
    for variable, tensor in zip(given.values(), held, strict=True):
        assert address(tensor) == address(read(variable))
    check(given, held)


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("write", ["assign", "assign_add"])
def test_a_write_is_seen(name, write):
    given = variables()
    held = hold(given)
    getattr(given[name], write)(tf.zeros_like(given[name]))
    error = tf.errors.InvalidArgumentError
    with pytest.raises(error, match=rf'splitop: StashError: .*Received: a write to "{name}"'):
        check(given, held)


def test_a_variable_that_is_copied_when_it_is_read_is_not_held():
    given = {"table": tf.Variable([[1.0], [2.0]])}
    tf.gather(given["table"], [0])  # From now on TensorFlow copies all of it whenever it is read.
    (held,) = hold(given)
    assert held.shape == (0,)
    given["table"].assign([[3.0], [4.0]])
    check(given, [held])


def test_names_that_do_not_fit():
    given = variables()
    held = hold(given)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"takes 2 names. Received: 1"):
        library.load().splitop_check_held(
            variables=[v.handle for v in given.values()], held=held, names=["a"]
        )


def test_another_dtype():
    given = variables()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must be of double. Received: float"):
        library.load().splitop_hold_variables(
            variables=[v.handle for v in given.values()], T=[tf.float64, tf.int32]
        )


@pytest.mark.parametrize("op", ["Splitop>HoldVariables", "Splitop>CheckHeld"])
def test_kernels(op):
    library.load()
    found = {
        kernel.device_type: list(kernel.host_memory_arg)
        for kernel in kernels.get_registered_kernels_for_op(op).kernel
    }
    assert found == {"CPU": [], "GPU": ["variables"]}
