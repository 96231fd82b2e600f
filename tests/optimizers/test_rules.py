"""What has a fused rule, what has none, and what can't be fused with a word of why."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from typing import Any

import keras
import pytest
import tensorflow as tf

from splitop._src.errors import SplitError, VariableListError
from splitop._src.optimizers import GradientOptions, adapter_for, rules
from splitop.keras import RowwiseAdagrad
from tests import oracle

v1 = tf.compat.v1.train
ko = keras.optimizers

KERAS_FUSED = (
    "(fused: SGD, Adam, AdamW, Adagrad, RMSprop, Adadelta, Adamax, Nadam, Ftrl, Lion, "
    "RowwiseAdagrad)"
)
TF1_FUSED = (
    "(fused: GradientDescentOptimizer, MomentumOptimizer, AdamOptimizer, AdagradOptimizer, "
    "RMSPropOptimizer, AdadeltaOptimizer, FtrlOptimizer)"
)


class MyAdam(ko.Adam):
    pass


class MyOwn(ko.Optimizer):
    pass


class MyMomentum(v1.MomentumOptimizer):
    pass


def test_the_rules_are_those_of_the_oracle() -> None:
    expected = {
        name: (rule.hyper, rule.num_slots, rule.rowwise) for name, rule in oracle.ALL_RULES.items()
    }
    assert {r.name: (r.hyper, r.num_slots, r.rowwise) for r in rules.RULES} == expected


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: v1.GradientDescentOptimizer(0.1), rules.SGD),
        (lambda: v1.MomentumOptimizer(0.1, 0.9), rules.MOMENTUM),
        (lambda: v1.MomentumOptimizer(0.1, 0.9, use_nesterov=True), rules.MOMENTUM),
        (lambda: v1.AdamOptimizer(), rules.ADAM),
        (lambda: v1.AdagradOptimizer(0.1), rules.ADAGRAD),
        # Without momentum too, TF1 has and updates a slot for it.
        (lambda: v1.RMSPropOptimizer(0.1), rules.RMSPROP_MOMENTUM),
        (lambda: v1.RMSPropOptimizer(0.1, centered=True), rules.RMSPROP_CENTERED_MOMENTUM),
        (lambda: v1.AdadeltaOptimizer(), rules.ADADELTA),
        (lambda: v1.FtrlOptimizer(0.1), rules.FTRL),
        (lambda: ko.SGD(), rules.SGD),
        (lambda: ko.SGD(nesterov=True), rules.SGD),  # Keras ignores nesterov without momentum.
        (lambda: ko.SGD(momentum=0.9), rules.MOMENTUM),
        (lambda: ko.SGD(momentum=0.9, nesterov=True, weight_decay=0.1), rules.MOMENTUM),
        (lambda: ko.Adam(), rules.ADAM),
        (lambda: ko.Adam(amsgrad=True), rules.AMSGRAD),
        (lambda: ko.AdamW(), rules.ADAM),
        (lambda: ko.AdamW(amsgrad=True), rules.AMSGRAD),
        (lambda: ko.AdamW(use_ema=True, ema_overwrite_frequency=3), rules.ADAM),
        (lambda: ko.Adagrad(), rules.ADAGRAD),
        (lambda: ko.RMSprop(), rules.RMSPROP),
        (lambda: ko.RMSprop(momentum=0.9), rules.RMSPROP_MOMENTUM),
        (lambda: ko.RMSprop(centered=True), rules.RMSPROP_CENTERED),
        (lambda: ko.RMSprop(momentum=0.9, centered=True), rules.RMSPROP_CENTERED_MOMENTUM),
        (lambda: ko.Adadelta(), rules.ADADELTA),
        (lambda: ko.Adamax(), rules.ADAMAX),
        (lambda: ko.Nadam(), rules.NADAM),
        (lambda: ko.Ftrl(), rules.FTRL),
        (lambda: ko.Lion(), rules.LION),
        (lambda: RowwiseAdagrad(), rules.ROWWISE_ADAGRAD),
        (lambda: ko.LossScaleOptimizer(ko.SGD()), rules.SGD),
        (lambda: ko.Adam(clipnorm=1.0, gradient_accumulation_steps=2), rules.ADAM),
    ],
)
def test_rule(make: Any, rule: Any) -> None:
    assert adapter_for(make()).rule() is rule


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        *(
            (make, f"optimizer {make().__class__.__name__} has no fused rule {KERAS_FUSED}")
            for make in (
                ko.Lamb,
                ko.Adafactor,
                ko.Muon,
                ko.ScheduleFreeAdamW,
                lambda: ko.Lamb(clipnorm=1.0),
                lambda: ko.MultiOptimizer(ko.Adam()),
            )
        ),
        (
            lambda: MyAdam(),
            f"optimizer MyAdam (a subclass of Adam) has no fused rule {KERAS_FUSED}",
        ),
        (
            lambda: ko.LossScaleOptimizer(ko.Lamb()),
            f"optimizer Lamb has no fused rule {KERAS_FUSED}",
        ),
        (lambda: MyOwn(0.1), f"optimizer MyOwn has no fused rule {KERAS_FUSED}"),
        (
            lambda: v1.ProximalAdagradOptimizer(0.1),
            f"optimizer ProximalAdagradOptimizer has no fused rule {TF1_FUSED}",
        ),
        (
            lambda: MyMomentum(0.1, 0.9),
            f"optimizer MyMomentum (a subclass of MomentumOptimizer) has no fused rule {TF1_FUSED}",
        ),
    ],
)
def test_no_rule(make: Any, reason: str) -> None:
    assert adapter_for(make()).rule() == reason


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda: v1.AdamOptimizer(), GradientOptions()),
        (lambda: ko.SGD(), GradientOptions()),
        (lambda: ko.SGD(clipnorm=1.5), GradientOptions("norm", 1.5)),
        (lambda: ko.Lion(clipvalue=0.5), GradientOptions("value", 0.5)),
        (lambda: ko.Adam(global_clipnorm=2), GradientOptions("global_norm", 2.0)),
        # Keras clips to no bound that is not positive.
        (lambda: ko.Adam(global_clipnorm=0.0), GradientOptions()),
        (lambda: ko.Adam(clipvalue=-1.0), GradientOptions()),
    ],
)
def test_gradient_options(make: Any, options: GradientOptions) -> None:
    assert adapter_for(make()).gradient_options() == options


def test_loss_scales() -> None:
    fixed = adapter_for(ko.Nadam(loss_scale_factor=8.0)).gradient_options()
    assert fixed.loss_scale is not None
    assert fixed.loss_scale() == 8
    assert not fixed.finite_only
    dynamic = adapter_for(ko.LossScaleOptimizer(ko.SGD(clipnorm=1.5))).gradient_options()
    assert (dynamic.clip, dynamic.bound, dynamic.finite_only) == ("norm", 1.5, True)
    assert dynamic.loss_scale is not None


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
    ("make_strategy", "outside"),
    [
        (lambda: tf.distribute.MirroredStrategy(["CPU:0"]), "MirroredStrategy"),
        (lambda: tf.distribute.OneDeviceStrategy("CPU:0"), None),
    ],
    ids=["Mirrored", "OneDevice"],
)
def test_strategies(make: Any, make_strategy: Any, outside: str | None) -> None:
    strategy = make_strategy()
    with strategy.scope():
        variable, optimizer = tf.Variable([1.0, 2.0]), make()
        if isinstance(optimizer, ko.Optimizer):
            optimizer.build([variable])
    adapter = adapter_for(optimizer)
    reason = adapter.declines(variable)
    assert reason is None if outside is None else outside in reason

    def step() -> None:
        assert adapter.rule() is rules.ADAM
        assert adapter.declines(variable) is None
        adapter.prepare([variable])
        adapter.finish([], [(tf.constant([1.0, -1.0]), variable)], None)

    tf.function(lambda: strategy.run(step), autograph=False)()
    assert variable.numpy() == pytest.approx([0.999, 2.001])  # Adam's first step is its rate.


def test_strategies_without_a_fused_step() -> None:
    strategy = tf.distribute.experimental.CentralStorageStrategy(["CPU:0"])
    with strategy.scope():
        variable, optimizer = tf.Variable([1.0]), ko.Adam()
        assert re.search("CentralStorageStrategy; fused: .*Mirrored", adapter_for(optimizer).rule())
        assert "CentralStorageStrategy" in adapter_for(optimizer).declines(variable)


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
