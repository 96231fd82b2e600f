"""Gradients that are scaled, clipped, checked or added up before the update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
import splitop._src.library
from splitop.lib import _kernels
from tests.planner.models import Weights, dense
from tests.planner.steps import FLAVOURS, Steps, assert_same_values, run_steps
from tests.planner.training import seed_for

tf1, optimizers = tf.compat.v1, keras.optimizers

BATCH, STEPS = 6, 5
PLANTED = 1e6  # in the last column of x: a sign for `_plant`


@tf.custom_gradient
def _plant(h: Any, sign: Any) -> Any:
    def gradient(dy: Any) -> tuple[Any, None]:
        bad = tf.where(sign, tf.constant(np.nan, dy.dtype), tf.constant(0, dy.dtype))
        return dy + tf.scatter_nd([[1, 2]], [bad], tf.shape(dy)), None

    return tf.identity(h), gradient


def _mixed(w: Weights, x: Any, planted: int | None = None, bound: bool = True) -> Any:
    """A table, two chains around a norm, and one variable, `bound`, that is declined."""
    signs = [tf.reduce_max(x[:, -1]) > PLANTED / 2] if planted is not None else []

    def layer(h: Any, position: int) -> Any:
        return _plant(h, signs[0]) if position == planted else h

    ids = tf.cast(tf.abs(x[:, :3]) * 3, tf.int32) % 7
    rows = layer(tf.reshape(tf.gather(w("table", 7, 4), ids), [-1, 12]), 0)
    h = dense(w, "a", tf.concat([x[:, :7], rows], 1), 9, "tanh")
    h = layer(dense(w, "b", layer(h, 1), 6, "softplus"), 2)
    h = w.layer("norm", keras.layers.LayerNormalization, h)
    if bound:
        h = w.layer("bound", keras.layers.Dense, h, units=7, kernel_constraint="unit_norm")
    return dense(w, "top", layer(h, 3), 5, "tanh")


def _batches(steps: int = STEPS) -> list[np.ndarray]:
    return list(np.random.default_rng(1).normal(size=(steps, BATCH, 8)))


def _both(make: Callable[[], Any], batches: Any = None, **options: Any) -> tuple[Steps, Steps]:
    fused, reference = (
        run_steps(
            options.get("flavour", "keras"),
            options.get("build", _mixed),
            make,
            _batches() if batches is None else batches,
            backend=backend,
            skip_nonfinite=options.get("skip_nonfinite", False),
        )
        for backend in ("auto", "reference")
    )
    assert_same_values(fused, reference)
    return fused, reference


KERAS: dict[str, Callable[..., Any]] = {
    "sgd": lambda **o: optimizers.SGD(0.05, **o),
    "momentum": lambda **o: optimizers.SGD(0.05, momentum=0.9, nesterov=True, **o),
    "adamw": lambda **o: optimizers.AdamW(0.01, weight_decay=0.1, **o),
    "adagrad": lambda **o: optimizers.Adagrad(0.05, **o),
    "nadam": lambda **o: optimizers.Nadam(0.01, **o),
}
# Bounds that some gradients are above and some below.
CLIPS = {
    "clipnorm": {"clipnorm": 1.3},
    "global_clipnorm": {"global_clipnorm": 2.0},
    "clipvalue": {"clipvalue": 0.2},
    "loose": {"global_clipnorm": 1e6},
}


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("name", KERAS)
def test_clips_as_keras_does(name: str, clip: str) -> None:
    fused, _ = _both(lambda: KERAS[name](**CLIPS[clip]))
    by_norm = clip != "clipvalue"
    assert fused.fused_ops["DenseSweep"] == (len(fused.plan.chains) if by_norm else 0)
    assert fused.fused_ops["SquaredNorms"] > 0 if by_norm else fused.fused_ops["SquaredNorms"] == 0
    assert list(fused.plan.declined) == ["bound/kernel"]


def long_batches(steps: int = STEPS) -> list[np.ndarray]:
    """So long that the gradients of `_mixed` whose norms are worked out are kept."""
    rows = 200
    for inputs, outputs in ((19, 9), (9, 6), (6, 5), (8, 6), (5, 5)):
        assert _kernels.keeps_kernel_gradient("float64", rows, inputs, outputs)
    return list(np.random.default_rng(1).normal(size=(steps, rows, 8)))


@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm"])
@pytest.mark.parametrize("name", KERAS)
def test_clips_a_long_batch_as_keras_does(name: str, clip: str) -> None:
    _both(lambda: KERAS[name](**CLIPS[clip]), long_batches())


@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm"])
@pytest.mark.parametrize("kind", ["used twice", "of three dimensions"])
def test_clips_other_kernels_in_a_long_batch(kind: str, clip: str) -> None:
    def build(w: Weights, x: Any) -> Any:
        if kind == "used twice":
            return dense(w, "same", dense(w, "same", x[:, :5], 5, "tanh"), 5)
        heads = tf.einsum("bi,iho->bho", x, w("heads", 8, 2, 3))
        return tf.reshape(heads, [-1, 6])

    fused, _ = _both(lambda: KERAS["adamw"](**CLIPS[clip]), long_batches(), build=build)
    assert fused.fused_ops["DenseSweep"] == 1


@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm"])
def test_a_long_batch_under_a_loss_scale(clip: str) -> None:
    batches = long_batches()
    batches[2][0, -2] = np.inf

    def make() -> Any:
        inner = optimizers.Adam(0.01, **CLIPS[clip])
        return optimizers.LossScaleOptimizer(inner, 8.0, dynamic_growth_steps=2)

    _both(make, batches)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"global_clipnorm": 1.0}, 1),
        ({"clipnorm": 1.0}, 1),
        ({"clipvalue": 1.0}, 0),
        ({"loss_scale_factor": 2.0}, 0),
        ({"global_clipnorm": 1.0, "gradient_accumulation_steps": 2}, 0),
    ],
)
@pytest.mark.parametrize("batch", [None, 200])
def test_when_gradients_are_kept(options: dict[str, Any], kept: int, batch: int | None) -> None:
    model = keras.Sequential([keras.Input((30,)), keras.layers.Dense(20, "tanh")])
    optimizer = optimizers.SGD(0.1, **options)
    optimizer.build(model.trainable_variables)

    @tf.function(input_signature=[tf.TensorSpec([batch, 30])])
    def step(x: tf.Tensor) -> None:
        iv = model(x)
        splitop.minimize(optimizer, iv, model.trainable_variables, tf.ones_like(iv))

    operations = step.get_concrete_function().graph.get_operations()
    (chain,) = (op for op in operations if op.type == "Splitop>DenseChain")
    assert chain.get_attr("num_kernel_gradients") == kept


@pytest.mark.parametrize("clip", CLIPS)
def test_clipping_changes_the_training(clip: str) -> None:
    clipped, plain = (
        dict(run_steps("keras", _mixed, make, _batches(), backend="auto").values)
        for make in (lambda: KERAS["sgd"](**CLIPS[clip]), KERAS["sgd"])
    )
    moved = [
        name for name in ("table", "a_k", "b_b") if not np.allclose(clipped[name], plain[name])
    ]
    assert bool(moved) == (clip != "loose")


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_nothing_is_added_where_nothing_is_asked_for(flavour: str) -> None:
    make = {"keras": KERAS["momentum"], "tf1": lambda: tf1.train.AdamOptimizer(0.01)}[flavour]
    steps = run_steps(flavour, _mixed, make, _batches(1), backend="auto")
    assert steps.writing_ops == {
        "DenseChain": len(steps.plan.chains),
        "MultiTensorUpdate": 1,
        "TableUpdate": 1,
    }


def test_a_loss_scale_divides_the_gradients() -> None:
    def dense_only(w: Weights, x: Any) -> Any:
        return dense(w, "top", dense(w, "low", x, 7, "tanh"), 5)

    for options in ({}, CLIPS["global_clipnorm"], CLIPS["clipvalue"]):
        _both(lambda o=options: KERAS["momentum"](loss_scale_factor=3.0, **o), build=dense_only)


@pytest.mark.parametrize(
    "options", [{}, {"global_clipnorm": 0.3}, {"clipnorm": 0.3}, {"use_ema": True}]
)
@pytest.mark.parametrize("growth", [2, 100])
def test_loss_scale_optimizer(options: dict[str, Any], growth: int) -> None:
    batches = _batches(7)
    batches[2][0, -2] = np.inf

    def make() -> Any:
        inner = optimizers.Adam(0.01, **options)
        return optimizers.LossScaleOptimizer(inner, 8.0, dynamic_growth_steps=growth)

    fused, _ = _both(make, batches)
    values = dict(fused.values)
    (scale,) = (value for name, value in values.items() if name.endswith("dynamic_scale"))
    # Doubled after every second good step since the bad one; the bad one halves it.
    assert scale == (8 * 2 * 0.5 * 2 * 2 if growth == 2 else 4)


@pytest.mark.parametrize(("clip", "steps"), [(None, 2), (None, 3), *((clip, 2) for clip in CLIPS)])
@pytest.mark.parametrize("name", ["momentum", "nadam"])
def test_accumulates_as_keras_does(name: str, clip: str | None, steps: int) -> None:
    options = {} if clip is None else CLIPS[clip]
    fused, _ = _both(
        lambda: KERAS[name](gradient_accumulation_steps=steps, **options),
        build=lambda w, x: _mixed(w, x, bound=False),
    )
    assert fused.plan.declined == {}
    assert fused.fused_ops["DenseSweep"] == len(fused.plan.chains)


@pytest.mark.parametrize("clip", [None, "clipnorm", "clipvalue"])
def test_accumulates_beside_variables_that_are_declined(clip: str | None) -> None:
    options = {} if clip is None else CLIPS[clip]
    fused, _ = _both(lambda: KERAS["nadam"](gradient_accumulation_steps=2, **options))
    assert list(fused.plan.declined) == ["bound/kernel"]


def test_a_global_norm_of_accumulators_that_tensorflow_has() -> None:
    options = {"gradient_accumulation_steps": 2, "global_clipnorm": 0.2}
    fused, _ = _both(lambda: KERAS["adamw"](**options))
    assert fused.plan.fused == ()
    assert r"add up some of them (has a constraint)" in fused.plan.declined["table:0"]


def test_accumulates_and_averages_weights() -> None:
    options = {"use_ema": True, "ema_overwrite_frequency": 1, "gradient_accumulation_steps": 2}
    _both(lambda: KERAS["adamw"](**options))


def test_accumulates_under_a_loss_scale() -> None:
    batches = _batches(8)
    batches[3][0, -2] = np.nan

    def make() -> Any:
        inner = optimizers.Adam(0.01, gradient_accumulation_steps=2, clipnorm=0.2)
        return optimizers.LossScaleOptimizer(inner, 8.0, dynamic_growth_steps=3)

    _both(make, batches)


def test_lazy_rows_can_not_be_accumulated() -> None:
    make = lambda: KERAS["adamw"](gradient_accumulation_steps=2)  # noqa: E731
    with pytest.raises(splitop.NotFusableError, match=r'"table:0".*gradient_accumulation_steps=2'):
        run_steps("keras", _mixed, make, _batches(1), sparse="lazy")


class MyMomentum(tf1.train.MomentumOptimizer):
    """An optimizer of the user's own."""


