"""`python -m benchmarks.gpu.tables`: the update of an embedding table, against torch.

Only the update: the gradients of the rows looked up are in memory, one for each id. It is measured
with ids that are all alike in frequency, and with ids some of which come thousands of times, as
words and products do (Zipf's law). Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import gc
import importlib.util
import json
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.gpu import rules, timing
from benchmarks.gpu.__main__ import EMULATED_RESULTS, NOT_HERE, RESULTS, require_kernels
from benchmarks.gpu.device import Array, Device, Work, open_device
from benchmarks.gpu.results import file_name
from benchmarks.gpu.table import NOTHING, align

UNIFORM, ZIPF = "uniform", "zipf"
ZIPF_EXPONENT = 1.05
SCATTERED = 7_919  # a prime: the frequent ids lie anywhere in the table
ADAM = "adam"  # all rows are updated
LAZY_ADAM = "lazy adam"  # only those that were looked up
UPDATES = ("sgd", "adagrad", ADAM, LAZY_ADAM)
SLOTS = {"sgd": 0, "adagrad": 1, ADAM: 2, LAZY_ADAM: 2}

SPLITOP = "splitop"
TORCH = "torch optimizer"
INDEX_ADD = "torch index_add_"
RATE = 0.1  # steps far above the rounding of weights
ADAGRAD_EPSILON = 1e-10
BYTES = 4  # of a weight, a slot, a gradient
ID_BYTES = 8
ROUNDS = 9
CACHES = 4  # batches of ids take turns, until the rows of one have left the cache
AGREEMENT = 1e-4  # the part of a step's length by which two may differ


@dataclasses.dataclass(frozen=True)
class TableCase:
    """A table, how many rows are looked up a step, and the update."""

    rows: int
    width: int
    ids: int
    distribution: str
    update: str

    @property
    def name(self) -> str:
        return f"{self.rows}x{self.width} {self.ids} {self.distribution} {self.update}"

    @property
    def slots(self) -> int:
        return SLOTS[self.update]

    @property
    def all_rows(self) -> bool:
        return self.update == ADAM

    def floor_bytes(self, distinct: float) -> float:
        """Ids and gradients are read once; rows that are updated are read and written once."""
        updated = self.rows if self.all_rows else distinct
        gradients = self.ids * (self.width * BYTES + ID_BYTES)
        return gradients + updated * self.width * 2 * BYTES * (1 + self.slots)


def cases(tiny: bool) -> list[TableCase]:
    """The cases, in the order of their worth."""
    shapes = (
        [(500, 8, 300), (300, 7, 100)] if tiny else [(10**6, 32, 26 * 1024), (10**7, 16, 26 * 1024)]
    )
    return [
        TableCase(*shape, distribution, update)
        for shape in shapes
        for distribution in (UNIFORM, ZIPF)
        for update in UPDATES
    ]


@dataclasses.dataclass(frozen=True)
class Batch:
    """What one step is given."""

    ids: Array
    gradient: Array


class Inputs:
    """A table, its slots, and batches of ids; all candidates of a case share them."""

    def __init__(self, device: Device, case: TableCase) -> None:
        self.device = device
        self.case = case
        random = np.random.default_rng(0)
        shape = (case.rows, case.width)
        self.value = device.normal(shape, "float32")
        slots = [device.normal(shape, "float32", 0.1) for _ in range(case.slots)]
        # Sums and means of squares: the last one is.
        self.slots = [s * s + 0.01 if s is slots[-1] else s for s in slots]
        ids = [_draw(random, case) for _ in range(_batches(device, case))]
        counts = [np.unique(each, return_counts=True)[1] for each in ids]
        self.distinct = float(np.mean([len(each) for each in counts]))
        self.hottest = max(int(each.max()) for each in counts)
        gradient_shape = (case.ids, case.width)
        self.batches = [
            Batch(_to_device(device, each), device.normal(gradient_shape, "float32", 0.1))
            for each in ids
        ]

    def variables(self) -> list[Array]:
        return [self.value, *self.slots]


def _batches(device: Device, case: TableCase) -> int:
    of_rows = case.ids * case.width * BYTES * (2 + case.slots)
    return int(min(max(2, CACHES * device.l2_bytes // of_rows + 1), device.max_sets))


def _draw(random: np.random.Generator, case: TableCase) -> np.ndarray:
    if case.distribution == UNIFORM:
        return random.integers(0, case.rows, case.ids)
    shares = _zipf_shares(case.rows)
    ranks = np.searchsorted(shares, random.random(case.ids) * shares[-1])
    return ranks * SCATTERED % case.rows


@functools.lru_cache(maxsize=1)
def _zipf_shares(rows: int) -> np.ndarray:
    """Of the most frequent ids together."""
    return np.cumsum(np.arange(1.0, rows + 1) ** -ZIPF_EXPONENT)


def _to_device(device: Device, ids: np.ndarray) -> Array:
    if not importlib.util.find_spec("torch"):
        return ids
    import torch

    return torch.from_numpy(ids).to(device.kind)  # type: ignore[attr-defined]


# ---- candidates ----


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to do the step.

    Attributes:
        step: Does that of a batch.
        waits: Whether it waits for the device, so that a CUDA graph can't have it.
    """

    step: Callable[[Batch], object]
    waits: bool = False


