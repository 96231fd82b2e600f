"""Which path is taken, and what is said when it is not the fused one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop._src import backend, library

tf1 = tf.compat.v1


def plan(optimizer: Any = None, **options: Any) -> splitop.Plan:
    """A plan for one dense layer and a gain that can't be fused."""
    x = tf1.placeholder(tf.float32, [None, 3])
    variables = [
        tf1.get_variable("k", [3, 2]),
        tf1.get_variable("gain", [], constraint=tf.abs),
    ]
    iv = tf.matmul(x, variables[0]) * variables[1]
    return splitop.plan(
        optimizer or tf1.train.GradientDescentOptimizer(0.1), iv, variables, **options
    )


def layer_plan(make: Callable[..., Any], dtype: Any = tf.float32) -> splitop.Plan:
    """A plan for one dense layer whose kernel is made in a special way."""
    kernel = make()
    iv = tf.matmul(tf1.placeholder(dtype, [None, 3]), kernel)
    return splitop.plan(tf1.train.GradientDescentOptimizer(0.1), iv, [kernel])


class TestPrecedence:
    def test_auto(self) -> None:
        assert backend.resolve(None) == "auto"

    def test_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SPLITOP_BACKEND", "reference")
        assert backend.resolve(None) == "reference"

    def test_an_empty_environment_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SPLITOP_BACKEND", "")
        assert backend.resolve(None) == "auto"

    def test_the_context_beats_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SPLITOP_BACKEND", "reference")
        with splitop.backend("fused"):
            assert backend.resolve(None) == "fused"
            with splitop.backend("auto"):
                assert backend.resolve(None) == "auto"
            assert backend.resolve(None) == "fused"
        assert backend.resolve(None) == "reference"

    def test_in_the_scope_of_a_strategy(self) -> None:
        with tf.distribute.MirroredStrategy(["CPU:0"]).scope(), splitop.backend("fused"):
            assert backend.resolve(None) == "fused"

    def test_the_argument_beats_the_context(self) -> None:
        with splitop.backend("fused"):
            assert backend.resolve("reference") == "reference"

    def test_the_context_ends_with_an_error(self) -> None:
        with pytest.raises(KeyError), splitop.backend("fused"):
            raise KeyError
        assert backend.resolve(None) == "auto"

    @pytest.mark.parametrize("name", ["gpu", "", "FUSED"])
    def test_unknown(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        message = rf'one of "auto", "fused", "reference"\. Received: \'{name}\''
        with pytest.raises(splitop.SplitError, match=f"backend must be {message}"):
            backend.resolve(name)
        with pytest.raises(splitop.SplitError, match=message), splitop.backend(name):
            pass
        if name:
            monkeypatch.setenv("SPLITOP_BACKEND", name)
            with pytest.raises(splitop.SplitError, match=f"SPLITOP_BACKEND must be {message}"):
                backend.resolve(None)

    def test_inside_a_tf_function(self) -> None:
        kernel, optimizer, plans = tf.Variable(tf.ones([3, 2])), keras.optimizers.SGD(), []

        @tf.function
        def step(x: Any) -> None:
            with splitop.backend("reference"):
                plans.append(splitop.plan(optimizer, tf.matmul(x, kernel), [kernel]))
            plans.append(splitop.plan(optimizer, tf.matmul(x, kernel), [kernel]))

        step(tf.ones([4, 3]))
        assert [made.fused for made in plans] == [(), ("Variable:0",)]


@pytest.mark.usefixtures("graph")
class TestBackends:
    def test_reference_fuses_nothing(self) -> None:
        made = plan(backend="reference")
        assert made.fused == ()
        assert made.chains == ()
        assert made.declined == dict.fromkeys(["k:0", "gain:0"], 'backend="reference"')

    def test_fused_raises_with_all_reasons(self) -> None:
        message = r'(?s)"gain:0": has a constraint.*Received: 1 of 2 variables'
        with pytest.raises(splitop.NotFusableError, match=message) as raised:
            plan(backend="fused")
        assert '"k:0"' not in str(raised.value)

    def test_fused_is_content_if_all_is_fused(self) -> None:
        with splitop.backend("fused"):
            assert layer_plan(lambda: tf1.get_variable("k", [3, 2])).fused == ("k:0",)

    def test_the_environment_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SPLITOP_BACKEND", "fused")
        with pytest.raises(splitop.NotFusableError):
            plan()


class TestTheLibraryIsMissing:
    @pytest.fixture(autouse=True)
    def _missing(self, monkeypatch: pytest.MonkeyPatch, graph: Any) -> None:
        monkeypatch.setattr(library, "reason", lambda: "The library is gone.")
        library._warn.cache_clear()

    def test_the_reference_path_runs_and_one_warning_says_why(self) -> None:
        with pytest.warns(RuntimeWarning, match=r"reference path.*The library is gone"):
            made = plan()
        assert made.declined == dict.fromkeys(["k:0", "gain:0"], "The library is gone.")
        made.apply()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tf1.get_variable_scope().reuse_variables()
            plan()

    def test_fused_raises(self) -> None:
        with pytest.warns(RuntimeWarning), pytest.raises(splitop.NotFusableError, match="is gone"):
            plan(backend="fused")

    def test_reference_does_not_warn(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            plan(backend="reference")


@pytest.mark.usefixtures("graph")
class TestOptimizers:
    @pytest.mark.parametrize(
        "make", [tf1.train.ProximalAdagradOptimizer, tf1.train.ProximalGradientDescentOptimizer]
    )
    def test_without_a_rule(self, make: Any) -> None:
        made = plan(make(0.1))
        assert made.fused == ()
        assert all("has no fused rule" in why for why in made.declined.values())
        made.apply()

    def test_a_variable_it_can_not_update(self) -> None:
        made = layer_plan(lambda: tf1.get_variable("k", [3, 2], constraint=tf.abs))
        assert made.declined == {"k:0": "has a constraint"}


@pytest.mark.usefixtures("graph")
class TestVariables:
    @pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
    def test_dtype(self, dtype: tf.DType) -> None:
        made = layer_plan(lambda: tf1.get_variable("k", [3, 2], dtype), dtype)
        assert made.declined["k:0"] == (f"its dtype is {dtype.name}; fused are float32 and float64")

    def test_float64_is_fused(self) -> None:
        made = layer_plan(lambda: tf1.get_variable("k", [3, 2], tf.float64), tf.float64)
        assert made.fused == ("k:0",)

    def test_reference_variable(self) -> None:
        made = layer_plan(lambda: tf1.get_variable("k", [3, 2], use_resource=False))
        assert "enable_resource_variables()" in made.declined["k:0"]

    @pytest.mark.parametrize(
        ("device", "words"),
        [
            ("/job:worker/task:1", "another machine's device, /job:worker/task:1"),
            ("/job:localhost/task:1/CPU:0", "another machine's device"),
        ],
    )
    def test_device(self, device: str, words: str) -> None:
        def make() -> Any:
            with tf.device(device):
                return tf1.get_variable("k", [3, 2])

        assert words in layer_plan(make).declined["k:0"]

    @pytest.mark.parametrize("device", ["/CPU:0", "/job:localhost/task:0/CPU:0"])
    def test_device_of_this_process(self, device: str) -> None:
        def make() -> Any:
            with tf.device(device):
                return tf1.get_variable("k", [3, 2])

        assert layer_plan(make).fused == ("k:0",)


class TestGraphs:
    def test_tf1_control_flow(self) -> None:
        tf1.disable_control_flow_v2()
        try:
            with tf.Graph().as_default(), tf1.Session() as session:
                kernel = tf1.get_variable("k", [3, 3], initializer=tf1.ones_initializer())
                body = lambda i, h: (i + 1, tf.matmul(h, kernel))  # noqa: E731
                iv = tf1.while_loop(lambda i, h: i < 2, body, (0, tf.ones([4, 3])))[1]
                made = splitop.plan(tf1.train.GradientDescentOptimizer(0.5), iv, [kernel])
                assert "enable_control_flow_v2()" in made.declined["k:0"]
                step = made.apply()
                session.run(tf1.global_variables_initializer())
                session.run(step)
                # dL/dW = xᵀ(1 Wᵀ) + (x W)ᵀ 1, with ones: 4·3 + 4·3.
                np.testing.assert_array_equal(session.run(kernel), np.full([3, 3], -11.0))
        finally:
            tf1.enable_control_flow_v2()

    def test_recomputation(self) -> None:
        kernels = [tf.Variable(tf.ones([3, 3])) for _ in range(2)]
        optimizer, plans = keras.optimizers.SGD(), []

        @tf.recompute_grad
        def layer(x: Any) -> Any:
            return tf.nn.relu(tf.matmul(x, kernels[0]))

        @tf.function
        def step(x: Any) -> None:
            iv = tf.matmul(layer(x), kernels[1])
            plans.append(splitop.plan(optimizer, iv, kernels))
            plans[-1].apply()

        step(tf.ones([4, 3]))
        assert [layer.kernel for chain in plans[0].chains for layer in chain.layers] == [
            "Variable:0 (#2)"
        ]
        assert "recomputation" in plans[0].updated["Variable:0 (#1)"]

    def test_mixed_precision(self) -> None:
        layer = keras.layers.Dense(2, dtype="mixed_bfloat16")
        with tf.device("/CPU:0"):
            layer.build((None, 3))
        optimizer, plans = keras.optimizers.SGD(), []

        @tf.function
        def step(x: Any) -> None:
            plans.append(splitop.plan(optimizer, layer(x), layer.trainable_variables))
            plans[-1].apply()

        step(tf.ones([4, 3]))
        assert plans[0].fused == (layer.kernel.path, layer.bias.path)
        assert not plans[0].updated

    @pytest.mark.parametrize("path", ["fused", "reference"])
    def test_a_loop_and_a_branch_around_the_step(self, path: str) -> None:
        kernel, optimizer = tf.Variable(tf.ones([3, 2])), keras.optimizers.SGD(0.5)

        @tf.function
        def train(xs: Any) -> None:
            for x in xs:
                if tf.reduce_sum(x) > 0:
                    splitop.minimize(optimizer, tf.matmul(x, kernel), [kernel], backend=path)

        train(tf.stack([tf.ones([4, 3]), -tf.ones([4, 3]), tf.ones([4, 3])]))
        assert optimizer.iterations.numpy() == 2
        np.testing.assert_array_equal(kernel.numpy(), np.full([3, 2], 1 - 2 * 0.5 * 4))
