"""Steps through the adapters leave what the optimizer's own leave, whatever is fused."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import pytest
import tensorflow as tf

from tests.optimizers.emulation import RUNS, check_equal, run_own

v1 = tf.compat.v1.train
ko = keras.optimizers

Make = Callable[[Any], Any]

# learning rate -> optimizer
TF1_OPTIMIZERS: dict[str, Make] = {
    "sgd": v1.GradientDescentOptimizer,
    "momentum": lambda lr: v1.MomentumOptimizer(lr, 0.9),
    "nesterov": lambda lr: v1.MomentumOptimizer(lr, 0.9, use_nesterov=True),
    "adam": lambda lr: v1.AdamOptimizer(lr, 0.35, 0.95, 1e-3),
}
KERAS_OPTIMIZERS: dict[str, Make] = {
    "sgd": ko.SGD,
    "momentum": lambda lr: ko.SGD(lr, momentum=0.9),
    "nesterov": lambda lr: ko.SGD(lr, momentum=0.9, nesterov=True),
    "adam": lambda lr: ko.Adam(lr, 0.35, 0.95, 1e-3),
    "adamw": lambda lr: ko.AdamW(lr, 0.05, 0.35, 0.95, 1e-3),
}

# global_step -> learning rate
TF1_RATES: dict[str, Make] = {
    "number": lambda step: 0.1,
    "variable": lambda step: tf.Variable(0.1, name="rate"),
    "tensor": lambda step: tf.constant(0.1),
    "callable": lambda step: lambda: 0.1 / (1 + tf.cast(step, tf.float32)),
}
KERAS_RATES: dict[str, Make] = {
    "number": lambda step: 0.1,
    "variable": lambda step: functools.partial(tf.identity, tf.Variable(0.1, name="rate")),
    "schedule": lambda step: ko.schedules.ExponentialDecay(0.1, decay_steps=2, decay_rate=0.7),
}


def _decayed(make: Make, *excluded: str) -> Make:
    """The optimizer with weight decay, but for variables whose name holds one of `excluded`."""

    def make_optimizer(step: Any) -> Any:
        optimizer = make(KERAS_RATES["schedule"](step))
        optimizer.weight_decay = 0.03
        optimizer.exclude_from_weight_decay(var_names=excluded)
        return optimizer

    return make_optimizer


def _rated(make: Make, rate: Make) -> Make:
    return lambda step: make(rate(step))


# global_step -> optimizer
OPTIMIZERS: dict[str, Make] = {
    **{
        f"tf1 {name}, {rate}": _rated(make, TF1_RATES[rate])
        for name, make in TF1_OPTIMIZERS.items()
        for rate in ("number", "variable", "callable")
    },
    "tf1 adam, tensor": _rated(TF1_OPTIMIZERS["adam"], TF1_RATES["tensor"]),
    **{
        f"keras {name}, {rate}": _rated(make, KERAS_RATES[rate])
        for name, make in KERAS_OPTIMIZERS.items()
        for rate in KERAS_RATES
    },
    **{
        f"keras {name}, decay": _decayed(KERAS_OPTIMIZERS[name])
        for name in ("sgd", "nesterov", "adam")
    },
    "keras adam, decay but": _decayed(KERAS_OPTIMIZERS["adam"], "ker", "nothing"),
}


@functools.lru_cache
def _own(name: str, variable_type: type = tf.Variable) -> Any:
    return run_own(OPTIMIZERS[name], variable_type)


@pytest.mark.parametrize("mode", RUNS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_dense_fused_and_sparse_declined(mode: str, name: str) -> None:
    check_equal(RUNS[mode](OPTIMIZERS[name], ["kernel"]), _own(name))


# These treat a tf.IndexedSlices as the dense tensor that it stands for, so it can be fused.
@pytest.mark.parametrize("mode", RUNS)
@pytest.mark.parametrize(
    "name",
    ["tf1 sgd, number", "tf1 adam, callable", "keras nesterov, variable", "keras adamw, schedule"],
)
def test_all_fused(mode: str, name: str) -> None:
    check_equal(RUNS[mode](OPTIMIZERS[name], ["kernel", "table"]), _own(name))


@pytest.mark.parametrize("mode", RUNS)
@pytest.mark.parametrize("name", ["tf1 adam, callable", "keras adamw, schedule"])
def test_all_declined(mode: str, name: str) -> None:
    check_equal(RUNS[mode](OPTIMIZERS[name], []), _own(name))


@pytest.mark.parametrize("mode", RUNS)
@pytest.mark.parametrize("name", ["tf1 nesterov, number", "keras adamw, number"])
def test_keras_variables(mode: str, name: str) -> None:
    # TF1 optimizers know the tf.Variables only; Keras names slots by the keras.Variables.
    own = _own(name, keras.Variable if name.startswith("keras") else tf.Variable)
    check_equal(RUNS[mode](OPTIMIZERS[name], ["kernel"], keras.Variable), own)


@pytest.mark.parametrize("mode", RUNS)
@pytest.mark.parametrize("make", [lambda step: v1.AdagradOptimizer(0.1), lambda step: ko.Adagrad()])
def test_an_optimizer_without_a_rule(mode: str, make: Make) -> None:
    check_equal(RUNS[mode](make, []), run_own(make))
