"""What a trainer and its parts make of failures: parts in this process, and no Ray.

A part that "dies" here loses all that it has in memory; see test_kill.py for processes that are
killed.
"""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import splitop
from splitop._src.parties.server import going_on
from splitop.ray import Batches, Party, Trainer
from tests.ray_parts import parts
from tests.ray_parts.local import (
    DIES_AFTER,
    DIES_BEFORE,
    LOST_CALL,
    LOST_REPLY,
    TWICE,
    Fault,
    LocalLink,
)

MODULE = "tests.ray_parts.parts"
BATCHES = Batches(parts.KEYS, 12, seed=1)
NAMES = ("bank", "shop")
STEPS = 5
PHASES = [
    *itertools.product(["head"], ["start", "restore", "step", "save"]),
    *itertools.product(["shop"], ["start", "restore", "forward", "update", "save"]),
]


def make(
    folder: pathlib.Path, fault: Fault | None = None, config: Any = None, **options: Any
) -> tuple[Trainer, LocalLink]:
    links: list[LocalLink] = []

    def link(parties: Any, settings: Any) -> LocalLink:
        links.append(LocalLink(parties, settings, fault))
        return links[0]

    trainer = Trainer(
        Party("head", f"{MODULE}:head", folder / "head", {"names": NAMES}),
        [
            Party(name, f"{MODULE}:encoder", folder / name, {"name": name} | (config or {}))
            for name in NAMES
        ],
        link=link,
        **options,
    )
    return trainer, links[0]


def weights(link: LocalLink) -> list[np.ndarray]:
    """Of all parts, with the state of their optimizers and of their random numbers."""
    result = []
    for name in ("head", *NAMES):
        part = link.servers[name]._part
        result += [np.asarray(v) for v in (*part.model.variables, *part.optimizer.variables)]
        result += [np.asarray(layer.seed_generator.state) for layer in dropouts(part.model)]
    return result


def dropouts(model: Any) -> list[Any]:
    return [layer for layer in model.layers if hasattr(layer, "seed_generator")]


def assert_same(left: list[np.ndarray], right: list[np.ndarray]) -> None:
    assert len(left) == len(right) > 30
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[int, float], Any]:
    """The losses, and all state at the end, of a training that nothing happens to."""
    trainer, link = make(tmp_path_factory.mktemp("plain"), save_every=2)
    return trainer.train(BATCHES, STEPS), weights(link)


class Once:
    """Has a fault happen the nth time that a party is asked for something."""

    def __init__(self, party: str, phase: str, kind: str, nth: int = 1) -> None:
        self._wanted, self._kind, self.left = (party, phase), kind, nth

    def __call__(self, party: str, method: str, _: Any) -> str | None:
        if (party, method) != self._wanted or self.left == 0:
            return None
        self.left -= 1
        return self._kind if self.left == 0 else None


def test_as_in_one_process(expected: Any) -> None:
    losses, state = expected
    one = parts.OneProcess(NAMES)
    assert losses == one.train(BATCHES, STEPS)
    models = (one.first, *one.seconds.values())
    found = iter(state)
    for model in models:
        for variable in model.variables:
            assert any(np.array_equal(variable, each) for each in found), variable.path
    joint = parts.OneProcess(NAMES, in_one=True).train(BATCHES, STEPS)
    np.testing.assert_allclose(list(losses.values()), list(joint.values()), 1e-5)


@pytest.mark.parametrize("kind", [DIES_BEFORE, DIES_AFTER])
@pytest.mark.parametrize(("party", "phase"), PHASES)
def test_a_part_that_dies(
    tmp_path: pathlib.Path, expected: Any, party: str, phase: str, kind: str
) -> None:
    """At any moment: what is trained in the end is what nothing had happened to."""
    losses, state = expected
    for nth in (1, 2) if phase in ("forward", "step", "update", "save") else (1,):
        fault = Once(party, phase, kind, nth)
        trainer, link = make(tmp_path / str(nth), fault, save_every=2)
        (tmp_path / str(nth)).mkdir()
        assert trainer.train(BATCHES, STEPS) == losses
        assert fault.left == 0
        assert_same(weights(link), state)
