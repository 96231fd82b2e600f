"""Both passes see the same values; what can't be repeated is a named error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop import CutError, SplitError
from tests.micro_batches.models import BY_CHUNK, CASES
from tests.micro_batches.training import MICRO, Trainer

UNITS = 3


def weight() -> tf.Variable:
    return tf.Variable(tf.ones([UNITS], tf.float64), name="weight")


def masked_step(draw: Callable[[Any], Any], state: Any, size: int = 4) -> tuple[Any, Any]:
    """One step of SGD on iv = w * draw(x), with sum(iv * seed) as the loss.

    Returns:
        The gradient that has reached w, and the one that the iv of the first pass asks for.
    """
    w = weight()
    optimizer = keras.optimizers.SGD(1.0)

    @tf.function
    def step(x: Any) -> tuple[Any, Any]:
        chunks = splitop.MicroBatches(lambda x: w * draw(x), x, size=size, state=state)
        seed = tf.cast(tf.reshape(tf.range(33), [11, UNITS]), tf.float64)
        chunks.minimize(optimizer, [w], seed)
        return tf.reduce_sum(seed * chunks.iv, 0), chunks.iv

    expected, iv = step(tf.ones([11, UNITS], tf.float64))
    assert len(np.unique(iv)) > 1  # There was a mask.
    return 1 - w.numpy(), expected.numpy()


def mask_of(layer: Any) -> Callable[[Any], Any]:
    return lambda x: layer(x, training=True)


@pytest.mark.parametrize("size", [1, 4, 100])
def test_dropout(size: int) -> None:
    layer = keras.layers.Dropout(0.5, dtype="float64")
    actual, expected = masked_step(mask_of(layer), layer.non_trainable_variables, size)
    np.testing.assert_array_equal(actual, expected)


def test_every_chunk_has_a_mask_of_its_own() -> None:
    """As many draws as there are chunks, and the seeds go on where the first pass has ended."""
    layer, other = (keras.layers.Dropout(0.5, dtype="float64", seed=7) for _ in range(2))
    masked_step(mask_of(layer), layer.non_trainable_variables)
    for _ in range(3):
        other(tf.ones([4, UNITS], tf.float64), training=True)
    for variable, expected in zip(
        layer.non_trainable_variables, other.non_trainable_variables, strict=True
    ):
        np.testing.assert_array_equal(variable, expected)


def test_a_generator_of_tensorflow() -> None:
    generator = tf.random.Generator.from_seed(3)

    def draw(x: Any) -> Any:
        return x * tf.round(4 * generator.uniform(tf.shape(x), dtype=tf.float64))

    actual, expected = masked_step(draw, [generator.state])
    np.testing.assert_array_equal(actual, expected)


def test_a_write_in_a_branch_of_a_nested_function() -> None:
    count = tf.Variable(0.0, dtype=tf.float64)

    @tf.function
    def draw(x: Any) -> Any:
        if tf.reduce_sum(x) > 1:
            count.assign_add(1.0)
        return x * count

    actual, expected = masked_step(draw, [count])
    np.testing.assert_array_equal(actual, expected)
    assert count.numpy() == 3


def test_statistics_move_once_a_chunk() -> None:
    """Also where two steps of plain TensorFlow are taken on one batch: one value a chunk."""
    trainer = Trainer(BY_CHUNK["normalised"], MICRO, size=4)
    before, variance = (np.asarray(v) for v in trainer.model.layers[1].non_trainable_variables)
    x = BY_CHUNK["normalised"].inputs(np.random.default_rng(0), 11)
    hidden = np.asarray(trainer.model.layers[0](x.astype("float64")))
    trainer.step(x)
    for start in (0, 4, 8):
        before = 0.7 * before + 0.3 * hidden[start : start + 4].mean(0)
        variance = 0.7 * variance + 0.3 * hidden[start : start + 4].var(0)
    after = trainer.model.layers[1].non_trainable_variables
    np.testing.assert_allclose(after[0], before, rtol=1e-9)
    np.testing.assert_allclose(after[1], variance, rtol=1e-9)


def test_variables_that_are_only_read_are_not_recorded() -> None:
    """Frozen weights are among a model's non-trainable variables, and may be large."""
    model = CASES["mlp"].build("float64")
    model.layers[0].trainable = False
    seen: list[Any] = []

    @tf.function
    def step(x: Any) -> None:
        chunks = splitop.MicroBatches(model, x, size=4, state=model.non_trainable_variables)
        seen.append(chunks._forward.recorded)

    step(tf.zeros([11, 7], tf.float64))
    assert len(model.non_trainable_variables) == 2
    assert seen == [()]


