"""Saving, loading, and serving without splitop."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop.keras import SplitModel
from tests.keras.models import (
    CASES,
    adam,
    assert_same_bits,
    fit,
    momentum,
    split_model,
    state,
)

# What Keras itself warns of when it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

SERVE = """
import sys
sys.modules["splitop"] = None  # as if it were not installed
import numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
data = np.load(sys.argv[2])
inputs = {name: tf.constant(data[name]) for name in data.files}
x = [inputs[name] for name in sorted(inputs)]
x = inputs if sys.argv[4] == "dict" else x if len(x) > 1 else x[0]
out = loaded.serve(x)
signature = loaded.signatures["serving_default"]
names = signature.structured_input_signature[1]
served = signature(**dict(zip(sorted(names), [inputs[name] for name in sorted(inputs)])))
np.savez(sys.argv[3], **{f"serve{i}": v for i, v in enumerate(tf.nest.flatten(out))},
         **{f"signature{i}": v for i, v in enumerate(tf.nest.flatten(served))})
"""


def by_position(model: Any) -> dict[str, np.ndarray]:
    """The state, as a loaded variable's name may lack that of the model that it was cut from."""
    return {str(at): value for at, value in enumerate(state(model).values())}


@pytest.mark.parametrize("name", CASES)
def test_goes_on_to_the_same_bits(name: str, tmp_path: pathlib.Path) -> None:
    case = CASES[name]
    x, y = case.data()
    model = split_model(case, metrics=None)
    fit(model, x, y)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, SplitModel)
    assert_same_bits(by_position(loaded), by_position(model))
    for each in (model, loaded):  # Not `fit` of these tests, which sets seeds.
        for _ in range(3):
            each.train_on_batch(x, y)
    assert_same_bits(by_position(loaded), by_position(model))