def splitop_ways(inputs: Inputs) -> dict[str, Way]:
    """splitop's kernels."""
    from splitop.lib import _kernels

    case, device = inputs.case, inputs.device
    hyper = {
        "sgd": rules.hyper("sgd", RATE),
        "adagrad": [0.0, RATE, ADAGRAD_EPSILON],
        ADAM: rules.hyper("adam", RATE),
        LAZY_ADAM: _sparse_adam_hyper(),
    }[case.update]
    options = {
        "rule": "adam" if case.update == LAZY_ADAM else case.update,
        "hyper": device.vector(hyper),
    }

    def call(function: Callable[..., Any], batch: Batch, **more: Any) -> Any:
        table = _kernels.Table(
            inputs.value, inputs.slots, batch.ids, batch.gradient, all_rows=case.all_rows
        )
        return function([table], stream=device.stream(), **options, **more)

    size = call(_kernels.cuda_table_update_scratch_bytes, inputs.batches[0])
    scratch = device.scratch(size)
    return {SPLITOP: Way(lambda batch: call(_kernels.cuda_table_update, batch, scratch=scratch))}


def _sparse_adam_hyper() -> list[float]:
    """torch.optim.SparseAdam's first step: epsilon is added to the root as it is."""
    _, step_size, *rest, _ = rules.hyper("adam", RATE)
    return [0.0, step_size, *rest, rules.EPSILON]


def torch_ways(inputs: Inputs) -> dict[str, Way]:
    """What a user of torch has."""
    if inputs.case.all_rows:
        return {TORCH: _torch_dense_adam(inputs)}
    ways = {TORCH: _torch_sparse(inputs)}
    return ways | ({INDEX_ADD: _torch_index_add(inputs)} if inputs.case.update == "sgd" else {})


def _torch_index_add(inputs: Inputs) -> Way:
    """Adds by atomics, so in another order each time; there is no state to update."""
    return Way(lambda batch: inputs.value.index_add_(0, batch.ids, batch.gradient, alpha=-RATE))


def _torch_sparse(inputs: Inputs) -> Way:
    """An nn.Embedding(sparse=True)'s gradient, and the optimizer for such ones."""
    import torch

    parameter = torch.nn.Parameter(inputs.value)
    shape = tuple(inputs.value.shape)
    optimizer: Any
    if inputs.case.update == "sgd":
        optimizer = torch.optim.SGD([parameter], lr=RATE)
    elif inputs.case.update == "adagrad":
        optimizer = torch.optim.Adagrad([parameter], lr=RATE, eps=ADAGRAD_EPSILON)
        optimizer.state[parameter]["sum"] = inputs.slots[0]
    else:
        optimizer = torch.optim.SparseAdam(
            [parameter], lr=RATE, betas=(rules.BETA1, rules.BETA2), eps=rules.EPSILON
        )
        optimizer.state[parameter] |= _adam_state(inputs, step=0)

    def step(batch: Batch) -> None:
        parameter.grad = torch.sparse_coo_tensor(
            batch.ids.unsqueeze(0), batch.gradient, shape, check_invariants=False
        )
        optimizer.step()

    return Way(step, waits=True)  # for the number of distinct ids


