"""What a trainer and its parts make of calls that are lost, repeated or late.

The parts are in this process. In test_kill.py processes are killed, and test_ray.py has Ray.
"""

from __future__ import annotations

import contextlib
import pathlib
import random
import re
import shutil
from collections import Counter
from typing import Any

import numpy as np
import pytest

import splitop
from splitop._src.checkpoint.store import Store
from splitop._src.parties import waiting
from splitop._src.parties.resume import step_to_resume
from splitop._src.parties.server import going_on
from splitop.ray import Batches, Party, Trainer
from tests.ray_parts import parts
from tests.ray_parts.local import (
    DIES,
    FAULTS,
    LOST_CALL,
    LOST_REPLY,
    TWICE,
    UNREACHABLE,
    Fault,
    LocalLink,
)

MODULE = "tests.ray_parts.parts"
# All of one size, as each takes time to be traced.
BATCHES = Batches(parts.KEYS[:36], 12, seed=1)
NAMES = ("bank", "shop")
PHASES = {
    "head": ("start", "restore", "step", "save"),
    "shop": ("start", "restore", "forward", "update", "save"),
}
CALLS = [(party, phase) for party, phases in PHASES.items() for phase in phases]
STEPS = 27


def make(
    folder: pathlib.Path,
    fault: Fault | None = None,
    names: tuple[str, ...] = NAMES,
    config: Any = None,
    **options: Any,
) -> tuple[Trainer, LocalLink]:
    """A trainer, which saves every other step, and its link."""
    folder.mkdir(exist_ok=True)
    links: list[LocalLink] = []

    def link(parties: Any, settings: Any) -> LocalLink:
        links.append(LocalLink(parties, settings, fault))
        return links[0]

    config = config or {}
    trainer = Trainer(
        Party("head", f"{MODULE}:head", folder / "head", {"names": names} | config),
        [
            Party(name, f"{MODULE}:encoder", folder / name, {"name": name} | config)
            for name in names
        ],
        link=link,
        **({"save_every": 2} | options),
    )
    return trainer, links[0]


def state(link: LocalLink) -> list[np.ndarray]:
    """All variables of all parts, of their optimizers and of their random numbers."""
    result = []
    for name in ("head", *NAMES):
        part = link.servers[name]._part
        generators = [layer.seed_generator for layer in part.model.layers if layer.name == "masks"]
        assert len(generators) == 1
        variables = (*part.model.variables, *part.optimizer.variables, generators[0].state)
        result += [np.copy(variable.numpy()) for variable in variables]
    return result


def assert_same(left: list[np.ndarray], right: list[np.ndarray]) -> None:
    assert len(left) == len(right) > 30
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[int, float], Any]:
    """The losses, and all state at the end, of a training that nothing happens to."""
    trainer, link = make(tmp_path_factory.mktemp("plain"))
    return trainer.train(BATCHES, STEPS), state(link)


class Always:
    """Has the same happen to each call of one method of one part, and counts the calls."""

    def __init__(self, party: str, method: str, kind: str) -> None:
        self._call, self._kind, self.calls = (party, method), kind, 0

    def __call__(self, party: str, method: str) -> str | None:
        if (party, method) != self._call:
            return None
        self.calls += 1
        return self._kind


class Faults:
    """Has something happen to one call of each kind, one after the other."""

    def __init__(self, kind: str) -> None:
        self._kind, self.left, self._skip = kind, list(CALLS), 2

    def __call__(self, party: str, method: str) -> str | None:
        if not self.left or (party, method) != self.left[0]:
            return None
        if method not in ("start", "restore") and self._skip:
            self._skip -= 1
            return None
        self._skip = 2
        self.left.pop(0)
        return self._kind


def test_as_in_one_process(tmp_path: pathlib.Path) -> None:
    batches = Batches(parts.KEYS, 12, seed=1)
    trainer, link = make(tmp_path)
    losses = trainer.train(batches, STEPS)
    one = parts.OneProcess(NAMES)
    assert losses == one.train(batches, STEPS)
    variables = iter(state(link))
    for model in (one.first, *one.seconds.values()):
        for variable in model.variables:
            assert any(np.array_equal(variable, each) for each in variables), variable.path
    joint = parts.OneProcess(NAMES, in_one=True).train(batches, 10)
    np.testing.assert_allclose(list(losses.values())[:10], list(joint.values()), 1e-5)