SKIPPING: dict[str, dict[str, Callable[[], Any]]] = {
    "keras": {
        "sgd": KERAS["sgd"],
        "adamw": KERAS["adamw"],
        "nadam": KERAS["nadam"],
        "clipped": lambda: KERAS["momentum"](global_clipnorm=0.5),
        "ema": lambda: KERAS["adamw"](use_ema=True, ema_overwrite_frequency=2),
        "accumulating": lambda: KERAS["momentum"](gradient_accumulation_steps=2),
        "no rule": lambda: optimizers.Lamb(0.01),
    },
    "tf1": {
        "sgd": lambda: tf1.train.GradientDescentOptimizer(0.05),
        "adam": lambda: tf1.train.AdamOptimizer(0.01),
        "ftrl": lambda: tf1.train.FtrlOptimizer(0.05),
        "no rule": lambda: MyMomentum(0.05, 0.9),
    },
}


def _assert_same_bits(actual: Steps, expected: Steps) -> None:
    for (name, value), (_, before) in zip(actual.values, expected.values, strict=True):
        assert np.asarray(value).tobytes() == np.asarray(before).tobytes(), name


@pytest.mark.parametrize(("backend", "planted"), [("auto", 0), ("auto", 2), ("reference", 1)])
@pytest.mark.parametrize(
    ("flavour", "name"), [(flavour, name) for flavour in FLAVOURS for name in SKIPPING[flavour]]
)
def test_a_step_that_is_not_finite_changes_no_bit(
    flavour: str, name: str, planted: int, backend: str
) -> None:
    def build(w: Weights, x: Any) -> Any:
        return _mixed(w, x, planted)

    good = _batches(3)
    bad = good[1].copy()
    bad[2, -1] = PLANTED
    make, options = SKIPPING[flavour][name], {"backend": backend, "skip_nonfinite": True}
    before = run_steps(flavour, build, make, good, **options)
    after = run_steps(flavour, build, make, [*good, bad], **options)
    _assert_same_bits(after, before)


