"""Everything that can be seen when the graph is built gets a named error."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop

tf1 = tf.compat.v1


@pytest.fixture
def model(graph: Any) -> SimpleNamespace:
    """x -> iv (the second part) -> loss (the first part), float32, batch unknown."""
    x = tf1.placeholder(tf.float32, [None, 3], "x")
    second = [tf1.get_variable("second/k", [3, 2]), tf1.get_variable("second/b", [2])]
    iv = tf.nn.relu(tf.matmul(x, second[0]) + second[1], name="iv")
    first = [tf1.get_variable("first/k", [2, 1])]
    loss = tf.reduce_mean(tf.matmul(iv, first[0]), name="loss")
    return SimpleNamespace(x=x, iv=iv, second=second, first=first, loss=loss)


def minimize(iv: Any, var_list: Any, *seed: Any) -> None:
    splitop.minimize(tf1.train.GradientDescentOptimizer(0.1), iv, var_list, *seed)


def placeholder(*shape: int | None, dtype: Any = tf.float32, name: str = "seed") -> Any:
    return tf1.placeholder(dtype, shape, name)


class TestTheCall:
    def test_eager(self) -> None:
        variable = tf.Variable(tf.ones([3, 2]))
        iv = tf.matmul(tf.ones([4, 3]), variable)
        with pytest.raises(splitop.SplitError, match=r"tf.function.*Received: an eager call"):
            minimize(iv, [variable])

    def test_plan_says_its_own_name(self) -> None:
        with pytest.raises(splitop.SplitError, match=r"splitop\.plan builds graph operations"):
            splitop.plan(keras.optimizers.SGD(), tf.ones([1]), [])

    def test_no_optimizer(self, model: SimpleNamespace) -> None:
        with pytest.raises(splitop.SplitError, match=r"optimizer must be.*Received: 'adam'"):
            splitop.minimize("adam", model.iv, model.second)

    def test_the_loss_in_place_of_the_vector(self, model: SimpleNamespace) -> None:
        # Pitfall 1: tf.gradients(loss, second_vars, seed).
        with pytest.raises(splitop.SeedError, match=r"shape.*\(\).*not the loss.*\(None, 2\)"):
            minimize(model.loss, model.second, placeholder(None, 2))

    def test_a_loss_on_a_placeholder_for_the_vector(self, model: SimpleNamespace) -> None:
        iv_ph = placeholder(None, 2, name="iv_ph")
        loss = tf.reduce_mean(tf.matmul(iv_ph, model.first[0]), name="loss_2")
        message = r'"second/k:0" is not reached.*"loss_2:0".*"iv_ph:0".*never the loss'
        with pytest.raises(splitop.VariableListError, match=message):
            minimize(loss, model.second)

    def test_a_placeholder_as_the_vector(self, model: SimpleNamespace) -> None:
        with pytest.raises(splitop.CutError, match=r'"iv_ph:0" is a placeholder.*Received: "iv_ph'):
            minimize(placeholder(None, 2, name="iv_ph"), model.second)

    def test_extend_returns_none(self, model: SimpleNamespace) -> None:
        # Pitfall 2: var_list=[first_vars.extend([iv])].
        with pytest.raises(splitop.VariableListError, match=r"position 0.*extend return None"):
            minimize(model.loss, [model.first.extend([model.iv])])

    def test_the_vector_among_the_variables(self, model: SimpleNamespace) -> None:
        with pytest.raises(
            splitop.VariableListError, match=r"position 1 is a tensor.*iv_gradients"
        ):
            minimize(model.loss, [*model.first, model.iv])


class TestTheSeed:
    @pytest.mark.parametrize("shape", [(None, 1), (5,), (2, 3, 2), ()])
    def test_wrong_shape(self, model: SimpleNamespace, shape: tuple[int | None, ...]) -> None:
        # Pitfall 4.
        with pytest.raises(splitop.SeedError, match=r'"seed:0" must have the shape.*"iv:0"'):
            minimize(model.iv, model.second, placeholder(*shape))

    @pytest.mark.parametrize("dtype", [tf.float64, tf.int32, tf.float16])
    def test_wrong_dtype(self, model: SimpleNamespace, dtype: tf.DType) -> None:
        # Pitfall 5.
        message = rf'"seed:0".*"iv:0", float32\. Received: {dtype.name}'
        with pytest.raises(splitop.SeedError, match=message):
            minimize(model.iv, model.second, placeholder(None, 2, dtype=dtype))

    def test_a_float64_array(self, model: SimpleNamespace) -> None:
        with pytest.raises(splitop.SeedError, match=r'"ndarray".*Received: float64'):
            minimize(model.iv, model.second, np.ones([5, 2]))

    def test_numbers_take_the_dtype_of_the_vector(self, model: SimpleNamespace) -> None:
        minimize(model.iv, model.second, [[1, 2.5]])
        minimize(model.iv, model.second, np.ones([5, 2], np.float32))

    def test_no_tensor(self, model: SimpleNamespace) -> None:
        with pytest.raises(splitop.SeedError, match=r"dense tensor of float32.*Received: 'ones'"):
            minimize(model.iv, model.second, "ones")

    def test_empty(self, model: SimpleNamespace) -> None:
        with pytest.raises(splitop.SeedError, match=r'"seed:0".*empty.*Received: \(0, 2\)'):
            minimize(model.iv, model.second, placeholder(0, 2))

    def test_of_another_graph(self, model: SimpleNamespace) -> None:
        with tf.Graph().as_default():
            seed = placeholder(None, 2)
        with pytest.raises(splitop.SeedError, match=r'"seed:0".*Received: a tensor of another'):
            minimize(model.iv, model.second, seed)

    def test_one_for_two_vectors(self, model: SimpleNamespace) -> None:
        # Pitfall 7.
        with pytest.raises(splitop.SeedError, match=r"structure of iv.*Received: seed:0"):
            minimize([model.iv, model.iv + 1], model.second, placeholder(None, 2))

    def test_in_a_list_for_a_single_vector(self, model: SimpleNamespace) -> None:
        with pytest.raises(splitop.SeedError, match=r"Expected: iv:0\. Received: \['seed:0'\]"):
            minimize(model.iv, model.second, [placeholder(None, 2)])

    def test_none_that_may_be_no_wish_for_ones(self, model: SimpleNamespace) -> None:
        with pytest.warns(UserWarning, match=r'loss does not depend on iv.*for "iv:0"') as caught:
            minimize(model.iv, model.second, None)
        assert [warning.filename for warning in caught] == [__file__]

    def test_ones(self, model: SimpleNamespace) -> None:
        splitop.minimize(keras.optimizers.SGD(0.1), model.iv, model.second)
        splitop.minimize(keras.optimizers.SGD(0.1), tf.reduce_sum(model.iv), model.second, None)

    def test_slices_in_a_list_for_a_single_vector(self, model: SimpleNamespace) -> None:
        slices = tf.IndexedSlices(placeholder(None, 2), tf.compat.v1.placeholder(tf.int32, [None]))
        with pytest.raises(splitop.SeedError, match=r"tf.gradients returns a list.*Expected: iv:0"):
            minimize(model.iv, model.second, [slices])

    def test_three_for_two_vectors(self, model: SimpleNamespace) -> None:
        with pytest.raises(splitop.SeedError, match="structure of iv: one seed for each"):
            minimize([model.iv, model.iv + 1], model.second, [placeholder(None, 2)] * 3)

    def test_keys_that_differ(self, model: SimpleNamespace) -> None:
        with pytest.raises(splitop.SeedError, match=r"Expected: \{'a'.*Received: \{'b'"):
            minimize({"a": model.iv}, model.second, {"b": placeholder(None, 2)})

    def test_swapped(self, model: SimpleNamespace) -> None:
        ivs = [model.iv, tf.concat([model.iv, model.iv], 1)]
        with pytest.raises(splitop.SeedError, match=r'"wide:0".*"iv:0", \(None, 2\)'):
            minimize(ivs, model.second, [placeholder(None, 4, name="wide"), placeholder(None, 2)])

    def test_one_of_two_is_none(self, model: SimpleNamespace) -> None:
        with pytest.raises(splitop.SeedError, match=r'the seed of "iv:0" is missing.*zeros_like'):
            minimize([model.iv, model.iv + 1], model.second, [None, placeholder(None, 2)])


class TestTheCut:
    @pytest.mark.parametrize("dtype", [tf.int32, tf.bool])
    def test_not_a_float(self, model: SimpleNamespace, dtype: tf.DType) -> None:
        # Pitfall 10.
        iv = tf.cast(model.iv, dtype, name="codes")
        with pytest.raises(splitop.CutError, match=rf'"codes:0".*Received: {dtype.name}'):
            minimize(iv, model.second)

    @pytest.mark.parametrize(
        ("block", "words"),
        [
            (tf.stop_gradient, 'StopGradient "block"'),
            (lambda t, name: tf.one_hot(tf.argmax(t, 1), 2, name=name), 'ArgMax "ArgMax"'),
            (lambda t, name: tf.cast(tf.cast(t, tf.int32), tf.float32, name), 'Cast "Cast"'),
            (tf.round, 'Round "block"'),
        ],
    )
    def test_an_op_that_blocks(self, model: SimpleNamespace, block: Any, words: str) -> None:
        iv = tf.identity(block(model.iv, name="block"), "blocked")
        with pytest.raises(splitop.VariableListError, match=f'"second/k:0".*"blocked:0": {words}'):
            minimize(iv, model.second)

    def test_an_op_without_a_gradient(self, model: SimpleNamespace) -> None:
        iv = tf.raw_ops.AdjustHue(images=tf.reshape(model.iv, [-1, 1, 1, 3]), delta=0.1)
        with pytest.raises(splitop.CutError, match=r"no gradient flows back.*AdjustHue"):
            minimize(iv, model.second)

    def test_nothing(self, model: SimpleNamespace) -> None:
        with pytest.raises(splitop.CutError, match="Received: none"):
            minimize([], model.second)

    def test_no_tensor(self, model: SimpleNamespace) -> None:
        with pytest.raises(splitop.CutError, match=r"iv must be a tensor.*Received: 3 \(int\)"):
            minimize(3, model.second)

    def test_a_keras_tensor(self, model: SimpleNamespace) -> None:
        with pytest.raises(splitop.CutError, match=r"of the graph that is being built"):
            minimize(keras.Input([2]), model.second)

    def test_of_another_graph(self, model: SimpleNamespace) -> None:
        with tf.Graph().as_default(), pytest.raises(splitop.CutError, match=r'"iv:0".*another'):
            minimize(model.iv, model.second)

    def test_of_an_outer_function(self) -> None:
        kernel = tf.Variable(tf.ones([3, 2]))

        @tf.function
        def outer(x: Any) -> None:
            iv = tf.matmul(x, kernel)
            tf.function(lambda: minimize(iv, [kernel]))()

        with pytest.raises(splitop.CutError, match=r"inside the same tf.function"):
            outer(tf.ones([4, 3]))

    def test_empty(self, model: SimpleNamespace) -> None:
        with pytest.raises(splitop.CutError, match=r"is empty.*Received: \(0, 2\)"):
            minimize(tf.matmul(tf.zeros([0, 3]), model.second[0]), model.second[:1])


class TestTheVariables:
    @pytest.mark.parametrize("empty", [[], (), iter([])])
    def test_none_at_all(self, model: SimpleNamespace, empty: Any) -> None:
        # Pitfall 9.
        with pytest.raises(splitop.VariableListError, match=r"until it is built.*empty list"):
            minimize(model.iv, empty)

    def test_a_single_one(self, model: SimpleNamespace) -> None:
        with pytest.raises(splitop.VariableListError, match=r"must be a list.*second/k"):
            minimize(model.iv, model.second[0])

    def test_twice(self, model: SimpleNamespace) -> None:
        message = r'Received: "second/k:0 \(#1\)" at positions 0 and 2'
        with pytest.raises(splitop.VariableListError, match=message.replace(r" \(#1\)", ".*")):
            minimize(model.iv, [*model.second, model.second[0]])

    def test_not_trainable(self, model: SimpleNamespace) -> None:
        frozen = tf1.get_variable("frozen", [2], trainable=False)
        with pytest.raises(splitop.VariableListError, match=r'"frozen:0" at position 2.*not train'):
            minimize(model.iv + frozen, [*model.second, frozen])

    def test_of_the_other_part(self, model: SimpleNamespace) -> None:
        message = r'"first/k:0" is not reached from iv "iv:0".*belongs to the first part'
        with pytest.raises(splitop.VariableListError, match=message):
            minimize(model.iv, [*model.second, *model.first])

    def test_unused(self, model: SimpleNamespace) -> None:
        unused = tf1.get_variable("unused", [2])
        message = r'"unused:0" is not reached.*no part in computing it.*no connection'
        with pytest.raises(splitop.VariableListError, match=message):
            minimize(model.iv, [*model.second, unused])

    def test_of_another_graph(self, model: SimpleNamespace) -> None:
        with tf.Graph().as_default():
            other = tf1.get_variable("other", [2])
        with pytest.raises(splitop.VariableListError, match=r'"other:0".*belong to the graph'):
            minimize(model.iv, [other])

    def test_a_name(self, model: SimpleNamespace) -> None:
        with pytest.raises(splitop.VariableListError, match=r"position 0 is no variable.*second/k"):
            minimize(model.iv, ["second/k"])

    def test_partitioned(self, model: SimpleNamespace) -> None:
        parts = tf1.get_variable("parts", [4, 2], partitioner=tf1.fixed_size_partitioner(2))
        with pytest.raises(splitop.VariableListError, match=r"partitioned.*Received"):
            minimize(model.iv, [parts])

    def test_keras_before_it_is_built(self, model: SimpleNamespace) -> None:
        with keras.StatelessScope():
            variable = keras.Variable(initializer="zeros", shape=(3, 2))
            with pytest.raises(splitop.VariableListError, match=r"until it is built"):
                minimize(model.iv, [variable])


class TestThePlan:
    def test_applies_once(self, model: SimpleNamespace) -> None:
        plan = splitop.plan(tf1.train.GradientDescentOptimizer(0.1), model.iv, model.second)
        plan.apply()
        with pytest.raises(splitop.SplitError, match=r"called once.*Received: a plan"):
            plan.apply()

    def test_applies_in_its_graph(self, model: SimpleNamespace) -> None:
        plan = splitop.plan(tf1.train.GradientDescentOptimizer(0.1), model.iv, model.second)
        with tf.Graph().as_default(), pytest.raises(splitop.SplitError, match="another graph"):
            plan.apply()

    def test_is_a_table(self, model: SimpleNamespace) -> None:
        gain = tf1.get_variable("gain", [])
        positive = tf1.get_variable("positive", [], constraint=tf.abs)
        plan = splitop.plan(
            tf1.train.GradientDescentOptimizer(0.1),
            model.iv * gain * positive,
            [*model.second, gain, positive],
        )
        assert str(plan).split("\n") == [
            "variable    shape   path          how, or why not",
            "─" * 124,
            "second/k:0  3×2     fused         chain 1, layer 1 of 1, relu",
            "second/b:0  2       fused         chain 1, layer 1 of 1, bias",
            "gain:0      scalar  fused update  its gradient is computed by Sum; "
            "the fused op takes the kernels and biases of dense layers",
            "positive:0  scalar  reference     has a constraint",
            "3 of 4 variables are fused",
        ]

    def test_numbers_equal_names(self) -> None:
        kernels = [tf.Variable(tf.ones([3, 3])) for _ in range(2)]
        optimizer = keras.optimizers.SGD()
        plans = []

        @tf.function
        def step(x: Any) -> None:
            iv = tf.matmul(tf.matmul(x, kernels[0]), kernels[1])
            plans.append(splitop.plan(optimizer, iv, kernels))

        step(tf.ones([4, 3]))
        assert plans[0].fused == ("Variable:0 (#1)", "Variable:0 (#2)")
