"""Every pitfall is planted, and has to be found."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from tests.verify import models
from tests.verify.models import CLASSES, FEATURES, LOSS, finding, findings, verify

layers = keras.layers


def skip_model() -> Any:
    x = keras.Input((FEATURES,))
    h = layers.Dense(6, "relu", name="low")(x)
    iv = layers.Dense(4, "tanh", name="cut")(h)
    output = layers.Dense(CLASSES, name="logits")(layers.concatenate([iv, h]))
    return keras.Model(x, output)


def through_integers(h: Any) -> Any:
    return tf.cast(tf.cast(h, tf.int32), tf.float32)


class TestTheCut:
    def test_a_skip_connection(self) -> None:
        low = layers.Dense(6, "relu", name="low")
        top = layers.Dense(4, "tanh", name="top")
        logits = layers.Dense(CLASSES, name="logits")
        kept = []

        def second(x: Any) -> Any:
            kept.append(low(x))
            return top(kept[-1])

        x = models.batch()["x"]
        logits(layers.concatenate([second(x), kept.pop()]))  # Builds them.
        report = verify(
            second_part=second,
            first_part=lambda iv: logits(layers.concatenate([iv, kept.pop()])),
            second_vars=[*low.trainable_variables, *top.trainable_variables],
            first_vars=logits.trainable_variables,
        )
        round_it = [f for f in report.findings if f.pitfall == "path round the cut"]
        assert {f.where for f in round_it} == {"low/kernel", "low/bias"}
        assert "skip connection" in round_it[0].message
        assert {row.name for row in report.failures} >= {"low/kernel", "low/bias"}
        assert not any(row.name.startswith("top/") for row in report.failures if row.step == 1)

    def test_a_skip_connection_in_one_model(self) -> None:
        with pytest.raises(splitop.CutError, match=r"'low' go round it.*\['cut', 'low'\]"):
            verify(model=skip_model(), cut="cut")
        assert verify(model=skip_model(), cut=["cut", "low"]).ok

    def test_the_skip_connection_is_a_part_of_iv(self) -> None:
        x = keras.Input((FEATURES,))
        h = layers.Dense(6, "relu", name="low")(x)
        side = layers.Dense(2, name="side")(h)
        iv = layers.Dense(4, "tanh", name="cut")(h)
        output = layers.Dense(CLASSES)(layers.concatenate([iv, side]))
        model = keras.Model(x, output)
        with pytest.raises(splitop.CutError, match=r"Name them, too: \['cut', 'low'\]"):
            verify(model=model, cut="cut")
        assert verify(model=model, cut=["cut", "side"]).ok

    def test_a_layer_of_both_parts(self) -> None:
        shared = layers.Dense(4, "tanh", name="shared")
        second = models.chain(4, shared)
        first = models.chain(4, shared, layers.Dense(CLASSES))
        report = verify(second_part=second, first_part=first, x=models.batch()["x"][:, :4])
        shared_by = {f.where for f in report.findings if f.pitfall == "shared variable"}
        assert shared_by == {"shared/kernel", "shared/bias"}
        assert {row.name for row in report.failures} >= {"shared/kernel", "shared/bias"}

    def test_a_layer_of_both_parts_in_one_model(self) -> None:
        x = keras.Input((4,))
        shared = layers.Dense(4, "tanh", name="shared")
        iv = layers.Dense(4, name="cut")(shared(x))
        model = keras.Model(x, layers.Dense(CLASSES)(shared(iv)))
        with pytest.raises(splitop.CutError, match="between two uses of 'shared'"):
            verify(model=model, cut="cut", x=models.batch()["x"][:, :4])

    def test_an_integer_iv(self) -> None:
        report = verify(
            second_part=lambda x: tf.argmax(x, 1),
            first_part=lambda iv: iv,
            second_vars=[tf.Variable(1.0)],
            first_vars=[tf.Variable(1.0)],
            loss=lambda y, iv: tf.reduce_mean(tf.cast(iv, tf.float32)),
        )
        assert "integers" in finding(report, "error", "cut").message
        assert report.steps == 0
        assert not report.ok

    def test_an_integer_iv_of_keras_models(self) -> None:
        x = keras.Input((FEATURES,))
        second = keras.Model(x, keras.ops.argmax(layers.Dense(4)(x), -1))
        first = keras.Sequential([keras.Input((), dtype="int64"), layers.Embedding(4, CLASSES)])
        report = verify(second_part=second, first_part=first)
        assert "integers" in finding(report, "error", "cut").message

    def test_an_iv_that_is_no_tensor(self) -> None:
        class Second(keras.Model):
            def call(self, x: Any) -> Any:
                return [x, None]

        class First(keras.Model):
            def call(self, iv: Any) -> Any:
                return iv[0]

        second, first = Second(), First()
        first(second(models.batch()["x"]))
        w = [tf.Variable(1.0)]
        report = verify(second_part=second, first_part=first, second_vars=w, first_vars=w)
        assert "must be tensors" in finding(report, "error", "cut").message

    def test_a_loss_without_iv(self) -> None:
        w = tf.Variable(tf.ones([FEATURES]))
        report = verify(
            second_part=lambda x: x * w,
            first_part=lambda iv: iv,
            second_vars=[w],
            first_vars=[tf.Variable(1.0)],
            loss=lambda y, iv: tf.reduce_mean(tf.cast(y, tf.float32)),
        )
        assert "is not computed from iv" in finding(report, "error", "cut").message

    def test_a_frozen_part(self) -> None:
        second = models.second_part()
        second.trainable = False
        report = verify(second_part=second, first_part=models.first_part())
        assert "frozen" in finding(report, "error", "variable list").message


class TestNoGradient:
    def test_of_a_variable(self) -> None:
        second = models.second_part()
        unused = tf.Variable([1.0, 2.0], name="unused")
        report = verify(
            second_part=second,
            first_part=models.first_part(),
            second_vars=[*second.trainable_variables, unused],
        )
        found = finding(report, "error", "no gradient")
        assert found.where == "unused:0"
        assert "nothing that the loss is computed from uses it" in found.message
        assert not report.failures

    @pytest.mark.parametrize(
        ("block", "name"),
        [(tf.stop_gradient, "StopGradient"), (through_integers, "Cast")],
    )
    def test_behind_a_block(self, block: Any, name: str) -> None:
        low = tf.Variable(tf.random.normal([FEATURES, 6]), name="low")
        top = tf.Variable(tf.random.normal([6, 4]), name="top")
        report = verify(
            second_part=lambda x: tf.matmul(block(tf.matmul(x, low)), top),
            first_part=models.first_part(),
            second_vars=[low, top],
        )
        found = finding(report, "error", "no gradient")
        assert found.where == "low:0"
        assert name in found.message

    def test_of_iv(self) -> None:
        second, first = models.second_part(), models.first_part()
        report = verify(
            second_part=lambda x: [second(x), tf.reduce_sum(x) * second.trainable_variables[0]],
            first_part=lambda ivs: first(ivs[0]) + 0 * tf.reduce_sum(tf.stop_gradient(ivs[1])),
            second_vars=second.trainable_variables,
            first_vars=first.trainable_variables,
        )
        assert "StopGradient" in finding(report, "error", "no seed").message
        assert not report.failures  # Zero is the right seed, then.

    def test_of_any_variable(self) -> None:
        second = models.second_part()
        report = verify(
            second_part=lambda x: tf.stop_gradient(second(x)),
            first_part=models.first_part(),
            second_vars=second.trainable_variables,
        )
        parts = {f.where for f in report.findings if f.pitfall == "no gradient"}
        assert "the second part" in parts
        assert report.steps == 0

    def test_variables_of_neither_part(self) -> None:
        second = models.second_part()
        report = verify(
            second_part=second,
            first_part=models.first_part(),
            second_vars=second.trainable_variables[:2],
        )
        where = {f.where for f in report.findings if f.pitfall == "variable of neither part"}
        assert len(where) == 2
        assert report.ok  # Perhaps it is frozen on purpose.


class TestRandomNumbers:
    @pytest.mark.parametrize(
        "layer",
        [layers.Dropout(0.5), layers.GaussianNoise(0.1), layers.SpatialDropout1D(0.5)],
        ids=["dropout", "noise", "spatial"],
    )
    def test_of_keras(self, layer: Any) -> None:
        more = [layer]
        if isinstance(layer, layers.SpatialDropout1D):
            more = [layers.Reshape((7, 1)), layer, layers.Flatten()]
        report = verify(second_part=models.second_part(*more), first_part=models.first_part())
        found = finding(report, "warning", "random operations")
        assert "splitop's steps keep those that the seed belongs to" in found.message
        assert report.ok, str(report)

    def test_of_tensorflow(self) -> None:
        second = models.second_part()
        report = verify(
            second_part=lambda x: tf.nn.dropout(second(x), 0.4),
            first_part=models.first_part(),
            second_vars=second.trainable_variables,
        )
        assert "dropout" in finding(report, "warning", "random operations").where
        # The masks of all runs are the same, though no seed was set.
        assert report.ok, str(report)

    def test_inside_of_a_function(self) -> None:
        second = models.second_part()
        report = verify(
            second_part=tf.function(lambda x: tf.nn.dropout(second(x), 0.4)),
            first_part=models.first_part(),
            second_vars=second.trainable_variables,
        )
        assert ("warning", "random operations") in findings(report)
        assert report.ok, str(report)

    def test_from_a_fixed_seed(self) -> None:
        second = models.second_part()
        report = verify(
            second_part=lambda x: second(x) + tf.random.stateless_normal([11, 4], [1, 2]),
            first_part=models.first_part(),
            second_vars=second.trainable_variables,
        )
        assert findings(report) == {("note", "random operations")}

    def test_that_cannot_be_drawn_again(self) -> None:
        second = models.second_part()

        def noisy(x: Any) -> Any:
            noise = tf.numpy_function(lambda: np.float32(np.random.random()), [], tf.float32)
            return second(x + tf.ensure_shape(noise, []))

        report = verify(
            second_part=noisy,
            first_part=models.first_part(),
            second_vars=second.trainable_variables,
        )
        assert "another loss" in finding(report, "error", "not reproducible").message

    def test_in_the_first_part_are_no_matter(self) -> None:
        report = verify(
            second_part=models.second_part(), first_part=models.first_part(layers.Dropout(0.5))
        )
        assert report.ok
        assert not report.findings


class TestState:
    def test_moving_statistics(self) -> None:
        norm = layers.BatchNormalization(name="norm")
        report = verify(second_part=models.second_part(norm), first_part=models.first_part())
        found = finding(report, "warning", "moving statistics")
        assert found.where == "norm/moving_mean, norm/moving_variance"
        assert "In splitop's steps it moves once" in found.message
        assert report.ok, str(report)

    def test_moving_statistics_of_the_first_part_are_no_matter(self) -> None:
        first = models.first_part(layers.BatchNormalization())
        report = verify(second_part=models.second_part(), first_part=first)
        assert report.ok, str(report)
        assert not report.findings

    def test_a_counter(self) -> None:
        second, calls = models.second_part(), tf.Variable(5, trainable=False, name="calls")

        def counting(x: Any) -> Any:
            calls.assign_add(1)
            return second(x)

        report = verify(
            second_part=counting,
            first_part=models.first_part(),
            second_vars=second.trainable_variables,
        )
        assert ("warning", "moving statistics") in findings(report)
        assert calls.numpy() == 5

    def test_an_iterator(self) -> None:
        second = models.second_part()
        data = iter(tf.data.Dataset.from_tensors(models.batch()["x"]).repeat())
        report = verify(
            second_part=lambda _: second(next(data)),
            first_part=models.first_part(),
            second_vars=second.trainable_variables,
        )
        found = finding(report, "error", "iterator in the graph")
        assert "another batch" in found.message
        assert "splitop itself trains both parts on one element" in found.advice
        assert report.steps == 0

    def test_a_mutable_table(self) -> None:
        second = models.second_part()
        seen = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, -1)

        def remembering(x: Any) -> Any:
            seen.insert(tf.constant([1], tf.int64), tf.constant([1], tf.int64))
            return second(x)

        report = verify(
            second_part=remembering,
            first_part=models.first_part(),
            second_vars=second.trainable_variables,
        )
        assert ("error", "state that can't be put back") in findings(report)
        assert seen.size().numpy() == 0

    def test_python_code(self) -> None:
        second = models.second_part()

        def doubled(x: Any) -> Any:
            twice = tf.numpy_function(lambda a: a * 2, [x], tf.float32)
            return second(tf.ensure_shape(twice, x.shape))

        report = verify(
            second_part=doubled,
            first_part=models.first_part(),
            second_vars=second.trainable_variables,
        )
        assert findings(report) == {("note", "Python code")}


class TestPenalties:
    @pytest.mark.parametrize("option", ["kernel_regularizer", "activity_regularizer"])
    @pytest.mark.parametrize("way", ["parts", "cut"])
    def test_lost(self, option: str, way: str) -> None:
        second, first = models.second_part(**{option: "l2"}), models.first_part()
        arguments: dict[str, Any] = {"second_part": second, "first_part": first}
        if way == "cut":
            last = layers.Dense(4, "tanh", name="top", **{option: "l2"})
            whole = models.chain(FEATURES, layers.Dense(7, "relu"), last, layers.Dense(CLASSES))
            arguments = {"model": whole, "cut": "top"}
        report = verify(**arguments)
        assert "top/kernel" in finding(report, "error", "lost regularisation").where
        assert "top/kernel" in {row.name for row in report.failures}
        kept = verify(**arguments, second_penalties=True)
        assert kept.ok, str(kept)
        assert findings(kept) == {("note", "regularisation")}

    def test_of_the_first_part_are_not_lost(self) -> None:
        first = models.first_part(kernel_regularizer=keras.regularizers.L1L2(0.1, 0.1))
        report = verify(second_part=models.second_part(), first_part=first)
        assert report.ok, str(report)
        assert not report.findings

    def test_around_the_cut_in_a_loss_of_ones_own(self) -> None:
        second = models.second_part()

        def loss(y: Any, output: Any) -> Any:
            return LOSS(y, output) + tf.reduce_sum(second.trainable_variables[0] ** 2)

        report = verify(second_part=second, first_part=models.first_part(), loss=loss)
        found = finding(report, "error", "path round the cut")
        assert found.where == "low/kernel"
        assert "regularisation loss" in found.message


class TestOptimizers:
    def test_one_for_both(self) -> None:
        optimizer = keras.optimizers.Adam()
        report = verify(first_optimizer=optimizer, second_optimizer=optimizer)
        assert "Adam" in finding(report, "error", "one optimizer for both parts").where
        assert len(report.gradients) == 6  # These can be compared all the same.
        assert not report.updates
        assert not report.failures
        assert not optimizer.built

    def test_built_for_the_other_part(self) -> None:
        second, first = models.second_part(), models.first_part()
        arguments = models.optimizers()
        arguments["second_optimizer"].build(first.trainable_variables)
        report = verify(second_part=second, first_part=first, **arguments)
        message = finding(report, "error", "training step").message
        assert "low/kernel" in message
        assert report.steps == 0

    def test_clipping_by_the_global_norm(self) -> None:
        report = verify(second_optimizer=keras.optimizers.SGD(0.1, global_clipnorm=0.01))
        where = finding(report, "warning", "clipping by the global norm").where
        assert where == "second_optimizer"
        assert report.ok, str(report)

    def test_clipping_of_each_gradient_is_no_matter(self) -> None:
        report = verify(second_optimizer=keras.optimizers.SGD(0.1, clipnorm=0.01))
        assert report.ok, str(report)
        assert not report.findings

    @pytest.mark.parametrize(
        ("first", "severity"), [(2, "note"), (3, "warning"), (None, "warning")]
    )
    def test_accumulation(self, first: int | None, severity: str) -> None:
        report = verify(
            first_optimizer=keras.optimizers.SGD(0.1, gradient_accumulation_steps=first),
            second_optimizer=keras.optimizers.Adam(0.1, gradient_accumulation_steps=2),
            steps=3,
        )
        assert findings(report) == {(severity, "gradient accumulation")}
        assert report.ok, str(report)

    def test_one_loss_scale(self) -> None:
        report = verify(
            second_optimizer=keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
        )
        assert ("warning", "loss scale") in findings(report)
        assert report.ok, str(report)

    def test_two_loss_scales(self) -> None:
        first, second = (
            keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.1), initial_scale=256.0)
            for _ in range(2)
        )
        report = verify(first_optimizer=first, second_optimizer=second)
        assert findings(report) == {("note", "loss scale")}
        assert report.ok, str(report)
        moved = {row.name for row in report.updates}
        assert any("velocity" in name for name in moved)

    def test_parts_of_different_age(self) -> None:
        arguments = models.optimizers()
        arguments["first_optimizer"].iterations.assign(40)
        report = verify(**arguments)
        assert "40 steps" in finding(report, "warning", "parts of different age").message


class TestNumbers:
    def test_nan(self) -> None:
        second = models.second_part()
        second.layers[-1].kernel.assign(np.full((7, 4), np.nan))
        report = verify(second_part=second, first_part=models.first_part())
        where = {f.where for f in report.findings if f.pitfall == "NaN or Inf"}
        assert {"top/kernel", "logits/kernel"} <= where
        assert not report.ok

    def test_infinite(self) -> None:
        second = models.second_part()
        report = verify(
            second_part=lambda x: second(x) / tf.zeros([]),
            first_part=models.first_part(),
            second_vars=second.trainable_variables,
        )
        assert ("error", "NaN or Inf") in findings(report)

    def test_zero(self) -> None:
        second = models.second_part()
        second.get_layer("low").bias.assign(np.full(7, -1e3))  # All units are dead.
        report = verify(second_part=second, first_part=models.first_part())
        where = {f.where for f in report.findings if f.pitfall == "zero gradient"}
        assert where == {"low/kernel", "low/bias", "top/kernel"}
        assert report.ok

    def test_a_loss_that_is_a_vector(self) -> None:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
        report = verify(loss=loss)
        assert findings(report) == {("warning", "mean against sum")}
        assert report.ok, str(report)

    def test_a_loss_that_is_a_sum(self) -> None:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
        assert findings(verify(loss=loss)) == {("note", "mean against sum")}