@pytest.mark.parametrize("planted", range(4))
def test_what_is_planted_spoils_an_unchecked_step(planted: int) -> None:
    def build(w: Weights, x: Any) -> Any:
        return _mixed(w, x, planted)

    bad = _batches(1)[0]
    bad[2, -1] = PLANTED
    spoilt = run_steps("keras", build, KERAS["momentum"], [bad])
    assert not all(np.isfinite(value).all() for _, value in spoilt.values)


@pytest.mark.parametrize("planted", range(4))
def test_training_goes_on_after_a_step_that_was_left_out(planted: int) -> None:
    def build(w: Weights, x: Any) -> Any:
        return _mixed(w, x, planted)

    first, bad, last = _batches(3)
    bad[2, -1] = PLANTED
    make = KERAS["momentum"]
    skipped = run_steps("keras", build, make, [first, bad, last], skip_nonfinite=True)
    without = run_steps("keras", build, make, [first, last], skip_nonfinite=True)
    _assert_same_bits(skipped, without)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_finite_steps_are_those_without_the_check(flavour: str) -> None:
    make = SKIPPING[flavour]["adamw" if flavour == "keras" else "adam"]
    checked = run_steps(flavour, _mixed, make, _batches(), skip_nonfinite=True)
    unchecked = run_steps(flavour, _mixed, make, _batches())
    assert_same_values(checked, unchecked)