@pytest.mark.parametrize("kind", [LOST_CALL, LOST_REPLY])
def test_what_is_lost_is_a_time_out(
    tmp_path: pathlib.Path, expected: tuple[dict[int, float], Any], kind: str
) -> None:
    """It says who has not answered; the next call goes on, and nothing is applied twice."""
    losses, end = expected
    faults = Faults(kind)
    trainer, link = make(tmp_path, faults, timeout=7, start_timeout=9)
    seen: dict[int, float] = {}
    for party, phase in CALLS:
        trainer._run = None  # So that each call of train starts and restores.
        seconds = 9 if phase in ("start", "restore") else 7
        with pytest.raises(
            splitop.PartTimeoutError,
            match=rf'"{party}" must answer within {seconds} seconds: .* {phase} of step \d+\..* '
            "Received: no answer",
        ):
            trainer.train(BATCHES, STEPS, on_step=seen.__setitem__)
    assert not faults.left
    trainer.train(BATCHES, STEPS, on_step=seen.__setitem__)
    assert seen == losses
    assert_same(state(link), end)


def test_what_comes_twice_is_done_once(
    tmp_path: pathlib.Path, expected: tuple[dict[int, float], Any]
) -> None:
    losses, end = expected
    trainer, link = make(tmp_path, lambda *_: TWICE)
    assert trainer.train(BATCHES, STEPS) == losses
    assert_same(state(link), end)


def test_what_comes_late_is_refused(
    tmp_path: pathlib.Path, expected: tuple[dict[int, float], Any]
) -> None:
    """Each call of a run that is over, at each moment of the next one."""
    losses, end = expected
    trainer, link = make(tmp_path)
    trainer.train(BATCHES, 4)
    late = [call for call in link.calls if call[1] not in ("place", "start")]
    assert {method for _, method, _ in late} == {"restore", "forward", "step", "update", "save"}
    trainer._run = None
    call = link.call

    def with_late_ones(party: str, method: str, *args: Any, returns: int = 1) -> list[Any]:
        result = call(party, method, *args, returns=returns)
        if method not in ("place", "start", "restore"):
            for each in late:
                reply = link.repeat(each[0], each[1], *each[2])
                first = reply[0] if isinstance(reply, tuple) else reply
                if each[1] == "restore":
                    assert first.error == "CheckpointError"
                    assert "another one has begun there" in first.text
                else:
                    assert first.error == "PartError"
                    assert "a late call" in first.text
        return result

    link.call = with_late_ones  # type: ignore[method-assign]
    trainer.train(BATCHES, 8)
    link.call = call  # type: ignore[method-assign]
    assert trainer.train(BATCHES, STEPS).items() <= losses.items()
    assert_same(state(link), end)


def test_calls_out_of_turn_are_not_done(tmp_path: pathlib.Path) -> None:
    trainer, link = make(tmp_path)
    trainer.train(BATCHES, 1)
    before, run = state(link), trainer._run
    keys = BATCHES(0)
    for party, method, args in (
        ("shop", "forward", (3, keys)),
        ("shop", "update", (2, None)),
        ("head", "step", (3, keys, None, None)),
        ("shop", "save", (2,)),
        ("head", "save", (0,)),
    ):
        reply = link.repeat(party, method, run, *args)
        first = reply[0] if isinstance(reply, tuple) else reply
        assert first.lost
        assert "out of turn" in first.text
    assert_same(state(link), before)


def test_what_belongs_to_other_samples_is_refused(tmp_path: pathlib.Path) -> None:
    trainer, link = make(tmp_path)
    trainer.train(BATCHES, 1)
    run = trainer._run
    ivs = [link.repeat(name, "forward", run, 2, BATCHES(1))[1] for name in NAMES]
    for keys, sent, text in (
        (BATCHES(1), ivs[::-1], "must be of step 2 and of the keys .* Received: party 'shop'"),
        (BATCHES(2), ivs, "must be of step 2 and of the keys .* Received: party 'bank', step 2"),
    ):
        reply = link.repeat("head", "step", run, 2, keys, *sent)[0]
        assert reply.error == "AlignmentError"
        assert re.search(text, reply.text)
    _, *seeds = link.repeat("head", "step", run, 2, BATCHES(1), *ivs)
    for name, seed in zip(NAMES, seeds[::-1], strict=True):
        assert link.repeat(name, "update", run, 2, seed).error == "AlignmentError"
    for name, seed in zip(NAMES, seeds, strict=True):
        assert link.repeat(name, "update", run, 2, seed).error is None
    plain, expected = make(tmp_path / "plain")
    plain.train(BATCHES, 2)
    assert_same(state(link), state(expected))


