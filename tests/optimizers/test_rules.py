"""What has a fused rule, what has none, and what can't be fused with a word of why."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import keras
import pytest
import tensorflow as tf

from splitop._src.errors import SplitError, VariableListError
from splitop._src.optimizers import ADAM, MOMENTUM, SGD, adapter_for

v1 = tf.compat.v1.train
ko = keras.optimizers

FUSED = "(fused: SGD, Momentum, Adam, AdamW)"


class MyAdam(ko.Adam):
    pass


class MyMomentum(v1.MomentumOptimizer):
    pass


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: v1.GradientDescentOptimizer(0.1), SGD),
        (lambda: v1.MomentumOptimizer(0.1, 0.9), MOMENTUM),
        (lambda: v1.MomentumOptimizer(0.1, 0.9, use_nesterov=True), MOMENTUM),
        (lambda: v1.AdamOptimizer(), ADAM),
        (lambda: ko.SGD(), SGD),
        (lambda: ko.SGD(nesterov=True), SGD),  # Keras ignores nesterov without momentum.
        (lambda: ko.SGD(momentum=0.9), MOMENTUM),
        (lambda: ko.SGD(momentum=0.9, nesterov=True, weight_decay=0.1), MOMENTUM),
        (lambda: ko.Adam(), ADAM),
        (lambda: ko.AdamW(), ADAM),
    ],
)
def test_rule(make: Any, rule: Any) -> None:
    assert adapter_for(make()).rule() is rule


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: ko.RMSprop(), f"optimizer RMSprop has no fused rule {FUSED}"),
        (lambda: MyAdam(), f"optimizer MyAdam (a subclass of Adam) has no fused rule {FUSED}"),
        (
            lambda: ko.LossScaleOptimizer(ko.Adam()),
            f"optimizer LossScaleOptimizer has no fused rule {FUSED}",
        ),
        (lambda: v1.AdagradOptimizer(0.1), f"optimizer AdagradOptimizer has no fused rule {FUSED}"),
        (
            lambda: MyMomentum(0.1, 0.9),
            f"optimizer MyMomentum (a subclass of MomentumOptimizer) has no fused rule {FUSED}",
        ),
        (lambda: ko.Adam(amsgrad=True), "optimizer Adam with amsgrad=True has no fused rule"),
        (lambda: ko.SGD(clipnorm=1.0), "optimizer SGD with clipnorm=1.0 has no fused rule"),
        (lambda: ko.SGD(clipvalue=0.5), "optimizer SGD with clipvalue=0.5 has no fused rule"),
        (lambda: ko.AdamW(use_ema=True), "optimizer AdamW with use_ema=True has no fused rule"),
        (
            lambda: ko.Adam(global_clipnorm=2.0),
            "optimizer Adam with global_clipnorm=2.0 has no fused rule",
        ),
        (
            lambda: ko.Adam(loss_scale_factor=8.0),
            "optimizer Adam with loss_scale_factor=8.0 has no fused rule",
        ),
        (
            lambda: ko.Adam(amsgrad=True, gradient_accumulation_steps=2),
            "optimizer Adam with amsgrad=True, gradient_accumulation_steps=2 has no fused rule",
        ),
    ],
)
def test_no_rule(make: Any, reason: str) -> None:
    assert adapter_for(make()).rule() == reason


@pytest.mark.parametrize(
    "thing", ["adam", ko.Adam, None, keras.losses.MeanSquaredError()], ids=lambda t: str(type(t))
)
def test_not_an_optimizer(thing: Any) -> None:
    with pytest.raises(SplitError, match=r"must be a keras\.optimizers\.Optimizer or .*Received: "):
        adapter_for(thing)


def test_another_keras_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(SplitError, match=r"KERAS_BACKEND=tensorflow.*Received: backend='jax'"):
        adapter_for(ko.Adam())


ADAPTERS = pytest.mark.parametrize(
    "make", [lambda: v1.AdamOptimizer(), lambda: ko.Adam()], ids=["tf1", "keras"]
)


@ADAPTERS
@pytest.mark.parametrize("variable_type", [tf.Variable, keras.Variable])
def test_plain_variables_are_welcome(make: Any, variable_type: Any) -> None:
    assert adapter_for(make()).declines(variable_type([1.0])) is None


@ADAPTERS
def test_declines_a_constraint(make: Any) -> None:
    variable = tf.Variable([1.0], constraint=tf.identity)
    assert adapter_for(make()).declines(variable) == "has a constraint"


def test_a_keras_constraint_is_the_business_of_keras_optimizers() -> None:
    variable = keras.Variable([1.0])
    variable.constraint = keras.constraints.NonNeg()
    assert adapter_for(ko.Adam()).declines(variable) == "has a constraint"
    # Keras optimizers apply it, TF1 optimizers don't know it.
    assert adapter_for(v1.AdamOptimizer()).declines(variable) is None


def test_declines_overwrite_with_gradient() -> None:
    variable = keras.Variable([1.0])
    variable.overwrite_with_gradient = True
    assert "overwrite_with_gradient=True" in adapter_for(ko.Adam()).declines(variable)


@ADAPTERS
def test_declines_a_reference_variable(make: Any) -> None:
    with tf.Graph().as_default():
        variable = tf.compat.v1.Variable([1.0], use_resource=False)
        reason = adapter_for(make()).declines(variable)
    assert "tf.compat.v1.enable_resource_variables()" in reason


@ADAPTERS
def test_not_a_variable(make: Any) -> None:
    with pytest.raises(VariableListError, match=r"tf\.Variable or keras\.Variable.*Received: "):
        adapter_for(make()).declines(tf.constant([1.0]))


@ADAPTERS
def test_a_model_that_is_not_built(make: Any) -> None:
    adapter = adapter_for(make())
    with keras.StatelessScope():  # Where Keras defers the creation of variables.
        variable = keras.Variable(keras.initializers.Ones(), shape=(2,))
        with pytest.raises(VariableListError, match=r"built: call the model.*Received: "):
            adapter.declines(variable)


@ADAPTERS
@pytest.mark.parametrize(
    "make_strategy",
    [
        lambda: tf.distribute.MirroredStrategy(["CPU:0"]),
        lambda: tf.distribute.OneDeviceStrategy("CPU:0"),
    ],
    ids=["Mirrored", "OneDevice"],
)
def test_strategies(make: Any, make_strategy: Any) -> None:
    strategy = make_strategy()
    name = type(strategy).__name__
    with strategy.scope():
        variable, optimizer = tf.Variable([1.0, 2.0]), make()
        assert name in adapter_for(optimizer).rule()
    adapter = adapter_for(optimizer)
    assert adapter.rule() is ADAM
    assert name in adapter.declines(variable)

    def step() -> None:
        adapter.prepare([variable])
        adapter.finish([], [(tf.constant([1.0, -1.0]), variable)], None)

    tf.function(lambda: strategy.run(step), autograph=False)()
    assert variable.numpy() == pytest.approx([0.999, 2.001])  # Adam's first step is its rate.


def test_without_v2_behavior() -> None:
    """Scripts that turn TF2 off altogether: reference variables, no eager execution."""
    script = """
        import keras, tensorflow as tf
        from splitop._src.optimizers import adapter_for

        tf.compat.v1.disable_v2_behavior()
        weight = tf.compat.v1.get_variable("weight", [2], initializer=tf.zeros_initializer())
        layer = keras.layers.Dense(1, kernel_initializer="zeros")
        layer.build((None, 2))
        steps = []
        for optimizer in (keras.optimizers.SGD(1.0), tf.compat.v1.train.AdamOptimizer(1.0)):
            adapter = adapter_for(optimizer)
            assert "enable_resource_variables" in adapter.declines(weight)
            assert adapter.declines(layer.kernel) is None
            adapter.prepare([layer.kernel])
            pairs = [(tf.ones([2, 1]), layer.kernel)]
            steps.append(adapter.finish([adapter.hyper(tf.float32).op], pairs, None))
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            for step in steps:
                session.run(step)
                print(session.run(layer.kernel.value)[0, 0].round(3))
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["-1.0", "-2.0"]