def build(second_part: Callable[[Any], Any], **options: Any) -> Any:
    """Only builds the forward pass, in a tf.function on a batch of 11 × 3."""
    options = {"size": 4, **options}

    @tf.function(autograph=False)
    def step(x: Any) -> None:
        splitop.MicroBatches(second_part, x, **options)

    return step.get_concrete_function(tf.TensorSpec([None, UNITS], tf.float64))


GENERATOR = tf.random.Generator.from_seed(1)
COUNTER = tf.Variable(0.0, dtype=tf.float64, name="counter")


@tf.function
def noisy(x: Any) -> Any:
    return x + tf.random.normal(tf.shape(x), dtype=tf.float64)


def looped(x: Any) -> Any:
    return tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, noisy(x)), [0, x])[1]


def counted(x: Any) -> Any:
    return x * COUNTER.assign_add(1.0)


def drawn(x: Any) -> Any:
    return x * GENERATOR.uniform([], dtype=tf.float64)


def from_python(x: Any) -> Any:
    y = tf.numpy_function(lambda x: x + np.random.rand(), [x], tf.float64)
    return tf.ensure_shape(y, x.shape)


@pytest.mark.parametrize(
    ("second_part", "words"),
    [
        (lambda x: x * tf.random.uniform([], dtype=tf.float64), ["RandomUniform", "stateless"]),
        (
            lambda x: tf.nn.dropout(x, 0.5),
            ["RandomUniform", "pass what holds their seeds as state"],
        ),
        (noisy, ["RandomStandardNormal", "stateless"]),
        (looped, ["RandomStandardNormal", "stateless"]),
        (counted, ["AssignAddVariableOp", '"counter:0"', "pass the variables"]),
        (drawn, ["RngReadAndSkip", "pass the variables"]),
        (from_python, ["PyFunc", "as a part of inputs"]),
    ],
)
def test_what_cant_be_repeated(second_part: Callable[[Any], Any], words: list[str]) -> None:
    with pytest.raises(SplitError) as error:
        build(second_part)
    for word in [*words, "must be repeatable", "Received:"]:
        assert word in str(error.value)
    assert COUNTER.numpy() == 0


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_recurrent_layers_of_cudnn(dropout: float, nested: bool) -> None:
    """They are only built here: they run on GPUs."""

    def second_part(x: Any) -> Any:
        state = tf.zeros([1, tf.shape(x)[0], UNITS])
        output, *_ = tf.raw_ops.CudnnRNNV3(
            input=tf.cast(x, tf.float32)[:, tf.newaxis],
            input_h=state,
            input_c=state,
            params=tf.zeros([100]),
            sequence_lengths=tf.ones([tf.shape(x)[0]], tf.int32),
            dropout=dropout,
        )
        return tf.ensure_shape(output, [None, 1, UNITS])

    part = tf.function(second_part) if nested else second_part
    if dropout:
        with pytest.raises(SplitError, match="CudnnRNNV3"):
            build(part)
    else:
        build(part)


def test_a_function_that_is_not_there() -> None:
    attr = tf.compat.v1.AttrValue

    def second_part(x: Any) -> Any:
        types = attr.ListValue(type=[x.dtype.as_datatype_enum])
        attributes = {
            "f": attr(func=tf.compat.v1.NameAttrList(name="nowhere")),
            "Tin": attr(list=types),
            "Tout": attr(list=types),
        }
        call = x.graph.create_op("PartitionedCall", [x], [x.dtype], attrs=attributes)
        call.outputs[0].set_shape(x.shape)
        return call.outputs[0]

    with pytest.raises(SplitError, match=r"must be repeatable.*Received: nowhere"):
        build(second_part)


