"""Cutting one model in two."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest

import splitop
from splitop.keras import SplitModel
from tests.keras.models import CASES, adam, build, fit, rows, skip, state

layers = keras.layers


@pytest.mark.parametrize("name", CASES)
def test_predicts_as_the_model(name: str) -> None:
    case = CASES[name]
    model = build(case)
    x, _ = case.data()
    split = SplitModel.cut(model, case.at, name="halves")
    assert split.name == "halves"
    expected, received = model.predict(x, verbose=0), split.predict(x, verbose=0)
    keras.tree.map_structure(np.testing.assert_array_equal, received, expected)
    assert [w.path for w in split.weights] == [w.path for w in model.weights]


def test_trains_the_layers_of_the_model() -> None:
    case = CASES["dense"]
    model = build(case)
    x, y = case.data()
    split = SplitModel.cut(model, "mid")
    split.compile(adam(), adam(), "mse")
    before = model.predict(x, verbose=0)
    fit(split, x, y)
    assert np.all(model.predict(x, verbose=0) != before)
    np.testing.assert_array_equal(model.predict(x, verbose=0), split.predict(x, verbose=0))


def test_structures_of_iv() -> None:
    assert isinstance(
        SplitModel.cut(build(CASES["dense"]), "mid").second_part.output, keras.KerasTensor
    )
    one, several = (
        SplitModel.cut(build(CASES[n]), at).second_part.output
        for n, at in (("dense", ["mid"]), ("siamese", "encoder"))
    )
    assert [tensor.shape for tensor in one] == [(None, 6)]
    assert [tensor.shape for tensor in several] == [(None, 6), (None, 6)]


class TestErrors:
    def test_unknown_layer(self) -> None:
        message = r"no layer of that name\. Did you mean 'mid'\? There are: .*low, mid.*: 'midd'\."
        with pytest.raises(splitop.CutError, match=message):
            SplitModel.cut(build(CASES["dense"]), "midd")

    def test_skip_connection_and_its_cure(self) -> None:
        model = skip()
        message = (
            r"the outputs of 'low' go round it.*Name them, too: (\[.*\])\. Received: low -> add\."
        )
        with pytest.raises(splitop.CutError, match=message) as error:
            SplitModel.cut(model, "mid")
        found = re.search(message, str(error.value))
        assert found is not None
        SplitModel.cut(model, eval(found[1]))

    def test_input_that_both_parts_take(self) -> None:
        message = r"'b' go round it.*\['deep', 'b'\]"
        with pytest.raises(splitop.CutError, match=message):
            SplitModel.cut(build(CASES["wide"]), "deep")

    def test_output_of_the_second_part(self) -> None:
        x = keras.Input((4,))
        low = layers.Dense(3, name="low")(x)
        model = keras.Model(x, [layers.Dense(2)(layers.Dense(3, name="mid")(low)), low])
        with pytest.raises(splitop.CutError, match="low -> the model's output"):
            SplitModel.cut(model, "mid")

    def test_shared_layer(self) -> None:
        x = keras.Input((4,))
        shared = layers.Dense(4, name="shared")
        mid = layers.Dense(4, name="mid")(shared(x))
        with pytest.raises(splitop.CutError, match="between two uses of 'shared'"):
            SplitModel.cut(keras.Model(x, shared(mid)), "mid")

    def test_layer_without_weights_may_be_shared(self) -> None:
        x = keras.Input((4,))
        relu = layers.ReLU(name="shared")
        mid = layers.Dense(4, name="mid")(relu(x))
        SplitModel.cut(keras.Model(x, relu(mid)), "mid")

    @pytest.mark.parametrize(("at", "part"), [("top", "first"), ("x", "second")])
    def test_nothing_left(self, at: str, part: str) -> None:
        x = keras.Input((4,), name="x")
        model = keras.Model(x, layers.Dense(2, name="top")(layers.Dense(3)(x)))
        with pytest.raises(splitop.CutError, match=f"no layer is left for the {part} part"):
            SplitModel.cut(model, at)

    @pytest.mark.parametrize("model", [keras.Sequential([layers.Dense(2)]), 3])
    def test_that_can_not_be_cut(self, model: Any) -> None:
        with pytest.raises(splitop.CutError, match="only a functional or a sequential"):
            SplitModel.cut(model, "dense")

    def test_no_name(self) -> None:
        with pytest.raises(splitop.CutError, match="at least one layer"):
            SplitModel.cut(build(CASES["dense"]), [])

    @pytest.mark.parametrize("op", ["argmax", "stop_gradient"])
    def test_no_gradient_flows_back(self, op: str) -> None:
        x = keras.Input((4,))
        h = layers.Dense(3, name="low")(x)
        if op == "argmax":
            h = layers.Lambda(lambda t: keras.ops.argmax(t, -1), name="at")(h)
            h = layers.Embedding(3, 2)(h)
        else:
            h = layers.Lambda(keras.ops.stop_gradient, name="at")(h)
        model = SplitModel.cut(keras.Model(x, layers.Dense(2)(h)), "at")
        model.compile(adam(), adam(), "mse")
        before = state(model)
        with pytest.raises(splitop.CutError, match="no gradient flows back to the second part"):
            model.train_on_batch(rows(4), rows(2))
        after = state(model)
        for name in ("low/kernel", "low/bias"):
            np.testing.assert_array_equal(after[name], before[name])


class TestTwoParts:
    def test_an_iv_that_the_loss_ignores(self) -> None:
        x = keras.Input((4,))
        used = keras.layers.Dense(6, "relu", name="used")(x)
        ignored = keras.layers.Dense(3, name="ignored")(x)
        ivs = [keras.Input((6,)), keras.Input((3,))]
        first = keras.Model(ivs, keras.layers.Dense(2)(ivs[0]))
        model = SplitModel(keras.Model(x, [used, ignored]), first)
        model.compile("sgd", "adam", loss="mse")
        message = r'no gradient of the loss flows back to .*ignored.*Received: variable "ignored/'
        with pytest.raises(splitop.VariableListError, match=message):
            model.fit(np.ones((5, 4)), np.ones((5, 2)), verbose=0)

    def test_that_do_not_fit(self) -> None:
        second = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
        first = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
        with pytest.raises(
            splitop.CutError, match=r"Expected: \(None, 2\)\. Received: \(None, 3\)"
        ):
            SplitModel(second, first)

    def test_that_share_a_variable(self) -> None:
        dense = layers.Dense(4, name="dense")
        second, first = (keras.Sequential([keras.Input((4,)), dense]) for _ in range(2))
        with pytest.raises(splitop.CutError, match=r"dense/kernel, .*dense/bias in both"):
            SplitModel(second, first)

    def test_that_is_one(self) -> None:
        model = build(CASES["dense"])
        with pytest.raises(splitop.CutError, match="must be two models"):
            SplitModel(model, model)

    def test_that_is_no_model(self) -> None:
        with pytest.raises(
            splitop.SplitError, match=r"first_part must be a keras\.Model\. Received: 3"
        ):
            SplitModel(build(CASES["dense"]), 3)


@pytest.mark.parametrize("method", ["call", "train_step", "compute_loss"])
def test_a_model_with_methods_of_its_own(method: str) -> None:
    own = type("Own", (keras.Model,), {method: lambda self, *args, **options: None})
    x = keras.Input((6,))
    model = own(x, keras.layers.Dense(3)(keras.layers.Dense(4, name="iv")(x)))
    with pytest.raises(splitop.CutError, match=rf"its own methods.*Received: Own with {method}"):
        SplitModel.cut(model, "iv")