def _torch_dense_adam(inputs: Inputs) -> Way:
    """A gradient of the whole table, as without sparse=True, and the fused optimizer."""
    import torch

    parameter = torch.nn.Parameter(inputs.value)
    optimizer = torch.optim.Adam(
        [parameter],
        lr=RATE,
        betas=(rules.BETA1, rules.BETA2),
        eps=rules.EPSILON,
        fused=True,
        capturable=parameter.is_cuda,
    )
    optimizer.state[parameter] |= _adam_state(inputs, step=torch.zeros((), device=parameter.device))

    def step(batch: Batch) -> None:
        gradient = torch.zeros_like(inputs.value)
        parameter.grad = gradient.index_add_(0, batch.ids, batch.gradient)
        optimizer.step()
        parameter.grad = None

    return Way(step)


def _adam_state(inputs: Inputs, step: Any) -> dict[str, Any]:
    return {"step": step, "exp_avg": inputs.slots[0], "exp_avg_sq": inputs.slots[1]}


# ---- a case ----


@dataclasses.dataclass(frozen=True)
class Result:
    """One candidate's seconds a step; None, and the reason in `note`, if it has none."""

    times: timing.Times | None
    note: str


@dataclasses.dataclass(frozen=True)
class Record:
    """A case's results by the candidates' names.

    Attributes:
        distinct: Rows that were looked up, of a batch.
        hottest: How often the most frequent id comes in a batch.
        floor_seconds: What the least bytes take at the measured copy rate.
    """

    case: TableCase
    distinct: float
    hottest: int
    floor_seconds: float
    results: dict[str, Result]


def compare(device: Device, case: TableCase, copy_rate: float) -> Record:
    """Measures one case; a candidate that fails is left out, with the reason."""
    inputs = Inputs(device, case)
    ways = splitop_ways(inputs)
    if importlib.util.find_spec("torch"):
        ways |= torch_ways(inputs)
    before = [device.clone(array) for array in inputs.variables()]
    expected: list[Array] = []
    notes: dict[str, str] = {}
    samplers: dict[str, Callable[[], float]] = {}
    for name, way in ways.items():
        try:
            after = _one_step(inputs, way, before)
            expected = expected or [device.clone(array) for array in after]
            _check(device, before, expected, after)
            samplers[name], notes[name] = _sampler(inputs, way)
        except Exception as error:
            notes[name] = f"{type(error).__name__}: {error}"
            device.synchronize()
    times = timing.measure(samplers, ROUNDS) if samplers else {}
    floor = case.floor_bytes(inputs.distinct) / copy_rate
    results = {name: Result(times.get(name), note) for name, note in notes.items()}
    return Record(case, inputs.distinct, inputs.hottest, floor, results)


def _one_step(inputs: Inputs, way: Way, before: list[Array]) -> list[Array]:
    for array, value in zip(inputs.variables(), before, strict=True):
        inputs.device.assign(array, value)
    way.step(inputs.batches[0])
    inputs.device.synchronize()
    return inputs.variables()


def _check(device: Device, before: list[Array], expected: list[Array], after: list[Array]) -> None:
    for index, (start, want, got) in enumerate(zip(before, expected, after, strict=True)):
        moved, apart = device.distance(want, start), device.distance(got, want)
        if not (moved > 0 and apart <= AGREEMENT * moved):
            raise AssertionError(f"variable {index} is off by {apart:.3g} of {moved:.3g}")


