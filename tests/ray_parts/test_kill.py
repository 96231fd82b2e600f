"""Processes of parts and trainers that are killed: what is trained in the end is the same bits.

The processes are forked, and the trainer calls the parts over pipes; test_ray.py kills Ray's own.
"""

from __future__ import annotations

import functools
import pathlib
import random
import signal
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.ray_parts import parts
from tests.ray_parts.processes import BATCHES, TRAINER, ForkServer, Kill

STEPS = 44
WHENS = ("before", "after")
PHASES = {
    "head": ("start", "restore", "step", "save"),
    "bank": ("start", "restore", "forward", "update", "save"),
}
FILE_OPERATIONS = 20  # of a save, about


def all_kills(seed: int) -> list[Kill]:
    """Each part in each phase, and at some moments of a save; in any order."""
    draw = random.Random(seed)
    kills = [
        Kill(party, phase, when, 1 if phase in ("start", "restore") else draw.choice([1, 2, 3]))
        for party, phases in PHASES.items()
        for phase in phases
        for when in WHENS
    ]
    for party in PHASES:
        first = draw.randrange(5)
        kills += [
            Kill(party, "save", event, draw.choice([1, 2]))
            for event in range(first, FILE_OPERATIONS, 5)
        ]
    draw.shuffle(kills)
    # Whoever starts or restores has been lost before.
    kills.sort(key=lambda kill: kill.method in ("start", "restore"))
    late = [kills.pop() for _ in range(8)]
    for kill in late:
        kills.insert(draw.randrange(1, len(kills)), kill)
    return kills


@pytest.fixture(scope="module")
def server() -> ForkServer:
    return ForkServer()


@functools.cache
def uninterrupted(server: ForkServer, folder: pathlib.Path, staleness: int) -> Any:
    """The losses, and all state at the end."""
    status, outcome = server.run(folder, STEPS, staleness=staleness)
    assert status == 0
    assert outcome is not None
    return outcome.losses, state(folder)


def state(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """All that the parts' last checkpoints hold."""
    values = {}
    for name in PHASES:
        save = max((folder / name).glob("save-*"))
        assert save.name.endswith(f"-step-{STEPS}")
        reader = tf.train.load_checkpoint(str(save / name / "variables"))
        names = (key for key in reader.get_variable_to_shape_map() if not key.startswith("_"))
        values |= {f"{name}/{key}": reader.get_tensor(key) for key in names}
    return values


def assert_same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    assert len(left) > 30
    for key, value in left.items():
        np.testing.assert_array_equal(value, right[key], err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize(("staleness", "seed"), [(0, 1), (0, 2), (1, 3), (1, 4)])
def test_parts_that_are_killed(
    server: ForkServer,
    tmp_path: pathlib.Path,
    tmp_path_factory: pytest.TempPathFactory,
    staleness: int,
    seed: int,
) -> None:
    plain = tmp_path_factory.getbasetemp() / f"uninterrupted-{staleness}"
    plain.mkdir(exist_ok=True)
    losses, expected = uninterrupted(server, plain, staleness)
    if staleness == 0:
        assert losses == parts.OneProcess().train(BATCHES, STEPS)
    kills = all_kills(seed)
    status, outcome = server.run(tmp_path, STEPS, kills, staleness=staleness)
    assert status == 0
    assert outcome is not None
    assert outcome.killed == len(kills) == 26  # In all four tests, 104.
    assert outcome.losses == losses
    assert_same(state(tmp_path), expected)


@pytest.mark.slow
def test_a_trainer_that_is_killed(
    server: ForkServer, tmp_path: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plain = tmp_path_factory.getbasetemp() / "uninterrupted-0"
    plain.mkdir(exist_ok=True)
    losses, expected = uninterrupted(server, plain, 0)
    phases = ("start", "restore", "forward", "step", "update", "save")
    for number, phase in enumerate(phases):
        status, _ = server.run(tmp_path, STEPS, [Kill(TRAINER, phase, WHENS[number % 2], 2)])
        assert status == -signal.SIGKILL, phase
    status, outcome = server.run(tmp_path, STEPS)
    assert status == 0
    assert outcome is not None
    assert outcome.losses.items() <= losses.items()
    assert len(outcome.losses) < STEPS
    assert_same(state(tmp_path), expected)