def test_global_step_stands_still_when_a_step_is_left_out() -> None:
    with tf.Graph().as_default(), tf1.Session() as session:
        x, w = tf1.placeholder(tf.float64, [None, 8]), Weights()
        iv = dense(w, "top", x, 5)
        global_step = tf1.train.get_or_create_global_step()
        step = splitop.minimize(
            tf1.train.AdamOptimizer(0.1),
            iv,
            w.variables,
            seed_for(iv),
            global_step=global_step,
            skip_nonfinite=True,
        )
        session.run(tf1.global_variables_initializer())
        good, bad = np.ones((2, 8)), np.full((2, 8), np.inf)
        counts = []
        for batch in (good, bad, good):
            session.run(step, {x: batch})
            counts.append(int(session.run(global_step)))
        assert counts == [1, 1, 2]


@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_a_gradient_too_large_for_float16_leaves_the_step_out(backend: str) -> None:
    """What overflows is dL/dx of the upper layer, after it the gradients of the lower one."""
    with tf.device("/CPU:0"):
        layers = [keras.layers.Dense(units, dtype="mixed_float16") for units in (3, 2)]
        for layer, inputs in zip(layers, (4, 3), strict=True):
            layer.build((None, inputs))
            layer.kernel.assign(tf.ones_like(layer.kernel))
        weights = [weight for layer in layers for weight in layer.weights]
        optimizer = optimizers.LossScaleOptimizer(optimizers.Adam(), 8.0)
        optimizer.build(weights)
        variables = [*weights, *optimizer.inner_optimizer.variables]

        @tf.function(autograph=False)
        def step(seed: Any) -> None:
            iv = layers[1](layers[0](tf.ones((5, 4))))
            splitop.plan(optimizer, iv, weights, seed, backend=backend).apply()

        step(tf.ones((5, 2), tf.float16))
        before = [variable.numpy() for variable in variables]
        step(tf.fill((5, 2), tf.constant(60000, tf.float16)))
        for variable, value in zip(variables, before, strict=True):
            assert variable.numpy().tobytes() == value.tobytes(), variable.path
        assert optimizer.dynamic_scale.numpy() == 4


