"""Steps through the adapters leave what the optimizer's own leave, whatever is fused."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import pytest
import tensorflow as tf

from splitop.keras import RowwiseAdagrad
from tests.optimizers.emulation import RUNS, check_equal, run_in_functions, run_own

v1 = tf.compat.v1.train
ko = keras.optimizers

Make = Callable[[Any], Any]

# learning rate -> optimizer
TF1_OPTIMIZERS: dict[str, Make] = {
    "sgd": v1.GradientDescentOptimizer,
    "momentum": lambda lr: v1.MomentumOptimizer(lr, 0.9),
    "nesterov": lambda lr: v1.MomentumOptimizer(lr, 0.9, use_nesterov=True),
    "adam": lambda lr: v1.AdamOptimizer(lr, 0.35, 0.95, 1e-3),
    "adagrad": v1.AdagradOptimizer,
    "rmsprop": lambda lr: v1.RMSPropOptimizer(lr, 0.8, 0.0, 1e-3),
    "rmsprop momentum": lambda lr: v1.RMSPropOptimizer(lr, 0.8, 0.7, 1e-3),
    "rmsprop centered": lambda lr: v1.RMSPropOptimizer(lr, 0.8, 0.7, 1e-3, centered=True),
    "adadelta": lambda lr: v1.AdadeltaOptimizer(lr, 0.8, 1e-3),
    "ftrl": v1.FtrlOptimizer,
    "ftrl strong": lambda lr: v1.FtrlOptimizer(lr, -0.6, 0.2, 0.03, 0.02, beta=0.05),
    "ftrl shrinking": lambda lr: v1.FtrlOptimizer(
        lr, l2_regularization_strength=0.02, l2_shrinkage_regularization_strength=0.03
    ),
}
KERAS_OPTIMIZERS: dict[str, Make] = {
    "sgd": ko.SGD,
    "momentum": lambda lr: ko.SGD(lr, momentum=0.9),
    "nesterov": lambda lr: ko.SGD(lr, momentum=0.9, nesterov=True),
    "adam": lambda lr: ko.Adam(lr, 0.35, 0.95, 1e-3),
    "amsgrad": lambda lr: ko.Adam(lr, 0.35, 0.95, 1e-3, amsgrad=True),
    "adamw": lambda lr: ko.AdamW(lr, 0.05, 0.35, 0.95, 1e-3),
    "adagrad": lambda lr: ko.Adagrad(lr, 0.2, 1e-3),
    "rmsprop": lambda lr: ko.RMSprop(lr, 0.8, 0.0, 1e-3),
    "rmsprop momentum": lambda lr: ko.RMSprop(lr, 0.8, 0.7, 1e-3),
    "rmsprop centered": lambda lr: ko.RMSprop(lr, 0.8, 0.0, 1e-3, centered=True),
    "rmsprop centered momentum": lambda lr: ko.RMSprop(lr, 0.8, 0.7, 1e-3, centered=True),
    "adadelta": lambda lr: ko.Adadelta(lr, 0.8, 1e-3),
    "adamax": lambda lr: ko.Adamax(lr, 0.35, 0.95, 1e-3),
    "nadam": lambda lr: ko.Nadam(lr, 0.35, 0.95, 1e-3),
    "ftrl": ko.Ftrl,
    "ftrl strong": lambda lr: ko.Ftrl(lr, -0.6, 0.2, 0.03, 0.02, 0.04, 0.05),
    "lion": lambda lr: ko.Lion(lr, 0.7, 0.95),
    "rowwise adagrad": lambda lr: RowwiseAdagrad(lr, 0.2, 1e-3),
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


def _averaged(make: Make, **options: Any) -> Make:
    """The optimizer with an exponential moving average of the variables."""

    def make_optimizer(step: Any) -> Any:
        optimizer = make(0.1)
        for name, value in {"use_ema": True, "ema_momentum": 0.6, **options}.items():
            setattr(optimizer, name, value)
        return optimizer

    return make_optimizer


# global_step -> optimizer
OPTIMIZERS: dict[str, Make] = {
    **{
        # TF1's Ftrl takes no callables.
        f"tf1 {name}": _rated(make, TF1_RATES["variable" if "ftrl" in name else "callable"])
        for name, make in TF1_OPTIMIZERS.items()
    },
    **{
        f"tf1 adam, {rate}": _rated(TF1_OPTIMIZERS["adam"], make)
        for rate, make in TF1_RATES.items()
    },
    "tf1 ftrl strong, number": _rated(TF1_OPTIMIZERS["ftrl strong"], TF1_RATES["number"]),
    **{
        f"keras {name}": _rated(make, KERAS_RATES["schedule"])
        for name, make in KERAS_OPTIMIZERS.items()
    },
    **{
        f"keras adam, {rate}": _rated(KERAS_OPTIMIZERS["adam"], make)
        for rate, make in KERAS_RATES.items()
    },
    **{
        f"keras {name}, decay": _decayed(make)
        for name, make in KERAS_OPTIMIZERS.items()
        if name != "adamw"
    },
    "keras adam, decay but": _decayed(KERAS_OPTIMIZERS["adam"], "ker", "nothing"),
    "keras adam, averaged": _averaged(KERAS_OPTIMIZERS["adam"]),
    **{
        f"keras {name}, averaged by turns": _averaged(
            KERAS_OPTIMIZERS[name], ema_overwrite_frequency=4, weight_decay=0.03
        )
        for name in ("sgd", "nadam")
    },
}


@functools.lru_cache
def _own(name: str, variable_type: type = tf.Variable) -> Any:
    return run_own(OPTIMIZERS[name], variable_type)


@pytest.mark.parametrize("mode", RUNS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_dense_fused_and_sparse_declined(mode: str, name: str) -> None:
    check_equal(RUNS[mode](OPTIMIZERS[name], ["kernel"]), _own(name))


@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if "," not in n or "averaged" in n])
def test_by_turns(name: str) -> None:
    check_equal(run_in_functions(OPTIMIZERS[name], [["kernel"], []]), _own(name))


# These treat a tf.IndexedSlices as the dense tensor that it stands for, so it can be fused.
@pytest.mark.parametrize("mode", RUNS)
@pytest.mark.parametrize(
    "name",
    [
        *("tf1 sgd", "tf1 adam", "tf1 adagrad"),
        *("keras nesterov", "keras adamw", "keras nadam", "keras ftrl strong, decay"),
        "keras rowwise adagrad",
        *(name for name in OPTIMIZERS if "averaged" in name),
    ],
)
def test_all_fused(mode: str, name: str) -> None:
    check_equal(RUNS[mode](OPTIMIZERS[name], ["kernel", "table"]), _own(name))


@pytest.mark.parametrize("mode", RUNS)
@pytest.mark.parametrize("name", ["tf1 adam", "keras adamw", "keras nadam, averaged by turns"])
def test_all_declined(mode: str, name: str) -> None:
    check_equal(RUNS[mode](OPTIMIZERS[name], []), _own(name))


@pytest.mark.parametrize("mode", RUNS)
@pytest.mark.parametrize(
    "name", ["tf1 nesterov", "keras adamw", "keras ftrl", "keras nadam, averaged by turns"]
)
def test_keras_variables(mode: str, name: str) -> None:
    # TF1 optimizers know the tf.Variables only; Keras names slots by the keras.Variables.
    own = _own(name, keras.Variable if name.startswith("keras") else tf.Variable)
    check_equal(RUNS[mode](OPTIMIZERS[name], ["kernel"], keras.Variable), own)


class OnesOwn(v1.AdagradOptimizer):
    pass


@pytest.mark.parametrize("mode", RUNS)
@pytest.mark.parametrize("make", [lambda step: OnesOwn(0.1), lambda step: ko.Lamb()])
def test_an_optimizer_without_a_rule(mode: str, make: Make) -> None:
    check_equal(RUNS[mode](make, []), run_own(make))
