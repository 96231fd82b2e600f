"""Parts as Ray actors: one training, to which one thing happens after the other."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import splitop
from splitop._src.parties.ray_link import RayLink
from splitop.ray import Batches, Party, Trainer
from tests.ray_parts import parts
from tests.ray_parts.actors import KillableActor

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]
MODULE = "tests.ray_parts.parts"
BATCHES = Batches(parts.KEYS, 12, seed=1)
KILLS = [
    ("bank", "forward", False),
    ("bank", "update", True),
    ("bank", "save", False),
    ("head", "step", True),
    ("head", "save", True),
]


def make(folder: pathlib.Path, names: tuple[str, ...] = ("bank",), **options: Any) -> Trainer:
    return Trainer(
        Party("head", f"{MODULE}:head", folder / "head", {"names": names}, num_cpus=0.1),
        [
            Party(name, f"{MODULE}:encoder", folder / name, {"name": name}, num_cpus=0.1)
            for name in names
        ],
        **({"timeout": 30, "start_timeout": 90} | options),
    )


@functools.cache
def expected() -> dict[int, float]:
    return parts.OneProcess().train(BATCHES, 40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("parts")


@pytest.fixture(scope="module")
def trainer(cluster: None, folder: pathlib.Path) -> Iterator[Trainer]:
    link = functools.partial(RayLink, actor=KillableActor)
    with make(folder, save_every=2, link=link) as result:
        yield result


def go_on(trainer: Trainer, steps: int) -> None:
    """Trains some steps more, and compares with one process."""
    until = trainer.step + steps
    losses = trainer.train(BATCHES, until)
    assert until in losses
    assert losses.items() <= expected().items()
    assert trainer.step == until


def process_of(trainer: Trainer, party: str) -> int:
    return trainer._waiting.values("place", [party], 0)[party]["process"]


@pytest.mark.parametrize(("party", "phase", "after"), KILLS)
def test_a_process_that_is_killed(
    trainer: Trainer, folder: pathlib.Path, party: str, phase: str, after: bool
) -> None:
    go_on(trainer, 1)
    before = process_of(trainer, party)
    order = folder / f"{party}.kill"
    order.write_text(json.dumps({"method": phase, "after": after}))
    go_on(trainer, 3)
    assert not order.exists()
    assert process_of(trainer, party) != before


def test_a_part_that_is_silent(trainer: Trainer) -> None:
    go_on(trainer, 1)
    process = process_of(trainer, "bank")
    go_on(trainer, 1)
    trainer._waiting._timeout = trainer._waiting._start_timeout = 2
    os.kill(process, signal.SIGSTOP)
    try:
        with pytest.raises(
            splitop.PartTimeoutError,
            match=rf'"bank" must answer within 2 seconds: .* forward of step {trainer.step + 1}',
        ):
            trainer.train(BATCHES, trainer.step + 1)
        with pytest.raises(
            splitop.PartTimeoutError, match=r'"bank" must answer within 2 s.* start'
        ):
            trainer.train(BATCHES, trainer.step + 1)
    finally:
        os.kill(process, signal.SIGCONT)
        trainer._waiting._timeout, trainer._waiting._start_timeout = 30, 90
    go_on(trainer, 2)


def test_a_part_that_dies_as_it_starts(tmp_path: pathlib.Path) -> None:
    parties = [
        Party(name, f"tests.ray_parts.wrong:{function}", tmp_path / name, num_cpus=0.1)
        for name, function in (("head", "head"), ("bank", "dies"))
    ]
    with (
        Trainer(parties[0], parties[1:], restarts=0) as trainer,
        pytest.raises(splitop.PartLostError, match='"bank" must not be lost more than 0 times'),
    ):
        trainer.train(BATCHES, 1)


def test_a_prediction_after_a_part_has_died(trainer: Trainer) -> None:
    go_on(trainer, 1)
    process = process_of(trainer, "head")
    go_on(trainer, 1)
    os.kill(process, signal.SIGKILL)
    with pytest.raises(splitop.PartLostError, match=r"the last save\. Received: [^\n]*$"):
        trainer.predict(parts.KEYS[:3])
    assert len(trainer.predict(parts.KEYS[:3])) == 3


def test_samples_that_a_party_does_not_have(trainer: Trainer) -> None:
    with pytest.raises(
        splitop.AlignmentError,
        match=r'"bank" has failed in the phase forward of step \d+: the data must hold .* 1 of 2 '
        "keys that are not there: 'id-99'",
    ):
        trainer.train(lambda _: ["id-1", "id-99"], trainer.step + 1)
    go_on(trainer, 2)


def test_two_second_parts(tmp_path: pathlib.Path) -> None:
    names = ("bank", "shop")
    with make(tmp_path, names, save_every=3) as trainer:
        losses = trainer.train(BATCHES, until=8)
        prediction = trainer.predict(parts.KEYS[:5])
    one = parts.OneProcess(names)
    assert losses == one.train(BATCHES, 8)
    ivs = [model(parts.inputs(name)[:5]) for name, model in one.seconds.items()]
    np.testing.assert_array_equal(prediction, one.first(ivs))


def test_the_next_forward_pass_runs_while_the_first_part_works(tmp_path: pathlib.Path) -> None:
    """The labels of a batch wait for the next forward pass: without staleness in vain."""
    folder = tmp_path / "asked for"
    folder.mkdir()
    batches = [parts.KEYS[row : row + 12] for row in (0, 12, 24)]
    head = {"folder": str(folder), "last": batches[-1][0]}
    parties = (
        Party("head", f"{MODULE}:waiting_head", tmp_path / "head", head, num_cpus=0.1),
        [
            Party(
                "bank",
                f"{MODULE}:telling_encoder",
                tmp_path / "bank",
                {"folder": str(folder)},
                num_cpus=0.1,
            )
        ],
    )
    with Trainer(*parties, timeout=30, start_timeout=90, staleness=1) as trainer:
        assert len(trainer.train(batches.__getitem__, 3)) == 3
    for path in folder.iterdir():
        path.unlink()
    with Trainer(*parties, timeout=10, start_timeout=90) as trainer:
        with pytest.raises(splitop.PartTimeoutError, match=r"phase step of step 4\."):
            trainer.train(lambda number: batches[number - 3], 6)
        (folder / batches[1][0]).touch()  # So that it ends.
