"""What can't be right is a named error, before anything is written."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop import CutError, NotFusableError, SeedError, SplitError, VariableListError

UNITS = 3


def weight() -> tf.Variable:
    return tf.Variable(tf.ones([UNITS]), name="weight")


def in_function(call: Any, spec: Any = ((None, UNITS),)) -> None:
    specs = [tf.TensorSpec(shape, tf.float32) for shape in spec]
    tf.function(call, autograph=False).get_concrete_function(*specs)


@pytest.mark.parametrize("size", [0, -1, 2.0, None, True, "4"])
def test_size(size: Any) -> None:
    with pytest.raises(SplitError, match=r"size.*a whole number from 1.*Received:"):
        in_function(lambda x: splitop.MicroBatches(tf.identity, x, size=size))


def test_sizes_may_be_numpys() -> None:
    in_function(lambda x: splitop.MicroBatches(lambda x: x * 2.0, x, size=np.int64(3)).iv)


@pytest.mark.parametrize("inputs", [(), {"a": None}, object()])
def test_inputs_that_are_no_tensors(inputs: Any) -> None:
    with pytest.raises(SplitError, match=r"rows of the batch along axis 0.*Received:"):
        in_function(lambda x: splitop.MicroBatches(lambda y: x, inputs, size=4))


def test_inputs_without_rows() -> None:
    with pytest.raises(SplitError, match=r"take from outside.*shape \(\)"):
        in_function(lambda x: splitop.MicroBatches(lambda y: y[0], (x, tf.constant(2.0)), size=4))


def test_inputs_of_different_batches() -> None:
    def call(x: Any, y: Any) -> None:
        splitop.MicroBatches(lambda z: z[0] + z[1], (x, y), size=4)

    with pytest.raises(SplitError, match=r"\"x:0\" of shape \(5, 3\), \"y:0\" of shape \(6, 3\)"):
        in_function(call, ((5, UNITS), (6, UNITS)))
    step = tf.function(call, autograph=False).get_concrete_function(
        *[tf.TensorSpec([None, UNITS])] * 2
    )
    step(tf.ones([5, UNITS]), tf.ones([5, UNITS]))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"SplitError.*\[5 6\]"):
        step(tf.ones([5, UNITS]), tf.ones([6, UNITS]))


def test_an_empty_batch() -> None:
    def call(x: Any) -> None:
        splitop.MicroBatches(lambda x: x * 2.0, x, size=4)

    with pytest.raises(SplitError, match="at least one row"):
        in_function(call, ((0, UNITS),))
    step = tf.function(call).get_concrete_function(tf.TensorSpec([None, UNITS]))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"SplitError.*at least one"):
        step(tf.ones([0, UNITS]))


def test_a_failed_step_writes_nothing() -> None:
    w = weight()
    layer = keras.layers.Dropout(0.5)
    layer.build((UNITS,))
    optimizer = keras.optimizers.Adam(0.1)
    optimizer.build([w])

    @tf.function(input_signature=[tf.TensorSpec([None, UNITS]), tf.TensorSpec([None, UNITS])])
    def step(x: Any, seed: Any) -> None:
        chunks = splitop.MicroBatches(
            lambda x: layer(x * w, training=True), x, size=4, state=layer.variables
        )
        chunks.minimize(optimizer, [w], seed, check_numerics=True)

    step(tf.ones([11, UNITS]), tf.ones([11, UNITS]))
    before = [np.asarray(v) for v in (w, *optimizer.variables)]
    for rows, value in ((10, 1.0), (11, np.nan)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="SeedError"):
            step(tf.ones([11, UNITS]), tf.fill([rows, UNITS], value))
        after = [np.asarray(v) for v in (w, *optimizer.variables)]
        for new, old in zip(after, before, strict=True):
            np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize(
    ("second_part", "words"),
    [
        (lambda x: tf.reduce_sum(x), "rows of its micro-batch"),
        (lambda x: tf.cast(x, tf.int32), "floating dtype"),
        (lambda x: x, "is a placeholder"),
        (lambda x: None, "must be a tensor"),
        (lambda x: [], "must be a tensor"),
    ],
)
def test_intermediate_vectors(second_part: Any, words: str) -> None:
    with pytest.raises(CutError, match=f"{words}.*Received:"):
        in_function(lambda x: splitop.MicroBatches(second_part, x, size=4))


def test_an_intermediate_vector_with_other_rows() -> None:
    def call(x: Any) -> None:
        splitop.MicroBatches(lambda x: tf.repeat(x, 2, axis=0), x, size=4)

    with pytest.raises(CutError, match=r"micro-batch, 4, along axis 0"):
        in_function(call, ((8, UNITS),))
    step = tf.function(call).get_concrete_function(tf.TensorSpec([None, UNITS]))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"CutError.*Expected:"):
        step(tf.ones([8, UNITS]))


def test_eager() -> None:
    with pytest.raises(SplitError, match="an eager call"):
        splitop.MicroBatches(tf.identity, tf.ones([4, UNITS]), size=2)


def test_xla() -> None:
    step = tf.function(
        lambda x: splitop.MicroBatches(lambda x: x * 2.0, x, size=4).iv, jit_compile=True
    )
    with pytest.raises(SplitError, match="jit_compile=True"):
        step(tf.ones([8, UNITS]))


def planned(*args: Any, penalty: Any = None, second_part: Any = None, **options: Any) -> None:
    """Plans a step of w on a batch of open size; `args` as those of `plan` after the optimizer."""

    def call(x: Any) -> None:
        chunks = splitop.MicroBatches(
            second_part or (lambda x: x * args[0][0]), x, size=4, penalty=penalty
        )
        seed = args[1] if len(args) > 1 else tf.ones_like(chunks.iv)
        if "regularization" in options:
            options["regularization"] = options["regularization"]()
        chunks.plan(keras.optimizers.SGD(1.0), args[0], seed, **options)

    in_function(call)


def test_seeds() -> None:
    w = weight()
    with pytest.raises(SeedError, match="must have the shape"):
        planned([w], tf.ones([8, UNITS + 1]))
    with pytest.raises(SeedError, match=r"must have the dtype.*float64"):
        planned([w], tf.ones([8, UNITS], tf.float64))
    with pytest.raises(SeedError, match="structure of iv"):
        planned([w], {"iv": tf.ones([8, UNITS])})


def test_variables() -> None:
    w, other = weight(), tf.Variable(1.0, name="other")
    with pytest.raises(VariableListError, match=r"\"other:0\" is not reached from iv"):
        planned([w, other])
    with pytest.raises(VariableListError, match="StopGradient"):
        planned([w], second_part=lambda x: x * tf.stop_gradient(w))
    with pytest.raises(VariableListError, match="must not be empty"):
        planned([], second_part=lambda x: x * w)


def test_penalties() -> None:
    w = weight()
    with pytest.raises(SplitError, match=r'"sum", "mean" or None. Received: True'):
        planned([w], penalty=True)
    with pytest.raises(SplitError, match=r"must return \(iv, penalty\)"):
        planned([w], penalty="mean")
    for bad in (lambda x: x * w, lambda x: tf.constant(1), lambda x: "none"):
        with pytest.raises(SplitError, match=r"penalty must be a float scalar.*Received:"):
            planned([w], penalty="sum", second_part=lambda x, bad=bad: (x * w, bad(x)))
    with pytest.raises(SplitError, match='penalty="sum"'):
        planned([w], penalty_seed=tf.constant(1.0))
    with pytest.raises(SeedError, match="shape"):
        planned(
            [w],
            penalty="mean",
            penalty_seed=tf.ones([2]),
            second_part=lambda x: (x * w, tf.reduce_sum(w)),
        )


def test_regularization() -> None:
    w = weight()
    for bad in (lambda: 1.0, lambda: tf.ones([2]), lambda: tf.constant(1)):
        with pytest.raises(SplitError, match=r"regularization must be a float scalar.*Received"):
            planned([w], regularization=bad)
    with pytest.raises(SplitError, match="must be computed from variables of var_list"):
        planned([w], regularization=lambda: tf.constant(1.0))


def test_options_of_plan() -> None:
    with pytest.raises(SplitError, match="sparse must be"):
        planned([weight()], sparse="no")
    w = tf.Variable(tf.ones([UNITS], tf.float16), name="short")
    with pytest.raises(NotFusableError, match=r"\"short:0\": its dtype is float16"):
        planned([w], second_part=lambda x: tf.cast(x, tf.float16) * w, backend="fused")


def test_unique_ids_in_several_places() -> None:
    table = tf.Variable(tf.ones([9, UNITS]), name="table")

    def second_part(x: Any) -> Any:
        ids = tf.cast(x, tf.int64)
        return tf.add_n([tf.gather(table, tf.unique(i)[0])[:1] + x for i in (ids[:, 0], ids[:, 1])])

    with pytest.raises(SplitError, match=r"\"table:0\".*made unique in each of several places"):
        planned([table], second_part=second_part)
