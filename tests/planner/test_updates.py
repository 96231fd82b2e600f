"""Variables whose gradients TensorFlow computes: one op updates them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from tests.planner.models import Weights, dense
from tests.planner.steps import FLAVOURS, assert_same_values, run_steps
from tests.planner.test_tables import OPTIMIZERS
from tests.planner.training import plain_names, seed_for

tf1, layers = tf.compat.v1, keras.layers

BATCH, STEPS = 6, 5


def _cnn(w: Weights, x: Any) -> Any:
    h = w.layer("conv", layers.Conv2D, x, filters=3, kernel_size=3, activation="relu")
    h = w.layer("depthwise", layers.DepthwiseConv2D, h, kernel_size=2, use_bias=False)
    h = w.layer("norm", layers.BatchNormalization, h)
    return dense(w, "top", tf.reshape(tf.nn.relu(h), [-1, 2 * 2 * 3]), 5, "tanh")


def _lstm(w: Weights, x: Any) -> Any:
    return dense(w, "top", w.layer("lstm", layers.LSTM, x, units=4), 5, "relu")


def _layer_norm(w: Weights, x: Any) -> Any:
    h = w.layer("norm", layers.LayerNormalization, dense(w, "low", x, 7, "relu"))
    return dense(w, "top", h, 5, "relu")


def _tied(w: Weights, x: Any) -> Any:
    code = tf.nn.tanh(tf.matmul(dense(w, "low", x, 7, "relu"), w("tied", 7, 4)))
    return tf.matmul(code, w("tied", 7, 4), transpose_b=True)


# Model, the shape of its input, and the variables whose update alone is fused.
MODELS: dict[str, tuple[Callable[[Weights, Any], Any], tuple[int, ...], set[str]]] = {
    "cnn": (
        _cnn,
        (5, 5, 2),
        {"conv/kernel", "conv/bias", "depthwise/kernel", "norm/gamma", "norm/beta"},
    ),
    "lstm": (
        _lstm,
        (3, 4),
        {f"lstm/lstm_cell/{n}" for n in ("kernel", "recurrent_kernel", "bias")},
    ),
    "layer norm": (_layer_norm, (8,), {"norm/gamma", "norm/beta"}),
    "tied": (_tied, (8,), {"tied"}),
}


def batches(model: str) -> list[np.ndarray]:
    shape = (STEPS, BATCH, *MODELS[model][1])
    return list(np.random.default_rng(1).normal(size=shape))


def check(flavour: str, model: str, make: Callable[[], Any]) -> None:
    build, _, updated = MODELS[model]
    fused, reference = (
        run_steps(flavour, build, make, batches(model), backend=backend)
        for backend in ("fused", "reference")
    )
    assert plain_names(fused.plan.updated).keys() == updated
    assert fused.writing_ops == {"DenseChain": len(fused.plan.chains), "MultiTensorUpdate": 1}
    assert reference.fused_ops == {}
    assert_same_values(fused, reference)


@pytest.mark.parametrize(
    ("flavour", "name"),
    [
        (flavour, name)
        for flavour in FLAVOURS
        for name in OPTIMIZERS[flavour]
        if name != "rowwise adagrad"  # fuses no dense layers: test_rowwise.py
    ],
)
def test_a_cnn_with_every_optimizer(flavour: str, name: str) -> None:
    check(flavour, "cnn", OPTIMIZERS[flavour][name])


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("name", ["nesterov", "adam", "rmsprop centered"])
@pytest.mark.parametrize("model", ["lstm", "layer norm", "tied"])
def test_other_models(model: str, name: str, flavour: str) -> None:
    if model == "lstm" and flavour == "tf1":
        pytest.skip("Keras' LSTM needs a tf.function")
    check(flavour, model, OPTIMIZERS[flavour][name])


@pytest.mark.parametrize("averages", [{}, {"use_ema": True, "ema_momentum": 0.8}])
@pytest.mark.parametrize("decay", [None, 0.05])
def test_options_of_keras(averages: dict[str, Any], decay: float | None) -> None:
    options = {**averages, "weight_decay": decay}
    check("keras", "cnn", lambda: keras.optimizers.Adam(0.05, amsgrad=True, **options))


@pytest.mark.usefixtures("graph")
class TestOneOp:
    def updates(self) -> list[Any]:
        operations = tf1.get_default_graph().get_operations()
        return [op for op in operations if op.type == "Splitop>MultiTensorUpdate"]

    def minimize(self, variables: list[Any], optimizer: Any = None) -> list[Any]:
        total = tf.add_n([tf.cast(tf.reduce_sum(v * v), tf.float64) for v in variables])
        splitop.minimize(optimizer or tf1.train.AdamOptimizer(), total, variables, backend="fused")
        return self.updates()

    def test_a_dtype(self) -> None:
        made = [(tf.float32, 3), (tf.float64, 2), (tf.float32, 5), (tf.float64, 4)]
        variables = [tf1.get_variable(f"v{i}", [n], dtype) for i, (dtype, n) in enumerate(made)]
        ops = self.minimize(variables)
        assert [(op.get_attr("T"), len(op.get_attr("variable_names"))) for op in ops] == [
            (tf.float32, 2),
            (tf.float64, 2),
        ]

    def test_a_device(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("splitop._src.library.cuda_reason", lambda: None)
        variables = []
        for i, device in enumerate(["/CPU:0", "/GPU:0", "/CPU:0", "/GPU:1", None]):
            with tf.device(device):
                variables.append(tf1.get_variable(f"v{i}", [3], tf.float64))
        ops = self.minimize(variables)
        devices = ["/device:CPU:0", "/device:GPU:0", "/device:GPU:1", ""]
        assert [op.device for op in ops] == devices
        assert [op.inputs[-1].op.device for op in ops] == devices  # hyper

    def test_scalars_and_empty_variables(self) -> None:
        variables = [tf1.get_variable("scalar", [], tf.float64), tf1.get_variable("none", [0, 2])]
        assert len(self.minimize(variables)) == 2
        with tf1.Session() as session:
            session.run(tf1.global_variables_initializer())
            before = session.run(variables[0])
            session.run(tf1.get_default_graph().get_operations()[-1])
            assert session.run(variables[0]) != before


def _one_mixed_step(name: str, backend: str) -> tuple[splitop.Plan, list[Any], list[np.ndarray]]:
    """The plan, splitop's ops, and all variables after it."""
    keras.utils.set_random_seed(0)
    conv = layers.Conv2D(3, 3, activation="relu", dtype="mixed_bfloat16")
    top = layers.Conv2D(4, 3, dtype="mixed_bfloat16")
    model = keras.Sequential([keras.Input((5, 5, 2)), conv, top, layers.Flatten(dtype="bfloat16")])
    optimizer = OPTIMIZERS["keras"][name]()
    optimizer.build(model.trainable_variables)
    found: list[Any] = []

    @tf.function(autograph=False)
    def step(x: Any) -> None:
        iv = model(x)
        assert iv.dtype == tf.bfloat16
        variables = model.trainable_variables
        plan = splitop.plan(optimizer, iv, variables, seed_for(iv), backend=backend)
        plan.apply()
        operations = tf1.get_default_graph().get_operations()
        found[:] = [plan, [op for op in operations if op.type.startswith("Splitop>")]]

    step(tf.constant(batches("cnn")[0], tf.float32))
    variables = [*model.trainable_variables, *optimizer.variables]
    return found[0], found[1], [np.asarray(variable) for variable in variables]


@pytest.mark.parametrize("name", ["momentum", "adam", "rmsprop"])
def test_mixed_precision(name: str) -> None:
    """Layers compute in bfloat16; float32 variables and slots are updated in float32."""
    plan, ops, values = _one_mixed_step(name, "fused")
    assert len(plan.updated) == 4
    assert [(op.type, op.get_attr("T")) for op in ops] == [
        ("Splitop>MultiTensorUpdate", tf.float32)
    ]
    for value, expected in zip(values, _one_mixed_step(name, "reference")[2], strict=True):
        assert value.dtype == expected.dtype
        # A gradient in bfloat16 is the same number on both paths.
        few = 4 * np.finfo(np.float32).eps
        np.testing.assert_allclose(value, expected, rtol=few, atol=few * np.max(abs(expected)))
