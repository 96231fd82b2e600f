"""Parts as Ray actors."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

from splitop.ray import Batches, Party, Trainer
from tests.ray_parts import parts

MODULE = "tests.ray_parts.parts"
BATCHES = Batches(parts.KEYS, 12, seed=1)


def make(folder: pathlib.Path, names: tuple[str, ...] = ("bank",), **options: Any) -> Trainer:
    return Trainer(
        Party("head", f"{MODULE}:head", folder / "head", {"names": names}, num_cpus=0.5),
        [
            Party(name, f"{MODULE}:encoder", folder / name, {"name": name}, num_cpus=0.5)
            for name in names
        ],
        **options,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_two_second_parts(tmp_path: pathlib.Path) -> None:
    names = ("bank", "shop")
    with make(tmp_path, names, save_every=3) as trainer:
        losses = trainer.train(BATCHES, until=8)
        prediction = trainer.predict(parts.KEYS[:5])
    one = parts.OneProcess(names)
    assert losses == one.train(BATCHES, 8)
    ivs = [model(parts.inputs(name)[:5]) for name, model in one.seconds.items()]
    np.testing.assert_array_equal(prediction, one.first(ivs))
