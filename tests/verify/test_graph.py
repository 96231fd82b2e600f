"""Models in a TF1 graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from tests.two_run.models import Model, dense, feeds
from tests.verify.models import finding, findings

tf1 = tf.compat.v1


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    with tf.Graph().as_default() as graph:
        yield graph


def verify(model: Model, **options: Any) -> splitop.VerifyReport:
    second, first = feeds(model, 0)
    arguments: dict[str, Any] = {
        "loss": model.loss,
        "iv": model.iv,
        "first_vars": tf1.trainable_variables("first_part"),
        "second_vars": tf1.trainable_variables("second_part"),
        "feed_dict": {**second, **first},
        "first_optimizer": tf1.train.MomentumOptimizer(0.1, 0.9),
        "second_optimizer": tf1.train.AdamOptimizer(0.05),
        "steps": 2,
    }
    return splitop.verify(**{**arguments, **options})


def operations() -> list[str]:
    return [op.name for op in tf1.get_default_graph().get_operations()]


class TestGoodModels:
    @pytest.mark.parametrize(
        "options", [{}, {"two_ivs": True, "conv": True}], ids=["dense", "conv"]
    )
    def test_from_initializers(self, options: dict[str, bool]) -> None:
        model = Model(**options)
        before = operations()
        report = verify(model)
        assert report.ok, str(report)
        assert not report.findings
        assert operations() == before
        assert len(report.fused) == len(tf1.trainable_variables())

    @pytest.mark.parametrize("flavour", ["tf1", "keras"])
    def test_in_the_middle_of_training(self, flavour: str) -> None:
        model = Model()
        if flavour == "tf1":
            step = tf1.train.get_or_create_global_step()
            rate = tf1.train.exponential_decay(0.1, step, 2, 0.5)
            pair: list[Any] = [tf1.train.AdamOptimizer(rate), tf1.train.RMSPropOptimizer(0.01)]
        else:
            step = None
            pair = [keras.optimizers.SGD(0.1, momentum=0.9), keras.optimizers.Adam(0.05)]
        optimizers = dict(zip(("first_optimizer", "second_optimizer"), pair, strict=True))
        ops = splitop.split_minimize(model.loss, model.iv, **optimizers, global_step=step)
        variables = tf1.global_variables()
        with tf1.Session() as session:
            session.run(tf1.global_variables_initializer())
            for number in range(3):
                second, first = feeds(model, number)
                session.run(ops.train_both, {**second, **first})
            before, known = session.run(variables), operations()
            report = verify(model, session=session, **optimizers)
            assert report.ok, str(report)
            assert operations() == known
            for variable, old in zip(variables, before, strict=True):
                np.testing.assert_array_equal(session.run(variable), old, err_msg=variable.name)
            # It has started from these values: with another start the bits would be others.
            again = verify(model, session=session, **optimizers)
            assert again.to_dict() == report.to_dict()
            session.run(variables[0].initializer)
            other = verify(model, session=session, **optimizers)
            assert other.to_dict() != report.to_dict()

    def test_dropout_without_a_seed(self) -> None:
        model = Model(last=lambda z: tf.nn.dropout(z, 0.4))
        report = verify(model)
        assert report.ok, str(report)
        assert findings(report) == {("warning", "random operations")}

    def test_reference_variables(self) -> None:
        # Models of TF1's own time have these.
        resource = tf1.resource_variables_enabled()
        tf1.disable_resource_variables()
        try:
            model = Model()
        finally:
            if resource:
                tf1.enable_resource_variables()
        report = verify(model)
        # TF1 does not order their updates after all gradients, so that these may differ.
        assert not report.errors
        assert all(row.ok for row in report.gradients)
        assert "reference variable" in next(iter(report.declined.values()))

    def test_a_finalized_graph(self, graph: Any) -> None:
        model = Model()
        optimizer = {"first_optimizer": tf1.train.AdamOptimizer(0.1)}
        graph.finalize()
        assert verify(model, **optimizer).ok


class TestPitfalls:
    def test_a_skip_connection(self) -> None:
        model = Model()
        low = tf1.get_default_graph().get_tensor_by_name("second_part/low/Relu:0")
        model.loss = tf.add(model.loss, tf.reduce_mean(low), name="with_skip")
        report = verify(model)
        where = {f.where for f in report.findings if f.pitfall == "path round the cut"}
        assert where == {"second_part/low/k:0", "second_part/low/b:0"}
        assert {row.name for row in report.failures} >= where

    def test_a_loss_on_a_placeholder(self) -> None:
        model = Model()
        model.iv_ph = tf1.placeholder(tf.float32, [None, 4])
        with tf1.variable_scope("first_part", reuse=tf1.AUTO_REUSE):
            loss = tf.reduce_mean(dense(model.iv_ph, 6, "hidden"))
        report = verify(
            model, loss=loss, feed_dict={model.x: np.ones((6, 5)), model.iv_ph: np.ones((6, 4))}
        )
        assert "built on a placeholder" in finding(report, "error", "cut").message

    def test_iv_is_fed(self) -> None:
        model = Model()
        second, first = feeds(model, 0)
        report = verify(model, feed_dict={**second, **first, model.iv: np.ones((6, 4))})
        assert finding(report, "error", "iv is fed").where == model.iv.name

    def test_an_iterator(self) -> None:
        tf1.set_random_seed(0)  # the loss may be next to 0 otherwise, and its rounding errors large
        data = np.ones((6, 5), np.float32)
        iterator = tf1.data.make_initializable_iterator(tf.data.Dataset.from_tensors(data).repeat())
        model = Model()
        batch = iterator.get_next()
        with tf1.variable_scope("second_part"):
            model.iv = dense(batch, 4, "new", tf.nn.tanh)
        with tf1.variable_scope("first_part"):
            model.loss = tf.reduce_mean(dense(model.iv, 3, "new"))
        variables = {
            f"{part}_vars": tf1.trainable_variables(f"{part}_part/new")
            for part in ("first", "second")
        }
        report = verify(model, **variables, feed_dict={})
        assert "feed_dict" in finding(report, "error", "iterator in the graph").advice
        assert verify(model, **variables, feed_dict={batch: data}).ok

    def test_collected_losses_that_nothing_adds(self) -> None:
        model = Model()
        with tf1.variable_scope("second_part", reuse=True):
            kernel = tf1.get_variable("low/k")
        tf1.add_to_collection(tf1.GraphKeys.REGULARIZATION_LOSSES, tf.nn.l2_loss(kernel, name="l2"))
        report = verify(model)
        assert finding(report, "warning", "lost regularisation").where == "l2:0"
        # Added to the loss, it goes round the cut.
        model.loss += tf1.losses.get_regularization_loss()
        assert ("error", "path round the cut") in findings(verify(model))

    def test_update_ops(self) -> None:
        model = Model()
        mean = tf1.get_variable("mean", [5], trainable=False)
        update = mean.assign(tf.reduce_mean(model.x, 0), name="moving")
        tf1.add_to_collection(tf1.GraphKeys.UPDATE_OPS, update)
        assert "moving" in finding(verify(model), "warning", "moving statistics").where

    def test_keras_accumulation_which_never_updates(self) -> None:
        optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
        report = verify(Model(), first_optimizer=optimizer, second_optimizer=keras.optimizers.SGD())
        assert "never updates" in finding(report, "error", "training step").message


class TestErrors:
    def test_a_placeholder_that_is_not_fed(self) -> None:
        model = Model()
        with pytest.raises(splitop.SplitError, match=r"feed_dict.*Received: none for labels\."):
            verify(model, feed_dict={model.x: np.ones((6, 5))})

    def test_an_uninitialized_variable(self) -> None:
        model = Model()
        with (
            tf1.Session() as session,
            pytest.raises(splitop.SplitError, match=r'"second_part/low/k:0" must have a value'),
        ):
            verify(model, session=session)

    def test_without_lists_of_variables(self) -> None:
        with pytest.raises(splitop.VariableListError, match="first_vars and second_vars"):
            verify(Model(), first_vars=None)

    def test_an_iv_of_another_graph(self) -> None:
        model = Model()
        with tf.Graph().as_default():
            other = Model()
        with pytest.raises(splitop.SplitError, match="tensor of the loss's graph"):
            verify(model, iv=other.iv)

    def test_a_key_that_is_no_tensor(self) -> None:
        with pytest.raises(splitop.SplitError, match="keys of feed_dict"):
            verify(Model(), feed_dict={"nothing": 1})

    def test_a_loss_that_is_no_tensor(self) -> None:
        with pytest.raises(splitop.SplitError, match=r"loss must be a tensor of a tf\.Graph"):
            verify(Model(), loss="mse")