def _sampler(inputs: Inputs, way: Way) -> tuple[Callable[[], float], str]:
    """What times a block of steps and returns the seconds of one; and how."""
    device = inputs.device

    def run_all() -> None:
        for batch in inputs.batches:
            way.step(batch)

    run_all()
    repeat: Work = run_all if way.waits else device.capture(run_all)
    for _ in range(2):
        repeat()
    count = timing.repeats(timing.BLOCK_SECONDS, device.seconds(repeat))

    def block() -> None:
        for _ in range(count):
            repeat()

    how = "without a CUDA graph" if repeat is run_all else "CUDA graph"
    return lambda: device.seconds(block) / (count * len(inputs.batches)), f"{device.clock}, {how}"


# ---- the run ----


def main(argv: Sequence[str] | None = None) -> int:
    options = _parse(argv)
    try:
        require_kernels(options.emulated)
        device = open_device(options.emulated)
    except (RuntimeError, ImportError) as error:
        print(f"The tables can't be measured: {error}", file=sys.stderr)
        return NOT_HERE
    copy_rate = _copy_rate(device)
    print(f"{device.name}: copies {copy_rate / 1e9:.4g} GB/s", flush=True)
    path = options.json or _default_path(device.name, options.emulated)
    records: list[Record] = []
    failures = []
    for case in cases(options.emulated):
        if options.only not in case.name:
            continue
        print(case.name, flush=True)
        try:
            records.append(compare(device, case, copy_rate))
        except Exception as error:
            failures.append(f"{case.name}: {type(error).__name__}: {error}")
        gc.collect()
        _save(path, device.name, copy_rate, records, failures)
    print("\n".join([*text(records), *(f"Failed: {failure}" for failure in failures)]))
    print(f"Results: {path}")
    return 1 if failures or any(r.results[SPLITOP].times is None for r in records) else 0


def text(records: Sequence[Record]) -> list[str]:
    """The table, and why what is missing is."""
    names = list(dict.fromkeys(name for record in records for name in record.results))
    others = [name for name in names if name != SPLITOP]
    rows = [
        ["case", "rows", "hottest", SPLITOP, "limit", *(f"{name}/{SPLITOP}" for name in others)]
    ]
    for record in records:
        own = record.results[SPLITOP].times
        rows.append(
            [
                record.case.name,
                f"{record.distinct:.0f}",
                str(record.hottest),
                NOTHING if own is None else f"{1e6 * own.median:.1f}",
                NOTHING if own is None else f"{100 * record.floor_seconds / own.median:.0f}%",
                *(_ratio(record, name) for name in others),
            ]
        )
    notes = {
        f"{name}: {result.note}" for record in records for name, result in record.results.items()
    }
    return [
        "Microseconds a step (median). rows: distinct ids of a batch; hottest: how often the most "
        "frequent one comes. limit: splitop's share of the measured copy rate, by the least bytes. "
        "x/splitop: how many times as long x takes.",
        *align(rows),
        *sorted(notes),
    ]


def _ratio(record: Record, name: str) -> str:
    result, own = record.results.get(name), record.results[SPLITOP].times
    if result is None or result.times is None or own is None:
        return NOTHING
    return f"{result.times.median / own.median:.2f}"


def _copy_rate(device: Device) -> float:
    from benchmarks.gpu.limits import median_seconds

    return 2 * device.limit_bytes / median_seconds(device, device.copier())


def _save(
    path: pathlib.Path, name: str, copy_rate: float, records: list[Record], failures: list[str]
) -> None:
    document = {
        "device": name,
        "copy_rate": copy_rate,
        "records": [dataclasses.asdict(record) for record in records],
        "failures": failures,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def _default_path(device: str, emulated: bool) -> pathlib.Path:
    if emulated:
        return EMULATED_RESULTS.with_name("emulated-tables.json")
    return RESULTS / f"tables-{file_name(device)}"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.tables", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with TEXT in their name")
    parser.add_argument(
        "--json", type=pathlib.Path, help="default: benchmarks/results/tables-<device>.json"
    )
    parser.add_argument(
        "--emulated", action="store_true", help="a dry run without a GPU, on an emulated build"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
