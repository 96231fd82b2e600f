"""What a broken step looks like, and what rounding may do."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop._src.optimizers.keras_adapters import keras_adapter
from splitop._src.verify import rounding
from splitop._src.verify.comparison import compare
from tests.verify import models
from tests.verify.models import verify

FUSED = "fused against reference"


def failures(report: splitop.VerifyReport, compared: str) -> set[str]:
    return {row.name for row in report.failures if row.compared == compared}


@pytest.mark.parametrize("factor", [1 + 1e-4, -1.0, float("nan")])
def test_a_wrong_hyperparameter_of_the_fused_op(
    monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    adapter = type(keras_adapter(keras.optimizers.Adam()))
    original = adapter.hyper
    monkeypatch.setattr(adapter, "hyper", lambda self, dtype: original(self, dtype) * factor)
    report = verify()
    broken = failures(report, FUSED)
    assert "low/kernel" in broken
    assert "second_adam/top_kernel_velocity" in broken
    assert "logits/kernel" not in failures(verify(steps=1), FUSED)  # SGD's is right.
    assert not failures(report, "split against joint")
    row = next(row for row in report.failures if row.name == "low/kernel")
    assert len(row.where) == 2
    assert "BEYOND ROUNDING" in str(report)


def test_a_wrong_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    from splitop._src.verify import step

    original = step.seeds_of
    monkeypatch.setattr(
        step, "seeds_of", lambda loss, ivs: [s * (1 + 1e-5) for s in original(loss, ivs)]
    )
    report = verify()
    broken = {row.name for row in report.failures if row in report.gradients}
    assert {"low/kernel", "top/kernel", "top/bias"} <= broken
    assert "logits/kernel" not in broken


def test_one_wrong_element(monkeypatch: pytest.MonkeyPatch) -> None:
    """A single element of a gradient is off by a thousandth of the largest one."""
    from splitop._src.verify import step

    original = step._as_tensor

    def wrong(gradient: Any, variable: Any) -> Any:
        value = original(gradient, variable)
        wrong.calls += 1  # type: ignore[attr-defined]
        if wrong.calls % 12 != 7:  # type: ignore[attr-defined]
            return value
        off = np.zeros(variable.shape, np.float32)
        off[3, 2] = 1e-3
        return value + off * tf.reduce_max(tf.abs(value))

    wrong.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(step, "_as_tensor", wrong)
    report = verify(steps=1)
    (row,) = (row for row in report.gradients if not row.ok)
    assert row.name == "low/kernel"
    assert row.where == (3, 2)
    assert row.relative == pytest.approx(1e-3, rel=1e-2)


def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from splitop._src import library

    monkeypatch.setattr(library, "reason", lambda: "it was not built")
    monkeypatch.setattr(library, "warn_once", lambda: None)
    report = verify()
    assert report.ok
    assert set(report.declined.values()) == {"it was not built"}
    assert "it was not built" in str(report)


def test_what_is_expected_where_both_are_not_finite() -> None:
    def row(got: list[float], wanted: list[float]) -> Any:
        (found,) = compare(
            "a against b",
            ["w"],
            [[np.array(got, np.float32)]],
            [[np.array(wanted, np.float32)]],
            [[0.0]],
            None,
            0.0,
        )
        return found

    nan, inf = float("nan"), float("inf")
    assert row([nan, inf, 1], [nan, inf, 1]).ok
    for got in ([1, inf, 1], [nan, -inf, 1], [nan, inf, nan]):
        found = row(got, [nan, inf, 1])
        assert not found.ok
        assert found.difference == inf
    assert row([1, 1], [1, 1 + 4 * 2**-23]).ok
    assert not row([1, 1], [1, 1 + 5 * 2**-23]).ok
    assert row([1, 1], [1, 1 + 4 * 2**-23]).ulp == 4


def test_integers_have_no_rounding() -> None:
    rows = compare("", ["n"], [[np.array(2)]], [[np.array(1)]], [[9.0]], None, 1.0)
    assert not rows[0].ok


@pytest.mark.parametrize(
    ("value", "expected"), [(1.0, 2**-23), (1.99, 2**-23), (2.0, 2**-22), (0.0, 2**-149)]
)
def test_ulp(value: float, expected: float) -> None:
    assert rounding.ulp(np.array([value, -value / 2], np.float32)) == expected


def test_the_longest_sum_of_a_graph() -> None:
    with tf.Graph().as_default() as graph:
        a = tf.compat.v1.placeholder(tf.float32, [7, 64])
        b = tf.compat.v1.placeholder(tf.float32, [64, 3])
        tf.matmul(a, b)
        assert rounding.step_error(graph.get_operations()) == 8 * 2**-24
        tf.reduce_sum(tf.cast(a, tf.bfloat16))
        assert rounding.step_error(graph.get_operations()) == np.sqrt(7 * 64) * 2**-8


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"steps": 0}, r"steps.*Received: 0 \(int\)\."),
            ({"steps": True}, r"steps.*Received: True \(bool\)\."),
            ({"loss": None}, "loss must be given"),
            ({"loss": "cross_entropy_of_sorts"}, "name of one of Keras'"),
            ({"loss": ["mse"]}, "several outputs"),
            ({"x": None}, "x must be a batch"),
            ({"first_optimizer": None}, "first_optimizer must be given"),
            ({"second_optimizer": "adam"}, "must be a keras.optimizers.Optimizer"),
            ({"first_part": None}, "takes a model with its cut"),
            ({"iv": 1}, r"Received: iv and second_part\."),
            ({"second_part": abs}, "second_vars must list"),
        ],
    )
    def test_of_arguments(self, arguments: dict[str, Any], message: str) -> None:
        parts = {"second_part": models.second_part(), "first_part": models.first_part()}
        with pytest.raises(splitop.SplitError, match=message):
            verify(**{**parts, **arguments})

    def test_nothing_to_verify(self) -> None:
        with pytest.raises(splitop.SplitError, match=r"Received: none of them\."):
            splitop.verify(loss="mse", **models.optimizers())

    @pytest.mark.parametrize(
        ("cut", "message"),
        [
            (None, "cut must name the layer"),
            ("nowhere", r"no layer of that name\..*cut.*Received: 'nowhere'"),
            ([], "at least one layer"),
            (3, "must be a layer's name"),
        ],
    )
    def test_of_a_cut(self, cut: Any, message: str) -> None:
        model = models.chain(models.FEATURES, keras.layers.Dense(4, name="cut"))
        with pytest.raises(splitop.SplitError, match=message):
            verify(model=model, cut=cut)

    def test_a_model_that_is_not_built(self) -> None:
        model = keras.Sequential([keras.layers.Dense(4, name="cut")])
        with pytest.raises(splitop.CutError, match="that is built"):
            verify(model=model, cut="cut")
        with pytest.raises(splitop.VariableListError, match="must be built"):
            verify(second_part=model, first_part=models.first_part())

    def test_under_a_strategy(self) -> None:
        with (
            tf.distribute.MirroredStrategy(["CPU:0"]).scope(),
            pytest.raises(splitop.SplitError, match="outside of the scope"),
        ):
            verify()

    def test_raise_if_failed(self) -> None:
        optimizer = keras.optimizers.SGD()
        report = verify(first_optimizer=optimizer, second_optimizer=optimizer)
        with pytest.raises(splitop.VerifyError, match="one optimizer for both parts"):
            report.raise_if_failed()