def test_an_iterator() -> None:
    iterator = iter(tf.data.Dataset.range(100))

    def second_part(x: Any) -> Any:
        return x * tf.cast(next(iterator), tf.float64)

    with pytest.raises(SplitError, match=r"IteratorGetNext.*\"|part of inputs"):
        build(second_part)
    assert next(iterator).numpy() == 0


def test_the_state_of_another_layer() -> None:
    layer = keras.layers.Dropout(0.5, dtype="float64")
    with pytest.raises(SplitError, match=r"non_trainable_variables.*seed_generator_state"):
        build(mask_of(layer), state=[COUNTER])


def test_checks_and_prints_may_be_repeated(capfd: pytest.CaptureFixture[str]) -> None:
    def second_part(x: Any) -> Any:
        tf.print("a chunk")
        with tf.control_dependencies([tf.debugging.assert_greater(x, np.float64(0))]):
            return tf.debugging.check_numerics(2 * x, "not a number")

    build(second_part)(tf.ones([11, UNITS], tf.float64))
    assert capfd.readouterr().err.count("a chunk") == 3


def test_a_write_between_the_passes() -> None:
    """A shared variable: the backward pass would see other weights than the forward pass."""
    w = weight()
    optimizer = keras.optimizers.SGD(1.0)

    @tf.function
    def step(x: Any) -> None:
        chunks = splitop.MicroBatches(lambda x: x * w, x, size=4)
        w.assign_add([1.0] * UNITS)
        with pytest.raises(SplitError, match=r"AssignAddVariableOp.*writes \"weight:0\""):
            chunks.minimize(optimizer, [w], tf.ones_like(chunks.iv))

    step(tf.ones([11, UNITS], tf.float64))


def test_a_second_step_on_the_same_variables() -> None:
    w, b = weight(), weight()
    optimizers = [keras.optimizers.SGD(1.0) for _ in range(2)]

    @tf.function
    def step(x: Any) -> None:
        chunks = splitop.MicroBatches(lambda x: x * w + b, x, size=4)
        seed = tf.ones_like(chunks.iv)
        plans = [
            chunks.plan(optimizer, [variable], seed)
            for optimizer, variable in zip(optimizers, (w, b), strict=True)
        ]
        for plan in plans:
            plan.apply()
        with pytest.raises(SplitError, match=r"MultiTensorUpdate.*after the forward pass"):
            chunks.plan(optimizers[0], [w], seed)

    step(tf.ones([11, UNITS], tf.float64))
    np.testing.assert_array_equal(w, [-10.0] * UNITS)
    np.testing.assert_array_equal(b, [-10.0] * UNITS)


@pytest.mark.parametrize("way", ["inputs", "closure"])
def test_a_variable_from_outside_of_the_second_part(way: str) -> None:
    w = weight()
    optimizer = keras.optimizers.SGD(1.0)

    @tf.function
    def step(x: Any) -> None:
        scale = tf.reduce_sum(w)
        inputs = x * w if way == "inputs" else x

        def second_part(x: Any) -> Any:
            return x * w * (1.0 if way == "inputs" else scale)

        chunks = splitop.MicroBatches(second_part, inputs, size=4)
        with pytest.raises(CutError, match=r"\"weight:0\" also reaches.*would be lost.*Received:"):
            chunks.minimize(optimizer, [w], tf.ones_like(chunks.iv))

    step(tf.ones([11, UNITS], tf.float64))


def test_state_that_moves_between_the_passes() -> None:
    """The first part draws from the same seeds: it must not draw the same values again."""
    layer, other = (keras.layers.Dropout(0.5, dtype="float64", seed=7) for _ in range(2))
    w = weight()
    optimizer = keras.optimizers.SGD(1.0)

    @tf.function
    def step(x: Any) -> Any:
        chunks = splitop.MicroBatches(
            lambda x: w * layer(x, training=True), x, size=4, state=layer.non_trainable_variables
        )
        layer(x, training=True)
        chunks.minimize(optimizer, [w], tf.ones_like(chunks.iv))
        return tf.reduce_sum(chunks.iv, 0)

    expected = step(tf.ones([11, UNITS], tf.float64))
    np.testing.assert_array_equal(1 - w.numpy(), expected)
    for _ in range(4):
        other(tf.ones([4, UNITS], tf.float64), training=True)
    np.testing.assert_array_equal(layer.variables[0], other.variables[0])