def test_a_part_that_dies_again_and_again(tmp_path: pathlib.Path) -> None:
    fault = Always("shop", "forward", DIES)
    trainer, _ = make(tmp_path, fault, restarts=2)
    with pytest.raises(
        splitop.PartLostError,
        match=r'"shop" must not be lost more than 2 times in a row: it was in the phase forward of '
        r"step 1\. The log of its machine may say why\. Received: it has died\.",
    ):
        trainer.train(BATCHES, 3)
    assert fault.calls == 3


@pytest.mark.parametrize(("seed", "staleness"), [(1, 0), (1, 1)])
def test_anything(
    tmp_path: pathlib.Path,
    expected: tuple[dict[int, float], Any],
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    staleness: int,
) -> None:
    """One call in twenty is lost, late, done twice or what kills its part."""
    monkeypatch.setattr(waiting, "_PAUSE", 0.001)
    draw, kinds = random.Random(seed), Counter[str]()

    def fault(party: str, method: str) -> str | None:
        if draw.random() > 0.05:
            return None
        kind = draw.choice(FAULTS)
        kinds[kind] += 1
        return kind

    trainer, link = make(tmp_path, fault, staleness=staleness)
    seen: dict[int, float] = {}
    while trainer.step < STEPS:
        with contextlib.suppress(splitop.PartTimeoutError):
            trainer.train(BATCHES, STEPS, on_step=seen.__setitem__)
    assert len(kinds) > 3
    if staleness == 0:
        losses, end = expected
        assert seen == losses
        assert_same(state(link), end)
    else:
        plain, plain_link = make(tmp_path / "plain", staleness=staleness)
        assert seen == plain.train(BATCHES, STEPS)
        assert_same(state(link), state(plain_link))


