"""The GPU benchmark, as far as it needs no GPU: cases, costs, timing, files, tables, plots."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu import __main__, agreement, costs, rules, run, table, targets, timing
from benchmarks.gpu.candidate import Absent, Candidate
from benchmarks.gpu.cases import (
    BATCHES,
    DEPTHS,
    KERNELS,
    PARTS,
    PRECISIONS,
    RULES,
    SELECTIONS,
    STEP,
    TENSORFLOW,
    WEIGHTS,
    WIDTHS,
    Case,
    select,
)
from benchmarks.gpu.costs import Floor, Limits
from benchmarks.gpu.results import Document, Part, Record, Result, file_name
from benchmarks.gpu.timing import Times
from tests import oracle

LIMITS = Limits(copy=1e12, gemm={"float32": 1e13, "tf32": 1e14, "bfloat16": 2e14})


def weights(
    width: int = 4096, batch: int = 64, rule: str = "adamw", precision: str = "tf32"
) -> Case:
    return Case(WEIGHTS, 1, width, batch, rule, precision)


def step(layers: int = 2, width: int = 64, batch: int = 16, precision: str = "float32") -> Case:
    return Case(STEP, layers, width, batch, "momentum", precision)


# ---- the cases ----


@pytest.mark.parametrize("part", PARTS)
def test_selections_contain_each_other(part: str) -> None:
    quick, full, grid = (select(part, name) for name in ("quick", "full", "grid"))
    assert set(quick) < set(full) < set(grid)
    for cases in (quick, full, grid):
        assert len({case.name for case in cases}) == len(cases)


def test_the_full_selection_has_every_value_of_every_dimension() -> None:
    cases = select(KERNELS, "full")
    for kind in (WEIGHTS, STEP):
        found = [case for case in cases if case.kind == kind]
        assert {case.width for case in found} >= set(WIDTHS)
        assert {case.batch for case in found} >= set(BATCHES)
        assert {case.precision for case in found} == set(PRECISIONS)
    steps = select(TENSORFLOW, "full")
    assert steps == [case for case in cases if case.kind == STEP]
    assert {case.layers for case in steps} == set(DEPTHS)
    assert {case.rule for case in steps} == set(RULES)


def test_the_full_selection_has_all_that_the_copy_rate_is_asked_of() -> None:
    asked = {
        (width, batch, rule, precision)
        for width in (2048, 4096, 8192)
        for batch in (16, 64, 256)
        for rule in ("sgd", "momentum", "adamw")
        for precision in PRECISIONS
    }
    found = select(KERNELS, "full")
    assert asked <= {(c.width, c.batch, c.rule, c.precision) for c in found if c.kind == WEIGHTS}


def test_only_takes_part_of_a_name() -> None:
    assert [case.name for case in select(KERNELS, "tiny", "1x33 b3 adamw bfloat16")] == [
        "weights 1x33 b3 adamw bfloat16"
    ]
    with pytest.raises(ValueError, match=r"--only must be part of .* Received: 'nothing'"):
        select(KERNELS, "tiny", "nothing")


# ---- bytes, operations and the limit ----


@pytest.mark.parametrize(("rule", "expected"), [("sgd", 8), ("momentum", 16), ("adam", 24)])
def test_bytes_a_weight(rule: str, expected: int) -> None:
    assert costs.update_bytes_a_weight(rule) == expected


def test_a_layer_alone_is_one_phase() -> None:
    (phase,) = costs.phases(weights())
    assert phase.bytes == 24 * 4096**2 + 4 * 64 * (4096 + 4096)
    assert phase.flop == 2 * 64 * 4096**2
    (phase,) = costs.phases(weights(precision="bfloat16", rule="sgd"))
    assert phase.bytes == 8 * 4096**2 + 2 * 64 * (4096 + 4096)


def test_the_phases_of_a_step() -> None:
    """Two forward products, two weight gradients, and dL/dx of the upper layer."""
    product = costs.Phase(4 * 64**2 + 4 * 16 * 128, 2 * 16 * 64**2)
    update = costs.Phase(16 * 64**2 + 4 * 16 * 128, 2 * 16 * 64**2)
    assert costs.phases(step()) == [product, product, update, product, update]


def test_mixed_precision_copies_the_kernels_first() -> None:
    copy, *rest = costs.phases(step(layers=1, precision="bfloat16"))
    assert copy == costs.Phase(6 * 64**2)
    assert rest[0].bytes == 2 * 64**2 + 2 * 16 * 128


def test_the_floor_is_of_the_rate_that_binds() -> None:
    small, large = weights(batch=16), weights(batch=8192)
    assert costs.floor(small, LIMITS) == Floor(costs.phases(small)[0].bytes / 1e12, "copy")
    assert costs.floor(large, LIMITS) == Floor(costs.phases(large)[0].flop / 1e14, "GEMM")
    assert costs.floor(step(), LIMITS).seconds == pytest.approx(
        sum(max(phase.bytes / 1e12, phase.flop / 1e13) for phase in costs.phases(step()))
    )


# ---- the rules ----


def torch_adam(w: float, m: float, v: float, g: float, rate: float, t: int, decay: float) -> float:
    """As torch.optim.AdamW describes it."""
    w = w - rate * decay * w
    m = rules.BETA1 * m + (1 - rules.BETA1) * g
    v = rules.BETA2 * v + (1 - rules.BETA2) * g * g
    m_hat, v_hat = m / (1 - rules.BETA1**t), v / (1 - rules.BETA2**t)
    return w - rate * m_hat / (np.sqrt(v_hat) + rules.EPSILON)


@pytest.mark.parametrize("rule", ["adam", "adamw"])
@pytest.mark.parametrize("t", [1, 2, 100])
def test_adam_is_torch_s(rule: str, t: int) -> None:
    state = (np.array([0.3]), np.array([0.02]))
    args = (state, np.array([-0.7]), rules.RULES[rule].decayed, "adam")
    w, _ = oracle.update(np.array([1.5]), *args, rules.hyper(rule, 0.01, t))
    decay = rules.WEIGHT_DECAY if rule == "adamw" else 0.0
    assert w[0] == pytest.approx(torch_adam(1.5, 0.3, 0.02, -0.7, 0.01, t, decay), rel=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_hyperparameters_are_those_of_the_kernels_rule(rule: str) -> None:
    known = oracle.RULES[rules.RULES[rule].kernel_rule]
    assert len(rules.hyper(rule, 0.1)) == len(known.hyper)
    assert rules.RULES[rule].slots == known.num_slots


# ---- timing ----


def test_samplers_take_turns() -> None:
    order: list[str] = []

    def sampler(name: str, seconds: list[float]) -> Callable[[], float]:
        def sample() -> float:
            order.append(name)
            return seconds.pop(0)

        return sample

    times = timing.measure({"a": sampler("a", [1, 9, 5, 3, 2]), "b": sampler("b", [1] * 5)}, 5)
    assert "".join(order) == "abbaabbaab"
    assert times["a"] == Times(median=3, low=2, high=5, rounds=5)


def test_blocks_and_rounds() -> None:
    assert timing.repeats(2e-3, 3e-4) == 7
    assert timing.repeats(2e-3, 1.0) == timing.repeats(2e-3, 2e-3) == 1
    assert timing.repeats(2e-3, 0.0) > 1000
    assert timing.affordable_rounds(1e-3) == timing.ROUNDS
    assert timing.affordable_rounds(10.0) == timing.FEWEST_ROUNDS
    assert timing.affordable_rounds(10.0, most=2) == 2


# ---- candidates: made, checked, timed ----


class FakeDevice:
    def __init__(self) -> None:
        self.lost = False

    def synchronize(self) -> None:
        if self.lost:
            raise RuntimeError("unspecified launch failure")

    def clone(self, array: np.ndarray) -> np.ndarray:
        return array.copy()

    def distance(self, a: np.ndarray, b: np.ndarray) -> float:
        return float(np.linalg.norm(a - b))


class FakeCandidate(Candidate):
    """Adds `rate * gradient` to its weights; takes so many seconds."""

    def __init__(self, gradient: float = 1.0, seconds: float = 0.5, fails: str = "") -> None:
        self.how = "fake"
        self._weights = np.zeros(3)
        self._gradient = gradient
        self._seconds = seconds
        self._fails = fails
        self._rate = 0.0

    def _call(self, name: str) -> None:
        if name == self._fails:
            raise RuntimeError(f"out of\nmemory in {name}")

    def run(self, index: int) -> None:
        self._call("run")
        self._weights += self._rate * self._gradient

    def set_rate(self, rate: float) -> None:
        self._rate = rate

    def load(self, variables: list[np.ndarray]) -> None:
        self._weights[:] = variables[0]

    def variables(self) -> list[np.ndarray]:
        return [self._weights]

    def prepare(self) -> Callable[[], object]:
        self._call("prepare")
        return lambda: self.run(0)

    def seconds(self, work: Callable[[], object]) -> float:
        self._call("seconds")
        work()
        assert self._rate == rules.TIMED_RATE
        return self._seconds

    def peak_bytes(self) -> int | None:
        self._call("peak_bytes")
        return 100


def compare(device: FakeDevice, **factories: Callable[[], Candidate]) -> dict[str, Result]:
    return run.compare_candidates(device, weights(), factories, [np.ones(3)], 2, 5)


def test_candidates_are_timed_by_step() -> None:
    """A pass runs over two sets, and is one block: it is long."""
    results = compare(FakeDevice(), ours=FakeCandidate, theirs=lambda: FakeCandidate(seconds=1.0))
    assert results["ours"] == Result(Times(0.25, 0.25, 0.25, 5), 100, "fake")
    assert results["theirs"].times == Times(0.5, 0.5, 0.5, 5)


@pytest.mark.parametrize("fails", ["run", "prepare", "seconds", "peak_bytes"])
def test_a_candidate_that_fails_is_left_out(fails: str) -> None:
    results = compare(FakeDevice(), ours=FakeCandidate, bad=lambda: FakeCandidate(fails=fails))
    assert results["ours"].times is not None
    assert results["bad"].times is None
    assert results["bad"].note == f"RuntimeError: out of memory in {fails}"


def test_a_candidate_that_is_absent_says_why() -> None:
    def absent() -> Candidate:
        raise Absent("it is on holiday")

    results = compare(FakeDevice(), ours=FakeCandidate, theirs=absent)
    assert results["theirs"] == Result(None, None, "it is on holiday")


@pytest.mark.parametrize("gradient", [1.2, 0.0, -1.0, float("nan")])
def test_a_candidate_that_does_another_step_is_not_timed(gradient: float) -> None:
    results = compare(
        FakeDevice(), ours=FakeCandidate, wrong=lambda: FakeCandidate(gradient=gradient)
    )
    assert results["ours"].times is not None
    assert results["wrong"].times is None
    assert results["wrong"].note.startswith("Disagreement: variable 0 is off by")


def test_a_step_that_does_nothing_is_no_step() -> None:
    results = compare(FakeDevice(), ours=lambda: FakeCandidate(gradient=0.0))
    assert results["ours"].times is None


def test_rounding_is_no_disagreement() -> None:
    """Of TF32, whose products are right to about a thousandth."""
    results = compare(FakeDevice(), ours=FakeCandidate, theirs=lambda: FakeCandidate(1.001))
    assert results["theirs"].times is not None
    by_precision = [agreement.allowed(weights(precision=name)) for name in PRECISIONS]
    assert by_precision == sorted(by_precision)
    assert by_precision[-1] < 0.2


# ---- one case after the other ----


def record(case: Case, seconds: dict[str, float | None], **changes: Any) -> Record:
    """The named candidates with these medians."""
    results = {
        name: Result(None, None, "broken")
        if median is None
        else Result(Times(median, 0.99 * median, 1.01 * median, 5), 1000)
        for name, median in seconds.items()
    }
    return dataclasses.replace(Record(case, results, costs.floor(case, LIMITS)), **changes)


def make_part(records: list[Record] | None = None, **fields: Any) -> Part:
    machine = {"commit": "0123456789", "torch": "2.0"}
    return Part("full", machine, LIMITS, records=records or [], **fields)


def test_each_case_is_saved_when_it_is_measured() -> None:
    part = make_part()
    saved: list[int] = []
    cases = [weights(batch=batch) for batch in (16, 64, 256)]
    run.run_cases(
        FakeDevice(),
        cases,
        lambda case: record(case, {"splitop": 1.0}),
        float("inf"),
        part,
        lambda: saved.append(len(part.records)),
    )
    assert saved == [1, 2, 3]
    assert [made.case for made in part.records] == cases
    assert part.left_out == part.failures == []


def test_no_case_begins_after_the_deadline() -> None:
    part = make_part()

    def compare(case: Case) -> Record:
        pytest.fail(f"{case.name} was begun")

    run.run_cases(FakeDevice(), [weights()], compare, -1.0, part, lambda: None)
    assert part.left_out == [weights().name]
    assert "Not measured, because the time was over: 1 cases." in table.text(document(part))


@pytest.mark.parametrize("lost", [True, False])
def test_a_case_that_fails(lost: bool) -> None:
    """The others go on, unless the device is lost."""
    device, part = FakeDevice(), make_part()
    cases = [weights(batch=batch) for batch in (16, 64, 256)]

    def fail_once(case: Case) -> Record:
        if case.batch == 64:
            device.lost = lost
            raise RuntimeError("illegal address")
        return record(case, {"splitop": 1.0})

    run.run_cases(device, cases, fail_once, float("inf"), part, lambda: None)
    assert part.failures == [f"{cases[1].name}: RuntimeError: illegal address"]
    assert part.left_out == ([cases[2].name] if lost else [])
    assert len(part.records) == (1 if lost else 2)


# ---- the file ----


def document(part: Part, name: str = KERNELS) -> Document:
    return Document("Some GPU", {name: part})


def test_the_file_keeps_everything(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "deeper" / "results.json"
    records = [
        record(weights(), {"splitop": 1e-3, "tiles": 2e-3, "torch": None}, picked="chunks"),
        record(step(), {"splitop": 1e-4, "keras": 5e-4}, sets=7, expected={"tiles": 1e-3}),
    ]
    part = make_part(records, absent={"jax": "not installed"}, failures=["x"], left_out=["y"])
    document(part).save(path)
    assert Document.load(path) == document(part)
    assert list(path.parent.iterdir()) == [path]
    json.loads(path.read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize("content", ["", "[]", '{"device": "Some GPU"}'])
def test_a_file_of_another_format_is_not_continued(tmp_path: pathlib.Path, content: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    assert Document.load_for(path, "Some GPU") == Document("Some GPU")


def test_a_file_of_another_device_is_not_continued(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "results.json"
    assert Document.load_for(path, "Some GPU") == Document("Some GPU")
    document(make_part(), TENSORFLOW).save(path)
    assert Document.load_for(path, "Some GPU").parts == {TENSORFLOW: make_part()}
    assert Document.load_for(path, "Another GPU") == Document("Another GPU")


def test_file_name() -> None:
    assert file_name("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3.json"


# ---- tables, targets, plots ----


def test_targets_of_a_layer_alone() -> None:
    """Asked only where memory binds, the weights are cold and the layer is wide."""
    case = weights()
    floor = costs.floor(case, LIMITS).seconds
    good = record(case, {"splitop": floor / 0.86}, cold=True)
    assert [verdict.reached for verdict in targets.verdicts(good)] == [True]
    bad = record(case, {"splitop": floor / 0.84}, cold=True)
    assert [verdict.reached for verdict in targets.verdicts(bad)] == [False]
    assert "Missed: weights 1x4096 b64 adamw tf32: share of the copy rate 0.84, to reach 0.85." in (
        table.text(document(make_part([bad])))
    )
    for other in (
        record(case, {"splitop": 1.0}, cold=False),
        record(case, {"splitop": None}, cold=True),
        record(weights(width=1024), {"splitop": 1.0}, cold=True),
        record(weights(batch=1024), {"splitop": 1.0}, cold=True),
    ):
        assert targets.verdicts(other) == []


def test_targets_of_the_op() -> None:
    made = record(step(), {"splitop": 1.0, "reference": 0.99, "keras": 3.0, "keras jit": 1.3})
    verdicts = {verdict.what: verdict.reached for verdict in targets.verdicts(made)}
    assert verdicts == {
        "reference/splitop": False,
        "keras/splitop": True,
        "keras jit/splitop": True,
    }
    text = table.text(document(make_part([made]), TENSORFLOW))
    assert "Targets: 2 of 3 reached." in text
    assert f"{made.case.name} !" in text


def test_the_table_says_where_the_dispatch_was_wrong() -> None:
    seconds = {"splitop": 2e-3, "tiles": 2e-3, "chunks": 1e-3}
    made = record(weights(), seconds, picked="tiles", expected={"tiles": 1.6e-3, "chunks": 3e-3})
    text = table.text(document(make_part([made])))
    assert "took tiles, chunks needs 50% of its time." in text
    assert made.surprise() == pytest.approx(1.25)
    noise = record(weights(), {**seconds, "chunks": 1.99e-3}, picked="tiles")
    assert "took tiles," not in table.text(document(make_part([noise])))


def test_the_table_has_a_row_for_each_case_and_says_what_is_missing() -> None:
    made = [
        record(weights(), {"splitop": 1e-3, "torch": 1.5e-3}, cold=True),
        record(weights(width=256), {"splitop": None, "torch": 1e-3}),
        record(step(), {"splitop": 1e-3, "jax": None}),
    ]
    text = table.text(document(make_part(made, absent={"jax": "jax is not installed"})))
    lines = text.splitlines()
    (row,) = [line for line in lines if line.startswith(made[0].case.name)]
    assert "1000.0 (990.0 to 1010.0)" in row
    assert row.split()[-4:] == ["1.50", "0.0", "0.0", "67.1"]
    assert "Absent: jax: jax is not installed." in lines
    assert "Not measured in 1 cases: jax: broken" in lines
    assert sum(line.startswith(("weights ", "step ")) for line in lines) == 3


def test_an_emulation_is_not_judged() -> None:
    made = record(weights(), {"splitop": 1.0, "tiles": 1.0, "chunks": 0.5}, picked="tiles")
    part = make_part([dataclasses.replace(made, cold=True)])
    judged = table.text(document(part))
    part.machine["emulated"] = True
    text = table.text(document(part))
    assert "the times mean nothing" in text
    for mark in (f"{made.case.name} !", "Missed: ", "Dispatch: ", "Targets: "):
        assert mark in judged
        assert mark not in text


def test_plot(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.gpu import plot

    cases = [weights(precision=precision) for precision in PRECISIONS]
    records = [record(case, {"splitop": 1e-3, "torch": 2e-3}) for case in [*cases, step()]]
    made = document(make_part([*records, record(weights(batch=16), {"splitop": None})]))
    for name, drawn in {"full.png": made, "empty.png": document(make_part())}.items():
        plot.save(drawn, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


# ---- the command ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "9x9"], "--only must be part of a case's name. Received: '9x9'."),
        (["--part", "nothing"], "argument --part: invalid choice"),
        (["--selection", "some"], "argument --selection: invalid choice"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        __main__.main(arguments)
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


def test_every_selection_has_a_budget() -> None:
    assert set(__main__.BUDGETS) == set(SELECTIONS)
    assert 2 * __main__.BUDGETS["quick"] < 5 * 60
    assert __main__.BUDGETS["full"] < 9 * 60
