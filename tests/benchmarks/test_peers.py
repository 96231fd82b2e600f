"""The comparison with other frameworks: cases, limits, agreement, timing, files, tables, plots.

The steps of torch and JAX are tested where these are installed (`make bench-peers` does).
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import signal

import numpy as np
import pytest

from benchmarks.peers import __main__, agreement, plot, process, results, table, timing
from benchmarks.peers.cases import (
    ADAGRAD,
    ADAM,
    BATCHES,
    CASES,
    MOMENTUM,
    QUICK_CASES,
    SGD,
    Case,
    Dense,
    Embedding,
    layer_phases,
    select,
)
from benchmarks.peers.limits import Limits
from benchmarks.peers.peer import Absent, Peer
from benchmarks.peers.results import JAX, KERAS, SPLITOP, SPLITOP_JIT, TORCH, Row
from benchmarks.peers.tensorflow_peers import Keras, Reference, Splitop, TensorFlowPeer

needs_both = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "jax")),
    reason="torch and JAX are not installed",
)
COMBINATIONS = [(case.part, rule) for case in QUICK_CASES for rule in case.rules]
IDS = [f"{part.name}-{rule}" for part, rule in COMBINATIONS]


class Descent(Peer):
    """Moves one weight by a length of its own."""

    def __init__(self, length: float) -> None:
        self._length = length
        self._weight = np.zeros(3)
        self.batches: list[int] = []

    def step(self, batch: int) -> None:
        self.batches.append(batch)
        self._weight = self._weight - self._length

    def weights(self) -> list[np.ndarray]:
        return [self._weight.copy()]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        self._weight = weights[0].copy()


def row(**median: float) -> Row:
    names = {"splitop": SPLITOP, "jit": SPLITOP_JIT, "keras": KERAS, "torch": TORCH, "jax": JAX}
    times = {names[key]: value for key, value in median.items()}
    quartiles = {peer: (value / 2, value * 2) for peer, value in times.items()}
    return Row("2x8 b4", ADAM, times, quartiles, {"TensorFlow": "it has no such thing"}, 0.5)


CONDITIONS = {
    "cpu": "a processor",
    "cores": 2,
    "isa": "avx2",
    "versions": {"splitop": "1", "torch": "2"},
    "gflop_per_s": 100.0,
    "gb_per_s": 20.0,
}


# ---- cases and their limits ----


def test_all_cases_have_names_of_their_own() -> None:
    names = [case.part.name for case in CASES]
    assert len(set(names)) == len(names)


def test_selects_by_part_of_the_name_and_rule() -> None:
    assert select(False, ["1024"], [ADAM]) == [
        Case(case.part, (ADAM,))
        for case in CASES
        if "1024" in case.part.name and ADAM in case.rules
    ]
    assert select(False, None, None) == list(CASES)


@pytest.mark.parametrize(("names", "rules"), [(["nothing"], None), (["3x256"], [ADAGRAD])])
def test_names_what_can_be_selected(names: list[str], rules: list[str] | None) -> None:
    with pytest.raises(ValueError, match=r"3x256 b64.*adagrad.*Received"):
        select(False, names, rules)


def test_the_command_refuses_unknown_cases(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        __main__.main(["--case", "nothing"])
    assert "No case is left" in capsys.readouterr().err


def test_a_first_layer_needs_no_gradient_of_x() -> None:
    phases = Dense(batch=10, layers=2, width=100).phases(ADAM)
    assert [phase.flops for phase in phases] == [2e5, 2e5, 2e5, 4e5]
    assert [phase.numbers for phase in phases] == [1e4, 6e4, 1e4, 6e4]


def test_a_table_costs_the_rows_that_the_rule_moves() -> None:
    part = Embedding(batch=8, rows=1000, width=3, fields=4, units=5)
    looked_up = 8 * 4 * 3
    assert part.phases(SGD)[-1].numbers == 2 * looked_up
    assert part.phases(ADAGRAD)[-1].numbers == 4 * looked_up
    assert part.phases(MOMENTUM)[-1].numbers == 4 * 1000 * 3
    assert part.phases(ADAM)[-1].numbers == 6 * 1000 * 3


def test_batches_are_drawn_once() -> None:
    for case in QUICK_CASES:
        for first, second in zip(case.part.inputs(), case.part.inputs(), strict=True):
            np.testing.assert_array_equal(first, second)
        assert len(case.part.inputs()) == len(case.part.seeds()) == BATCHES
        assert not np.array_equal(case.part.inputs()[0], case.part.inputs()[1])


def test_limits_take_the_slower_of_arithmetic_and_memory() -> None:
    limits = Limits(flops_per_s=1e9, bytes_per_s=1e6)
    assert limits.seconds(layer_phases(5, 10, 10, SGD, False)) == pytest.approx(
        max(1000 / 1e9, 400 / 1e6) + max(1000 / 1e9, 800 / 1e6)
    )


# ---- agreement and timing ----


def test_peers_that_move_alike_agree() -> None:
    peers = {"a": Descent(1.0), "b": Descent(1.0 + agreement.ALLOWED / 2)}
    agreement.check(peers, "a")
    assert peers["b"].batches == list(range(agreement.STEPS))


@pytest.mark.parametrize("length", [1.0 + 2 * agreement.ALLOWED, 0.0, -1.0, float("nan")])
def test_a_peer_that_does_another_step_is_named(length: float) -> None:
    with pytest.raises(agreement.Disagreement, match=r"^b: variable 0 of shape \(3,\)"):
        agreement.check({"a": Descent(1.0), "b": Descent(length)}, "a")


def test_a_step_that_moves_nothing_is_no_agreement() -> None:
    with pytest.raises(agreement.Disagreement):
        agreement.check({"a": Descent(0.0), "b": Descent(0.0)}, "a")


def test_blocks_of_all_peers_are_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_block_length", lambda peer: 6)
    peers = {"a": Descent(1.0), "b": Descent(1.0)}
    times = timing.times(peers, seconds=0)
    assert {len(values) for values in times.values()} == {6 * timing.FEWEST_ROUNDS}
    # Of each block, the first step is not timed.
    assert len(peers["a"].batches) == 7 * timing.FEWEST_ROUNDS
    assert set(peers["a"].batches) == set(range(BATCHES))


# ---- the steps ----


def weights_after(peer: Peer, start: list[np.ndarray], steps: int) -> list[np.ndarray]:
    peer.set_weights(start)
    for number in range(steps):
        peer.step(number)
    return peer.weights()


@pytest.mark.parametrize(("part", "rule"), COMBINATIONS, ids=IDS)
def test_tensorflows_peers_do_the_same_step(part: object, rule: str) -> None:
    makers: list[type[TensorFlowPeer]] = [Splitop, Keras]
    if not (isinstance(part, Embedding) and rule == MOMENTUM):
        makers.append(Reference)
    peers = {make.__name__: make(part, rule) for make in makers}
    start = [w + 0.01 for w in peers["Splitop"].weights()]
    for peer in peers.values():
        peer.set_weights(start)
        peer.step(0)
    agreement.check(peers, "Splitop")


def test_tf1_has_no_momentum_for_all_rows_of_a_table() -> None:
    with pytest.raises(Absent, match="momentum"):
        Reference(Embedding(8, 50, 3, 4, 5), MOMENTUM)


@needs_both
@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")  # Of torch's Adagrad.
@pytest.mark.parametrize(("part", "rule"), COMBINATIONS, ids=IDS)
def test_the_other_frameworks_do_the_same_step(part: object, rule: str) -> None:
    from benchmarks.peers.jax_peer import Jax
    from benchmarks.peers.torch_peers import Torch, TorchInBackward

    peers: dict[str, Peer] = {
        make.__name__: make(part, rule) for make in (Splitop, Torch, TorchInBackward, Jax)
    }
    start = [w + np.float32(0.01) for w in peers["Splitop"].weights()]
    for peer in peers.values():
        peer.set_weights(start)
    agreement.check(peers, "Splitop")


@needs_both
@pytest.mark.parametrize("case", QUICK_CASES, ids=lambda case: case.part.name)
def test_weights_go_into_the_other_frameworks_and_back(case: Case) -> None:
    from benchmarks.peers.jax_peer import Jax
    from benchmarks.peers.torch_peers import Torch

    start = Keras(case.part, SGD).weights()
    for make in (Torch, Jax):
        for wanted, got in zip(start, weights_after(make(case.part, SGD), start, 0), strict=True):
            np.testing.assert_array_equal(wanted, got)


# ---- a process a row ----


class Fatal(Dense):
    """Ends the process that it is sent to."""

    def __setstate__(self, state: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_names_the_row_whose_process_dies() -> None:
    with pytest.raises(process.Failure, match=r"^2x8 b4, adam: its process died"):
        process.in_own_process(Fatal(4, 2, 8), ADAM, 0, Limits())


@needs_both
def test_names_the_row_that_fails() -> None:
    with pytest.raises(
        process.Failure, match=r"^2x8 b4, nonsense: Traceback(.|\n)*KeyError: 'nonsense'"
    ):
        process.in_own_process(Dense(4, 2, 8), "nonsense", 0, Limits())


@needs_both
def test_a_failure_leaves_the_other_rows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [Case(Fatal(4, 2, 8), (SGD,)), Case(Dense(8, 2, 33), (SGD,))]
    monkeypatch.setattr(__main__, "select", lambda *arguments: cases)
    path = tmp_path / "run.json"
    assert __main__.main(["--quick", "--json", str(path)]) == 1
    conditions, rows = results.load(path)
    assert [one.part for one in rows] == ["2x33 b8"]
    (failure,) = conditions["not_measured"]
    assert failure.startswith("2x8 b4, sgd: its process died")
    assert f"Not measured: {failure}" in capsys.readouterr().out
    assert path.with_suffix(".png").exists()


# ---- files, tables, plots ----


def test_a_row_knows_the_fastest_other() -> None:
    measured = row(splitop=2.0, jit=1.0, keras=4.0, torch=3.0)
    assert measured.fastest_other == TORCH
    assert measured.ratio(TORCH) == 1.5


def test_a_run_is_read_as_it_was_written(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "new" / "run.json"
    rows = [row(splitop=2.0, torch=3.0), row(splitop=1.0, jax=0.25)]
    results.save(path, CONDITIONS, rows)
    conditions, got = results.load(path)
    assert conditions == CONDITIONS
    assert [vars(one) | {"quartiles": None} for one in got] == [
        vars(one) | {"quartiles": None} for one in rows
    ]


def test_the_table_has_times_shares_and_what_is_absent() -> None:
    text = table.text(CONDITIONS, [row(splitop=2.0, torch=3.0)])
    assert "2 (25%)" in text
    assert "3 (17%)" in text
    assert "1.50" in text
    assert "TensorFlow: it has no such thing." in text
    assert "2 cores of a processor (avx2), 100 GFLOP/s, 20.0 GB/s" in text


def test_a_loss_is_below_one_in_the_table() -> None:
    assert "0.25" in table.text(CONDITIONS, [row(splitop=1.0, jax=0.25)])


def test_draws_a_plot(tmp_path: pathlib.Path) -> None:
    png = tmp_path / "run.png"
    plot.save(CONDITIONS, [row(splitop=2.0, torch=3.0), row(splitop=1.0, jax=0.25)], png)
    assert png.read_bytes().startswith(b"\x89PNG")


def test_names_the_command_that_installs_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(SystemExit, match="make bench-peers"):
        __main__.main(["--quick"])