def test_a_part_that_is_not_there_yet(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for again, as long as a start may take, and that does not count."""
    monkeypatch.setattr(waiting, "_PAUSE", 0.001)
    asked: list[str] = []

    def fault(party: str, method: str) -> str | None:
        if (party, method) != ("shop", "place"):
            return None
        asked.append(party)
        return UNREACHABLE if len(asked) < 5 or "more" in asked else None

    trainer, _ = make(tmp_path, fault, restarts=0)
    assert len(trainer.train(BATCHES, 1)) == 1
    assert len(asked) == 5
    asked.append("more")
    trainer, _ = make(tmp_path, fault, restarts=0, start_timeout=0.2)
    with pytest.raises(
        splitop.PartLostError, match=r"phase start of step 0\. .* Received: no route\."
    ):
        trainer.train(BATCHES, 2)


def test_a_part_that_dies_as_it_starts(tmp_path: pathlib.Path) -> None:
    """Its process was there: that counts."""
    fault = Always("shop", "start", UNREACHABLE)
    trainer, _ = make(tmp_path, fault, restarts=2)
    with pytest.raises(splitop.PartLostError, match=r"more than 2 times in a row: .* phase start"):
        trainer.train(BATCHES, 1)
    assert fault.calls == 3


def test_an_error_comes_without_a_traceback(tmp_path: pathlib.Path) -> None:
    """Keras puts one, in colours, into the messages of errors in a tf.function."""
    trainer = Trainer(
        Party("head", f"{MODULE}:head", tmp_path / "head"),
        [Party("bank", "tests.ray_parts.wrong:in_a_dictionary", tmp_path / "bank")],
        link=LocalLink,
    )
    with pytest.raises(splitop.PartError, match="Received: ValueError: Missing data for") as caught:
        trainer.train(BATCHES, 1)
    assert "File" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert "a data dictionary with keys ['iv']" in str(caught.value)


def test_a_part_that_dies_in_a_prediction(tmp_path: pathlib.Path) -> None:
    faults = Faults(DIES)
    faults.left = [("shop", "encode"), ("head", "predict")]
    faults._skip = 0
    trainer, _ = make(tmp_path, faults)
    trainer.train(BATCHES, 2)
    for party in ("shop", "head"):
        with pytest.raises(splitop.PartLostError, match=f'"{party}" must be there for a predict'):
            trainer.predict(parts.KEYS[:3])
        faults._skip = 0
    again, _ = make(tmp_path)
    np.testing.assert_array_equal(trainer.predict(parts.KEYS[:3]), again.predict(parts.KEYS[:3]))
    assert trainer.step == again.step == 2


def test_saves_of_steps_that_are_made_again_do_not_count(tmp_path: pathlib.Path) -> None:
    """One part has saved a step, the other has not: then that step is made again, by all."""
    faults = Faults(LOST_CALL)
    faults.left = [("shop", "save")]
    trainer, link = make(tmp_path, faults)
    with pytest.raises(splitop.PartTimeoutError, match="save of step 6"):
        trainer.train(BATCHES, 20)
    assert link.servers["head"].start().value["steps"] == [2, 4, 6]
    assert link.servers["shop"].start().value["steps"] == [0, 2, 4]
    trainer.train(BATCHES, 5)
    assert link.servers["head"].start().value["steps"] == [4, 5]
    assert link.servers["shop"].start().value["steps"] == [2, 4, 5]


def test_going_on() -> None:
    assert going_on([]) == []
    assert going_on([0, 2, 4]) == [0, 2, 4]
    assert going_on([0, 4, 2]) == [0, 2]
    assert going_on([4, 6, 2, 3, 1]) == [1]


def lose(folder: pathlib.Path, saves: str = "*") -> None:
    """Removes a part's checkpoints."""
    found = list(folder.glob(f"save-{saves}"))
    assert found
    for save in found:
        shutil.rmtree(save)


@pytest.mark.parametrize("same_trainer", [False, True])
@pytest.mark.parametrize("steps", [2, 6])
def test_a_part_that_has_lost_its_saves(
    tmp_path: pathlib.Path, steps: int, same_trainer: bool
) -> None:
    """Its disk is a new one: a named error each time, not a training that begins anew."""
    faults = Faults(DIES)
    faults.left = []
    trainer, _ = make(tmp_path, faults)
    trainer.train(BATCHES, steps)
    lose(tmp_path / "shop")
    if not same_trainer:
        trainer, _ = make(tmp_path)
    faults.left, faults._skip = [("shop", "forward")], 0
    for _ in range(2):
        with pytest.raises(splitop.CheckpointError, match='"shop" of no step'):
            trainer.train(BATCHES, steps + 2)
    assert len(list((tmp_path / "head").glob("save-*"))) == (2 if steps == 2 else 3)


def test_a_part_that_has_lost_its_last_saves(tmp_path: pathlib.Path) -> None:
    """An old copy was brought back. The trainer that has made them knows of the last one, too."""
    faults = Faults(DIES)
    faults.left = []
    trainer, _ = make(tmp_path, faults, keep=4)
    trainer.train(BATCHES, 6)
    lose(tmp_path / "shop", "*-step-6")
    faults.left, faults._skip = [("shop", "forward")], 0
    with pytest.raises(
        splitop.CheckpointError,
        match=r'have a checkpoint of step 6 or later.*"shop" of 0, 2, 4; "head" of 0, 2, 4, 6\.',
    ):
        trainer.train(BATCHES, 8)
    lose(tmp_path / "shop", "*-step-4")
    other, _ = make(tmp_path, keep=4)
    with pytest.raises(splitop.CheckpointError, match=r'of step 4 or later.*"shop" of 0, 2; '):
        other.train(BATCHES, 8)


def test_parts_that_have_all_lost_their_saves(tmp_path: pathlib.Path) -> None:
    faults = Faults(DIES)
    faults.left = []
    trainer, _ = make(tmp_path, faults)
    trainer.train(BATCHES, 2)
    for name in ("head", *NAMES):
        lose(tmp_path / name)
    faults.left, faults._skip = [("shop", "forward")], 0
    with pytest.raises(splitop.CheckpointError, match=r'of step 2 or later.* "head" of no step'):
        trainer.train(BATCHES, 4)
    again, _ = make(tmp_path)
    assert len(again.train(BATCHES, 2)) == 2


def test_a_training_that_has_not_quite_begun(tmp_path: pathlib.Path) -> None:
    """One part has saved step 0, the others have not."""
    faults = Faults(DIES)
    faults.left, faults._skip = [("shop", "restore")], 0
    trainer, link = make(tmp_path, faults, restarts=0)
    with pytest.raises(splitop.PartLostError):
        trainer.train(BATCHES, 2)
    assert {name: len(list((tmp_path / name).glob("save-*"))) for name in ("bank", "shop")} == {
        "bank": 1,
        "shop": 0,
    }
    plain, plain_link = make(tmp_path / "plain")
    again, link = make(tmp_path)
    assert again.train(BATCHES, 2) == plain.train(BATCHES, 2)
    assert_same(state(link), state(plain_link))


def test_step_to_resume() -> None:
    assert step_to_resume({"a": [], "b": []}) == 0
    assert step_to_resume({"a": [0], "b": []}) == 0
    assert step_to_resume({"a": [0, 2], "b": [0]}) == 0  # Who has not saved was stopped before.
    assert step_to_resume({"a": [2, 4], "b": [0, 2]}, 2) == 2
    for steps, saved in (
        ({"a": [0, 2], "b": [0]}, 2),
        ({"a": [0, 2, 4], "b": [0]}, None),
        ({"a": [], "b": []}, 0),
        ({"a": [0], "b": []}, 0),
        ({"a": [0, 2], "b": []}, None),
    ):
        with pytest.raises(splitop.CheckpointError):
            step_to_resume(steps, saved)


def test_a_process_that_was_given_up(tmp_path: pathlib.Path) -> None:
    """It still runs, and saves late: not among the checkpoints of who has taken its place."""
    trainer, _ = make(tmp_path)
    trainer.train(BATCHES, 2)
    other, _ = make(tmp_path)
    other.train(BATCHES, 3)
    saves = sorted(tmp_path.glob("*/save-*"))
    with pytest.raises(
        splitop.CheckpointError, match=r'"head" has failed in the phase save .* has claimed it\.'
    ):
        trainer.train(BATCHES, 4)
    assert sorted(tmp_path.glob("*/save-*")) == saves
    other.train(BATCHES, 4)


def test_a_process_that_goes_back_late(tmp_path: pathlib.Path) -> None:
    """It was given up before it had gone back to a step, and does so now."""
    trainer, old = make(tmp_path)
    trainer.train(BATCHES, 4)
    trainer._run = None
    owners = {name: old.servers[name].start().value["owner"] for name in NAMES}
    other, _ = make(tmp_path)
    other.train(BATCHES, 6)
    saves = sorted(tmp_path.glob("*/save-*"))
    for name in NAMES:
        reply = old.servers[name].restore("late", 4, owners)
        assert reply.error == "CheckpointError"
        assert "another one has begun there. Received: run late" in reply.text
    assert sorted(tmp_path.glob("*/save-*")) == saves
    other.train(BATCHES, 8)


def test_two_trainers_that_begin_together(tmp_path: pathlib.Path) -> None:
    """The one that comes second at a part fails, and does not disturb the other one."""
    trainers: list[Any] = []

    def meanwhile(party: str, method: str) -> None:
        if (party, method) == ("shop", "restore") and len(trainers) == 1:
            other, _ = make(tmp_path)
            trainers.append(other)
            other.train(BATCHES, 2)

    trainer, _ = make(tmp_path, meanwhile)
    trainers.append(trainer)
    with pytest.raises(splitop.CheckpointError, match='"shop" has failed in the phase restore'):
        trainer.train(BATCHES, 4)
    plain, _ = make(tmp_path / "plain")
    plain.train(BATCHES, 2)
    assert trainers[1].train(BATCHES, 6) == plain.train(BATCHES, 6)


@pytest.mark.parametrize("step", [0, 2])
def test_a_save_that_fails_once(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The disk was full. Training goes on once it is not, in the same processes."""
    trainer, link = make(tmp_path)
    write, failed = Store.write, []

    def full_once(self: Store, of: int, *args: Any) -> Any:
        if self.directory.name == "shop" and of == step and not failed:
            failed.append(of)
            raise splitop.CheckpointError("it can't be written")
        return write(self, of, *args)

    monkeypatch.setattr(Store, "write", full_once)
    with pytest.raises(splitop.CheckpointError, match=r"shop.*can't be written"):
        trainer.train(BATCHES, 4)
    trainer.train(BATCHES, 4)
    plain, plain_link = make(tmp_path / "plain")
    plain.train(BATCHES, 4)
    assert_same(state(link), state(plain_link))


def test_two_trainers(tmp_path: pathlib.Path) -> None:
    """The parts are with the one that has come last."""
    trainer, link = make(tmp_path)
    trainer.train(BATCHES, 2)
    other, other_link = make(tmp_path)
    other_link.servers = link.servers
    other.train(BATCHES, 4)
    with pytest.raises(splitop.PartError, match='"bank" has failed in the phase forward of step 3'):
        trainer.train(BATCHES, 4)
