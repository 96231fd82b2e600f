"""Models that train in two parts as in one."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop.keras import SplitModel
from tests.keras.models import CASES, build
from tests.verify import models
from tests.verify.models import BATCH, CLASSES, FEATURES, LOSS, findings, verify

layers = keras.layers


def assert_good(report: splitop.VerifyReport) -> None:
    assert report.ok, str(report)
    report.raise_if_failed()
    assert report.steps == 2
    names = [*report.fused, *report.declined]
    assert sorted(row.name for row in report.gradients) == sorted(names)
    for compared in ("split against joint", "fused against reference"):
        rows = {row.name for row in report.updates if row.compared == compared}
        assert rows > set(names)


def test_two_keras_models() -> None:
    report = verify()
    assert_good(report)
    assert not report.findings
    assert report.declined == {}
    assert set(report.fused) == {
        f"{layer}/{kind}" for layer in ("low", "top", "logits") for kind in ("kernel", "bias")
    }
    slots = {row.name for row in report.updates}
    assert {"second_adam/low_kernel_velocity", "first_sgd/logits_bias_momentum"} <= slots


def test_the_optimizers_state_counts() -> None:
    arguments = models.optimizers()
    parts = {"second_part": models.second_part(), "first_part": models.first_part()}
    for which in ("first", "second"):
        optimizer = arguments[f"{which}_optimizer"]
        optimizer.build(parts[f"{which}_part"].trainable_variables)
        for variable in optimizer.variables:
            if variable.shape:
                variable.assign(np.full(variable.shape, 0.03, np.float32))
    assert_good(verify(**arguments, **parts))


@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_a_model_and_its_cut(kind: str) -> None:
    parts = [layers.Dense(7, "relu"), layers.Dense(4, name="cut"), layers.Dense(CLASSES)]
    if kind == "functional":
        model = models.chain(FEATURES, *parts)
    else:
        model = keras.Sequential([keras.Input((FEATURES,)), *parts])
    report = verify(model=model, cut="cut")
    assert_good(report)
    assert "cut" in report.cut[0]
    assert [row.name for row in report.gradients] == [v.path for v in model.trainable_variables]


@pytest.mark.parametrize("way", ["cut", "split model"])
@pytest.mark.parametrize("name", ["skip", "wide", "siamese", "masked"])
def test_what_split_model_cuts(name: str, way: str) -> None:
    """IV of tensors that are computed from one another, inputs, outputs of one layer, and masks."""
    case = CASES[name]
    model = build(case)
    x, y = case.data()
    given = {"model": model, "cut": case.at}
    if way == "split model":
        given = {"model": SplitModel.cut(model, case.at)}
    report = verify(**given, x=x, y=y, loss=keras.losses.MeanSquaredError())
    assert_good(report)
    assert {row.name for row in report.gradients} == {v.path for v in model.trainable_variables}


def test_two_cuts() -> None:
    a, b = keras.Input((FEATURES,)), keras.Input((2,))
    iv_a = layers.Dense(4, "tanh", name="cut_a")(a)
    iv_b = layers.Dense(3, "gelu", name="cut_b")(b)
    output = layers.Dense(CLASSES)(layers.concatenate([iv_a, iv_b]))
    x = [models.batch()["x"], np.ones((BATCH, 2), np.float32)]
    report = verify(model=keras.Model([a, b], output), cut=["cut_a", "cut_b"], x=x)
    assert_good(report)
    assert len(report.cut) == 2


def test_embeddings() -> None:
    second = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(19, 5, name="table"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(4, "relu"),
        ]
    )
    ids = np.random.default_rng(0).integers(0, 19, (BATCH, 6))
    report = verify(second_part=second, first_part=models.first_part(), x=ids)
    assert_good(report)
    assert any("table/embeddings" in name for name in report.fused)


def test_convolution_normalization_and_dropout() -> None:
    second = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(3, 3, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(4),
        ]
    )
    x = np.random.default_rng(0).normal(size=(BATCH, 8, 8, 2)).astype(np.float32)
    report = verify(second_part=second, first_part=models.first_part(), x=x)
    assert_good(report)
    expected = {("warning", "random operations"), ("warning", "moving statistics")}
    assert findings(report) == expected
    assert any("Conv2D" in why for why in report.updated.values())


def test_functions_with_lists_of_variables() -> None:
    random = np.random.default_rng(0)
    w2 = tf.Variable(random.normal(size=(FEATURES, 4)), dtype=tf.float64, name="w2")
    w1 = tf.Variable(random.normal(size=(4,)), dtype=tf.float64, name="w1")
    report = verify(
        second_part=lambda x: {"iv": tf.nn.softplus(tf.matmul(tf.cast(x, tf.float64), w2))},
        first_part=lambda iv: tf.linalg.matvec(iv["iv"], w1),
        loss=lambda y, output: tf.reduce_mean((output - tf.cast(y, tf.float64)) ** 2),
        second_vars=[w2],
        first_vars=[w1],
    )
    assert_good(report)
    assert report.updates[0].bound < 1e-12


def test_autograph_converts_functions() -> None:
    w2, w1 = tf.Variable(tf.ones([FEATURES, 2]), name="w2"), tf.Variable(tf.ones([2]), name="w1")

    def second(x: Any) -> Any:
        iv = tf.matmul(x, w2)
        if tf.reduce_sum(x) > 0:
            iv = iv * 2.0
        return iv

    def first(iv: Any) -> Any:
        return tf.reduce_mean(tf.linalg.matvec(iv, w1) ** 2)

    report = verify(
        second_part=second,
        first_part=first,
        loss=lambda _, output: output,
        y=None,
        second_vars=[w2],
        first_vars=[w1],
    )
    assert_good(report)


def test_an_object_with_two_parts() -> None:
    class Split:
        second_part = models.second_part(kernel_regularizer="l2")
        first_part = models.first_part()
        first_optimizer = keras.optimizers.SGD(0.1)
        second_optimizer = keras.optimizers.Adagrad(0.1)
        loss = "sparse_categorical_crossentropy"

    report = splitop.verify(Split(), steps=2, **models.batch(), loss=LOSS)
    assert_good(report)
    # Such an object is taken to keep the second part's penalties.
    assert findings(report) == {("note", "regularisation")}


def test_the_name_of_a_loss() -> None:
    first = models.first_part(activation="softmax")
    labels = np.eye(CLASSES, dtype=np.float32)[models.batch()["y"]]
    report = verify(
        second_part=models.second_part(),
        first_part=first,
        loss="categorical_crossentropy",
        y=labels,
    )
    assert_good(report)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy: str) -> None:
    more = layers.Dense(9, "relu", dtype=policy)
    report = verify(second_part=models.second_part(more), first_part=models.first_part())
    assert_good(report)


def test_tf1_optimizers_in_eager_models() -> None:
    tf1 = tf.compat.v1
    first, second = tf1.train.MomentumOptimizer(0.1, 0.9), tf1.train.AdamOptimizer(0.01)
    report = verify(first_optimizer=first, second_optimizer=second)
    assert_good(report)
    assert first.variables() == second.variables() == []


def test_large_sums_of_one_sign() -> None:
    # All terms are positive: partial sums grow, and so does their rounding.
    random = np.random.default_rng(0)
    x = random.random((257, 1031), np.float32)
    second = keras.Sequential([keras.Input((1031,)), layers.Dense(129, "softplus")])
    report = verify(
        second_part=second,
        first_part=models.first_part(width=129),
        x=x,
        y=random.integers(0, CLASSES, 257),
        steps=3,
    )
    assert report.ok, str(report)