def test_keeps_how_it_was_compiled(tmp_path: pathlib.Path) -> None:
    case = CASES["towers"]
    model = SplitModel.cut(case.make(), case.at, name="both")
    model.compile(
        adam(),
        momentum(),
        loss={"out": keras.losses.Huber(), "side": "binary_crossentropy"},
        loss_weights={"out": 0.5, "side": 2.0},
        metrics={"out": ["mae"]},
        weighted_metrics={"side": [keras.metrics.AUC(name="auc")]},
        first_steps=2,
        second_steps=3,
        backend="reference",
        sparse="lazy",
        skip_nonfinite=True,
        steps_per_execution=2,
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_compile_config() == model.get_compile_config()
    assert loaded.name == "both"
    x, y = case.data()
    metrics = [each.evaluate(x, y, verbose=0, return_dict=True) for each in (model, loaded)]
    assert metrics[0] == metrics[1]
    assert {"out_mae", "side_auc"} <= metrics[0].keys()


def test_rates_that_were_changed_and_schedules(tmp_path: pathlib.Path) -> None:
    case = CASES["dense"]
    model = split_model(case)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
    model.compile(adam(), keras.optimizers.Adam(schedule), "mse")
    model.optimizer.learning_rate = 0.125
    fit(model, *case.data())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert float(loaded.optimizer.learning_rate.numpy()) == 0.125
    assert loaded.second_optimizer.get_config() == model.second_optimizer.get_config()


def test_not_compiled(tmp_path: pathlib.Path) -> None:
    case = CASES["dense"]
    model = SplitModel.cut(case.make(), case.at)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x, _ = case.data()
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    assert not loaded.compiled
    compiled = split_model(case)
    compiled.save(tmp_path / "compiled.keras")
    assert not keras.models.load_model(tmp_path / "compiled.keras", compile=False).compiled


@keras.saving.register_keras_serializable(package="splitop_tests")
class Encoder(keras.Model):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.dense = keras.layers.Dense(6, "relu")

    def call(self, x: Any) -> Any:
        return self.dense(x)


@pytest.mark.parametrize("second", [lambda: keras.Sequential([keras.layers.Dense(6)]), Encoder])
def test_parts_that_the_first_batch_has_built(second: Any, tmp_path: pathlib.Path) -> None:
    x, y = CASES["dense"].data()
    model = SplitModel(second(), keras.Sequential([keras.layers.Dense(3)]))
    model.compile(adam(), adam(), "mse")
    fit(model, x, y)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        each.train_on_batch(x, y)
    assert_same_bits(by_position(loaded), by_position(model))
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    np.testing.assert_allclose(served.serve(x), model.predict(x, verbose=0), 1e-5, 1e-6)


def test_operations_that_are_no_layers(tmp_path: pathlib.Path) -> None:
    x, y = CASES["dense"].data()
    inputs = keras.Input((9,))
    h = keras.layers.Dense(6, name="mid")(inputs)
    h = keras.ops.concatenate([h[:, :3] * 2.0 + 1.0, keras.ops.relu(h)], -1)
    model = SplitModel.cut(keras.Model(inputs, keras.layers.Dense(3)(h)), "mid")
    model.compile(adam(), adam(), "mse")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        each.train_on_batch(x, y)
    assert_same_bits(by_position(loaded), by_position(model))


def test_checkpoint_of_tensorflow(tmp_path: pathlib.Path) -> None:
    case = CASES["dense"]  # Keras gives it no states of random layers.
    x, y = case.data()
    model, other = (split_model(case, first_steps=1, second_steps=3) for _ in range(2))
    for _ in range(2):
        model.train_on_batch(x, y)
    path = tf.train.Checkpoint(model=model).save(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(model=other).restore(path)
    for each in (model, other):
        each.train_on_batch(x, y)
    assert_same_bits(state(other), state(model))
    assert int(other.optimizer.iterations.numpy()) == 1


def test_a_frozen_part(tmp_path: pathlib.Path) -> None:
    case = CASES["dense"]
    model = split_model(case)
    model.second_part.trainable = False
    model.compile(adam(), None, "mse")
    x, y = case.data()
    fit(model, x, y)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.second_part.trainable_variables == []
    for each in (model, loaded):
        each.train_on_batch(x, y)
    assert_same_bits(state(loaded), state(model))


def test_not_in_the_old_format(tmp_path: pathlib.Path) -> None:
    model = split_model(CASES["everything"])
    with pytest.raises(splitop.SplitError, match=r"saved as a \.keras file.*Received: .*m\.h5"):
        model.save(tmp_path / "m.h5")
    assert not (tmp_path / "m.h5").exists()


def test_weights_alone(tmp_path: pathlib.Path) -> None:
    case = CASES["everything"]
    model, other = split_model(case), split_model(case)
    fit(model, *case.data())
    model.save_weights(tmp_path / "m.weights.h5")
    other.load_weights(tmp_path / "m.weights.h5")
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_copies() -> None:
    case = CASES["dense"]
    model = split_model(case)
    for copy in (SplitModel.from_config(model.get_config()), keras.models.clone_model(model)):
        assert copy.get_config() == model.get_config()
        assert [w.shape for w in copy.weights] == [w.shape for w in model.weights]
        assert not {id(w) for w in copy.weights} & {id(w) for w in model.weights}


def test_summary_and_layers(capsys: Any) -> None:
    model = split_model(CASES["dense"])
    model.summary(expand_nested=True)
    assert "mid (Dense)" in capsys.readouterr().out
    assert model.layers == [model.second_part, model.first_part]
    assert model.count_params() == sum(int(np.prod(w.shape)) for w in model.weights)


@pytest.mark.parametrize("name", ["everything", "towers", "wide", "masked"])
def test_serves_without_splitop(name: str, tmp_path: pathlib.Path) -> None:
    case = CASES[name]
    x, y = case.data()
    model = split_model(case)
    model.train_on_batch(x, y)
    model.export(tmp_path / "served", verbose=False)
    given = x if isinstance(x, dict) else dict(zip("abc", tf.nest.flatten(x), strict=False))
    np.savez(tmp_path / "x.npz", **given)
    kind = "dict" if isinstance(x, dict) else "list"
    files = [str(tmp_path / each) for each in ("served", "x.npz", "y.npz")]
    subprocess.run([sys.executable, "-c", SERVE, *files, kind], check=True, cwd=tmp_path)
    results = np.load(tmp_path / "y.npz")
    expected = tf.nest.flatten(model(x, training=False))
    assert len(results.files) == 2 * len(expected)
    for number, value in enumerate(expected):
        for way in ("serve", "signature"):
            np.testing.assert_allclose(results[f"{way}{number}"], value, 1e-5, 1e-6)


def test_merged_is_a_plain_model(tmp_path: pathlib.Path) -> None:
    case = CASES["everything"]
    x, y = case.data()
    model = split_model(case)
    fit(model, x, y)
    merged = model.merged()
    assert type(merged).__module__.startswith("keras.")
    np.testing.assert_array_equal(merged.predict(x, verbose=0), model.predict(x, verbose=0))
    merged.save(tmp_path / "merged.keras")
    assert b"splitop>" not in (tmp_path / "merged.keras").read_bytes()


def test_merged_needs_symbolic_inputs() -> None:
    class Encoder(keras.Model):
        def call(self, x: Any) -> Any:
            return x * 2

    model = SplitModel(Encoder(), keras.Sequential([keras.layers.Dense(2)]))
    with pytest.raises(splitop.SplitError, match="must be a functional or sequential model"):
        model.merged()
