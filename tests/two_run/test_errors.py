"""What is wrong with a cut is said when the graph is built."""

from __future__ import annotations

from typing import Any

import keras
import pytest
import tensorflow as tf

import splitop
from tests.two_run.models import Model, dense

tf1 = tf.compat.v1


@pytest.fixture
def model() -> Any:
    with tf.Graph().as_default():
        yield Model()


def split(loss: Any, iv: Any, **options: Any) -> splitop.SplitOps:
    optimizers = {
        "first_optimizer": tf1.train.AdamOptimizer(),
        "second_optimizer": tf1.train.AdamOptimizer(),
    }
    return splitop.split_minimize(loss, iv, **{**optimizers, **options})


def variable(name: str) -> Any:
    (found,) = (v for v in tf1.trainable_variables() if v.name == f"{name}:0")
    return found


class TestTheCall:
    def test_eager(self) -> None:
        with pytest.raises(splitop.SplitError, match=r"splitop\.split_minimize.*eager call"):
            split(tf.ones([]), tf.ones([2]))

    def test_in_a_tf_function(self) -> None:
        @tf.function
        def step(x: Any) -> None:
            split(tf.reduce_sum(x), x)

        with pytest.raises(splitop.SplitError, match=r"call splitop\.minimize for each part"):
            step(tf.ones([2]))

    def test_unknown_forward(self, model: Model) -> None:
        message = r'one of "recompute", "stash"\. Received: \'twice\''
        with pytest.raises(splitop.SplitError, match=message):
            split(model.loss, model.iv, forward="twice")

    @pytest.mark.parametrize("make", [tf1.train.AdamOptimizer, keras.optimizers.Adam])
    def test_one_optimizer_for_both(self, model: Model, make: Any) -> None:
        # Pitfall 20.
        optimizer = make()
        with pytest.raises(splitop.SplitError, match=r"two objects.*a second one.*Adam.*for both"):
            split(model.loss, model.iv, first_optimizer=optimizer, second_optimizer=optimizer)

    def test_fused_or_nothing(self, model: Model) -> None:
        with pytest.raises(splitop.NotFusableError, match="ProximalAdagrad"):
            split(
                model.loss,
                model.iv,
                second_optimizer=tf1.train.ProximalAdagradOptimizer(0.1),
                backend="fused",
            )


class TestTheLoss:
    def test_not_a_tensor(self, model: Model) -> None:
        with pytest.raises(splitop.SplitError, match=r"loss must be a tensor.*Received: 0\.5"):
            split(0.5, model.iv)

    def test_an_integer(self, model: Model) -> None:
        with pytest.raises(splitop.SplitError, match=r'"count:0".*floating.*Received: int32'):
            split(tf.cast(model.loss, tf.int32, name="count"), model.iv)

    def test_on_a_placeholder(self, model: Model) -> None:
        # Pitfall 1.
        with tf1.variable_scope("first_part", reuse=tf1.AUTO_REUSE):
            iv_ph = tf1.placeholder(tf.float32, [None, 4])
            loss = tf.reduce_mean(dense(iv_ph, 6, "hidden"), name="loss_2")
        message = r'/loss_2:0" is not computed from iv ".*Tanh:0"; if it was built on a placeh'
        with pytest.raises(splitop.CutError, match=message):
            split(loss, model.iv, first_vars=[variable("first_part/hidden/k")])

    def test_behind_an_op_that_blocks(self, model: Model) -> None:
        kernel = tf1.get_variable("first_part/kernel", [4, 1])
        loss = tf.reduce_sum(tf.matmul(tf.stop_gradient(model.iv), kernel), name="loss_2")
        message = r'no gradient flows from the loss "loss_2:0" to iv'
        with pytest.raises(splitop.CutError, match=message):
            split(loss, model.iv, first_vars=[kernel])

    def test_a_vector_of_losses_is_summed(self, model: Model) -> None:
        split(tf.stack([model.loss, model.loss]), model.iv)


