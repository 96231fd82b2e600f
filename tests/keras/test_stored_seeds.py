"""A second part that trains later, from stored seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import splitop
from tests.keras.models import CASES, adam, assert_same_bits, split_model, state


def own_state(model: Any) -> dict[str, np.ndarray]:
    """What belongs to the second part and its optimizer."""
    names = {weight.path: weight.numpy() for weight in model.second_part.weights}
    return names | {v.path.split("/")[-1]: v.numpy() for v in model.second_optimizer.variables}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_is_the_second_half_of_a_step(name: str, backend: str) -> None:
    """The same mask, statistics that move once, the same losses of the part's own."""
    case = CASES[name]
    x, y = case.data()
    at_once, later = (split_model(case, backend=backend) for _ in range(2))
    for _ in range(3):
        at_once.train_on_batch(x, y)
        seed = later.seed_on_batch(x, y)
        later.train_second_on_batch(x, seed)
        variables = zip(later.first_part.variables, at_once.first_part.variables, strict=True)
        for variable, moved in variables:  # Random states among them.
            variable.assign(moved)
    expected = own_state(at_once)
    for key, value in own_state(later).items():
        np.testing.assert_allclose(value, expected[key], 2e-5, 2e-6, err_msg=key)


def test_changes_nothing() -> None:
    case = CASES["everything"]
    x, y = case.data()
    model = split_model(case, metrics=["mae"])
    model.train_on_batch(x, y)
    before = state(model) | {v.path: v.numpy() for v in model.metrics_variables}
    first, second = model.seed_on_batch(x, y), model.seed_on_batch(x, y)
    np.testing.assert_array_equal(first, second)
    assert_same_bits(state(model) | {v.path: v.numpy() for v in model.metrics_variables}, before)


def test_structure_and_values() -> None:
    case = CASES["towers"]
    x, y = case.data()
    model = split_model(case)
    seed = model.seed_on_batch(x, y)
    assert [(type(s), s.shape, s.dtype) for s in seed] == [
        (np.ndarray, (37, 6), np.float32),
        (np.ndarray, (37, 4), np.float32),
    ]
    norm = model.train_on_batch(x, y, return_dict=True)["seed_norm"]
    np.testing.assert_allclose(np.linalg.norm(np.concatenate(seed, 1)), norm, 1e-5)
    masked = CASES["masked"]
    data, mask = split_model(masked).seed_on_batch(*masked.data())
    assert data.shape == (37, 7, 5)
    assert mask is None


def test_weights_of_rows() -> None:
    case = CASES["dense"]
    x, y = case.data()
    weights = np.zeros(len(x), np.float32)
    weights[3] = 1
    seed = split_model(case).seed_on_batch(x, y, weights)
    assert np.flatnonzero(np.abs(seed).sum(1)).tolist() == [3]


def test_from_a_file_in_other_batches(tmp_path: Any) -> None:
    case = CASES["dense"]
    x, y = case.data()
    model = split_model(case)
    seed = model.seed_on_batch(x, y)
    np.save(tmp_path / "seed.npy", seed)
    stored = np.load(tmp_path / "seed.npy").astype(np.float64)
    before = state(model)
    for rows in (slice(0, 20), slice(20, 37)):
        model.train_second_on_batch(x[rows], stored[rows])
    after = state(model)
    assert np.all(after["low/kernel"] != before["low/kernel"])
    np.testing.assert_array_equal(after["top/kernel"], before["top/kernel"])
    counts = [int(o.iterations.numpy()) for o in (model.optimizer, model.second_optimizer)]
    assert counts == [0, 2]


class TestErrors:
    x, y = CASES["dense"].data()

    @pytest.mark.parametrize(
        ("seed", "error", "message"),
        [
            (
                np.ones((37, 5), np.float32),
                splitop.SeedError,
                r"shape of .*\(37, 5\)",
            ),
            (np.ones((37, 6), np.int32), splitop.SeedError, "floating dtype. Received: .*int32"),
            ([np.ones((37, 6))] * 2, splitop.SeedError, "must have the structure of IV"),
            (None, splitop.CutError, "no gradient flows back"),
        ],
    )
    def test_unfit_seeds(self, seed: Any, error: Any, message: str) -> None:
        model = split_model(CASES["dense"])
        before = state(model)
        with pytest.raises(error, match=message):
            model.train_second_on_batch(self.x, seed)
        assert_same_bits(state(model), before)

    def test_seed_of_another_batch(self) -> None:
        model = split_model(CASES["dense"])
        before = state(model)
        with pytest.raises((splitop.SeedError, tf.errors.InvalidArgumentError), match="shape"):
            model.train_second_on_batch(self.x, np.ones((36, 6), np.float32))
        assert_same_bits(state(model), before)

    def test_frozen(self) -> None:
        model = split_model(CASES["dense"])
        model.second_part.trainable = False
        model.compile(adam(), None, "mse")
        seed = model.seed_on_batch(self.x, self.y)
        with pytest.raises(splitop.SplitError, match="the second part is frozen"):
            model.train_second_on_batch(self.x, seed)

    def test_not_compiled(self) -> None:
        case = CASES["dense"]
        model = splitop.keras.SplitModel.cut(case.make(), case.at)
        with pytest.raises(splitop.SplitError, match="compile the SplitModel before"):
            model.train_second_on_batch(self.x, np.ones((37, 6)))