class Replaced(keras.layers.Layer):
    """Scales by a variable whose gradient is its next value, as those of float8 layers are."""

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")
        self.scale.overwrite_with_gradient = True

    def call(self, x: Any) -> Any:
        return x * self.scale


@pytest.mark.parametrize(
    "make",
    [
        lambda: optimizers.LossScaleOptimizer(optimizers.SGD(0.1), 8.0),
        lambda: optimizers.SGD(0.1, global_clipnorm=0.5),
        lambda: optimizers.SGD(0.1, gradient_accumulation_steps=2),
        lambda: optimizers.SGD(0.1, loss_scale_factor=4.0),
    ],
)
def test_variables_that_are_replaced_by_their_gradient(make: Callable[[], Any]) -> None:
    def build(w: Weights, x: Any) -> Any:
        return w.layer("replaced", Replaced, dense(w, "top", x, 5, "tanh"))

    fused, _ = _both(make, build=build)
    assert list(fused.plan.declined) == ["replaced/scale"]


def test_skipping_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitop._src.library, "reason", lambda: "The library is gone.")
    monkeypatch.setattr(splitop._src.library, "load", None)
    first, bad = _batches(2)
    bad[0] = np.nan
    options = {"skip_nonfinite": True, "backend": "reference"}
    before = run_steps("keras", _mixed, KERAS["adamw"], [first], **options)
    after = run_steps("keras", _mixed, KERAS["adamw"], [first, bad], **options)
    _assert_same_bits(after, before)


def test_a_loss_scale_around_an_optimizer_without_a_rule() -> None:
    batches = _batches(3)
    batches[1][0] = np.inf

    def make() -> Any:
        return optimizers.LossScaleOptimizer(optimizers.Lamb(0.01), 8.0, dynamic_growth_steps=2)

    checked = run_steps("keras", _mixed, make, batches, skip_nonfinite=True)
    alone = run_steps("keras", _mixed, make, batches)
    assert_same_values(checked, alone)


def test_accumulation_under_a_loss_scale_in_a_graph() -> None:
    with tf.Graph().as_default():
        w, x = Weights(), tf.zeros([2, 8], tf.float64)
        iv = dense(w, "top", x, 5)
        inner = optimizers.SGD(0.1, gradient_accumulation_steps=2)
        with pytest.raises(splitop.SplitError, match=r"accumulates gradients.*_steps=2"):
            splitop.minimize(optimizers.LossScaleOptimizer(inner), iv, w.variables)