class TestTheCut:
    """Pitfall 8: the cut does not separate."""

    def test_a_skip_connection(self, model: Model) -> None:
        below = model.iv.graph.get_tensor_by_name("second_part/low/Relu:0")
        loss = tf.add(model.loss, tf.reduce_sum(below), name="with_skip")
        message = (
            r'does not separate.*"second_part/low/[kb]:0".*"with_skip:0" around it.*'
            r"Received: second_part/low/.*second_part/low/Relu -> Sum -> with_skip\."
        )
        with pytest.raises(splitop.CutError, match=message):
            split(loss, model.iv)

    def test_the_skip_connection_in_iv(self, model: Model) -> None:
        below = model.iv.graph.get_tensor_by_name("second_part/low/Relu:0")
        loss = model.loss + tf.reduce_sum(below)
        message = r'iv "second_part/top/Tanh:0" is computed from iv "second_part/low/Relu:0"'
        with pytest.raises(splitop.CutError, match=message):
            split(loss, [model.iv, below])

    def test_a_variable_read_on_both_sides(self, model: Model) -> None:
        loss = model.loss + tf.reduce_sum(tf.square(variable("second_part/top/k")))
        with pytest.raises(splitop.CutError, match=r'"second_part/top/k:0" of the second part'):
            split(loss, model.iv)

    def test_a_variable_of_the_first_part_below(self, model: Model) -> None:
        shared = variable("second_part/low/k")
        first = [*tf1.trainable_variables("first_part/"), shared]
        second = [v for v in tf1.trainable_variables("second_part/") if v is not shared]
        message = r'"second_part/low/k:0" of the first part also helps to compute iv.*Received: '
        with pytest.raises(splitop.CutError, match=message):
            split(model.loss, model.iv, first_vars=first, second_vars=second)

    def test_data_may_go_around(self, model: Model) -> None:
        split(model.loss * (1.0 + tf.reduce_mean(model.x)), model.iv)

    def test_what_passes_no_gradient_may_go_around(self, model: Model) -> None:
        kernel = tf.stop_gradient(variable("second_part/low/k"))
        rows = tf.shape(model.iv.graph.get_tensor_by_name("second_part/low/Relu:0"))[0]
        split(model.loss * tf.reduce_sum(kernel) / tf.cast(rows, tf.float32), model.iv)

    def test_a_placeholder_as_iv(self, model: Model) -> None:
        with pytest.raises(splitop.CutError, match=r'"x:0" is a placeholder'):
            split(model.loss, model.x)


class TestTheVariables:
    def test_no_such_scope(self, model: Model) -> None:
        message = r'"head".*first_scope or first_vars.*variables under first_part, second_part'
        with pytest.raises(splitop.VariableListError, match=message):
            split(model.loss, model.iv, first_scope="head")

    def test_no_variables_at_all(self) -> None:
        with tf.Graph().as_default():
            x = tf.sin(tf1.placeholder(tf.float32, [None, 2]))
            with pytest.raises(splitop.VariableListError, match="variables under no scope"):
                split(tf.reduce_sum(x), x)

    def test_a_scope_is_a_whole_name(self, model: Model) -> None:
        with pytest.raises(splitop.VariableListError, match='the scope "second"'):
            split(model.loss, model.iv, second_scope="second")

    def test_scopes_of_the_users(self, model: Model) -> None:
        ops = split(model.loss, model.iv, first_scope="first_part/logits")
        assert ops.first_plan.fused == ("first_part/logits/k:0", "first_part/logits/b:0")

    def test_in_both_lists(self, model: Model) -> None:
        first = [*tf1.trainable_variables("first_part/"), variable("second_part/low/k")]
        with pytest.raises(splitop.VariableListError, match="Received: second_part/low/k:0 in bo"):
            split(model.loss, model.iv, first_vars=first)

    def test_of_the_first_part_in_the_second(self, model: Model) -> None:
        kernel = variable("first_part/logits/k")
        first = [v for v in tf1.trainable_variables("first_part/") if v is not kernel]
        second = [*tf1.trainable_variables("second_part/"), kernel]
        with pytest.raises(splitop.SplitError, match=r'"first_part/logits/k:0"'):
            split(model.loss, model.iv, first_vars=first, second_vars=second)

    def test_that_the_loss_does_not_reach(self, model: Model) -> None:
        first = [*tf1.trainable_variables("first_part/"), tf1.get_variable("unused", [2])]
        message = r'"unused:0" is not reached from the loss "loss:0"'
        with pytest.raises(splitop.VariableListError, match=message):
            split(model.loss, model.iv, first_vars=first)
