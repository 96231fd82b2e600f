"""The table update's CUDA kernels against the float64 oracle, through the C ABI."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import oracle
from tests.gpu.devices import Device
from tests.gpu.tables import TableCall, run_on_device
from tests.kernels.tables import (
    COMBINERS,
    Table,
    TableUpdate,
    assert_sums_of_squares,
    assert_tables_accurate,
    make_tables,
    run,
    with_sums_of_squares,
)
from tests.kernels.updates import STEPS, State

TABLES = [
    Table(rows=50, width=1, ids=300, distinct=9),
    Table(rows=1, width=17, ids=9),
    Table(rows=5, width=33, ids=0),
    Table(rows=90, width=7, ids=200, id_dtype="int32", hot=70),
    Table(rows=200, width=32, ids=150, bags=40, bag_dtype="int64"),
    Table(rows=60, width=33, ids=130, weighted=True, distinct=1),
    Table(rows=40, width=64, ids=70, bags=30, combiner="mean", id_dtype="int32"),
    Table(rows=30, width=128, ids=90, bags=100, combiner="sqrtn", weighted=True, distinct=4),
    Table(rows=20, width=300, ids=80, hot=66),
]
ALL_ROWS = [dataclasses.replace(table, all_rows=True) for table in TABLES]


def assert_steps_accurate(
    device: Device,
    dtype: str,
    tables: Sequence[Table],
    rule: str,
    random_seed: int = 0,
    offsets: Sequence[int] = (0,),
    steps: int = STEPS,
) -> None:
    update, state = make_tables(dtype, tables, rule, random_seed)
    for _ in range(steps):
        after = run_on_device(device, update, state, offsets)
        assert_tables_accurate(update, state, after)
        state = after


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", oracle.RULES)
@pytest.mark.parametrize("offsets", [(0,), (1,), (0, 1, 0, 0, 2, 0, 3)])
def test_every_rule(device: Device, dtype: str, rule: str, offsets: tuple[int, ...]) -> None:
    tables = [*TABLES[::2], *ALL_ROWS[1::2]] if offsets == (0,) else [*TABLES[1::2], *ALL_ROWS[::2]]
    assert_steps_accurate(device, dtype, tables, rule, offsets=offsets, steps=2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tables", [TABLES, ALL_ROWS], ids=["looked-up rows", "all rows"])
def test_many_steps(device: Device, dtype: str, tables: list[Table]) -> None:
    assert_steps_accurate(device, dtype, tables, "adam")


# Around the lengths at which segments are cut into parts, and parts shared out among lanes.
@pytest.mark.parametrize("width", [1, 7, 32, 33, 64, 128])
@pytest.mark.parametrize("all_rows", [False, True])
def test_one_id_of_many(device: Device, width: int, all_rows: bool) -> None:
    tables = [
        Table(rows=9, width=width, ids=ids, distinct=1, all_rows=all_rows)
        for ids in (1, 15, 16, 17, 31, 32, 33, 48, 49)
    ]
    tables += [
        Table(rows=100, width=width, ids=5000, hot=hot, distinct=50, all_rows=all_rows)
        for hot in (0, 4000)
    ]
    assert_steps_accurate(device, "float32", tables, "momentum", steps=1)


def test_every_place_of_a_segment(device: Device) -> None:
    """Segments of every length from each place of a tile on."""
    lengths = [*range(1, 60), *range(59, 0, -1)]
    update, state = make_tables("float32", [Table(rows=150, width=3, ids=sum(lengths))], "adagrad")
    ids = np.random.default_rng(1).permutation(np.repeat(np.arange(len(lengths)), lengths))
    update = dataclasses.replace(update, lookups=(dataclasses.replace(update.lookups[0], ids=ids),))
    assert_tables_accurate(update, state, run_on_device(device, update, state))


@st.composite
def any_table(draw: st.DrawFn) -> Table:
    bags = draw(st.one_of(st.none(), st.integers(1, 50)))
    ids = draw(st.integers(0, 300))
    return Table(
        rows=draw(st.one_of(st.integers(1, 100), st.integers(1, 3000))),
        width=draw(st.integers(1, 70)),
        ids=ids,
        bags=bags,
        combiner="sum" if bags is None else draw(st.sampled_from(COMBINERS)),
        weighted=draw(st.booleans()),
        all_rows=draw(st.booleans()),
        id_dtype=draw(st.sampled_from(["int32", "int64"])),
        bag_dtype=draw(st.sampled_from(["int32", "int64"])),
        distinct=draw(st.one_of(st.none(), st.integers(1, 20))),
        hot=draw(st.integers(0, ids)),
    )


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    dtype=st.sampled_from(["float32", "float64"]),
    tables=st.lists(any_table(), max_size=6),
    rule=st.sampled_from(list(oracle.RULES)),
    random_seed=st.integers(0, 2**16),
    offsets=st.lists(st.integers(0, 4), min_size=1, max_size=7),
)
def test_any_tables(
    device: Device, dtype: str, tables, rule: str, random_seed: int, offsets: list[int]
) -> None:
    assert_steps_accurate(device, dtype, tables, rule, random_seed, offsets, steps=1)


@pytest.mark.parametrize("count", [0, 1, 8, 9, 128, 129, 300])
def test_any_number_of_tables(device: Device, count: int) -> None:
    tables = [
        Table(rows=1 + i % 9, width=1 + i % 7, ids=i % 5, all_rows=i % 3 == 0) for i in range(count)
    ]
    assert_steps_accurate(device, "float32", tables, "adam", steps=1)


def test_nothing_to_do(device: Device) -> None:
    tables = [Table(rows=3, width=0, ids=4), Table(rows=3, width=2, ids=0)]
    update, state = make_tables("float32", tables, "adam")
    call = TableCall(device, update, state)
    assert call.scratch_bytes == 0
    call.run(scratch=None)
    assert _bits(call.state()) == _bits(state)


@pytest.mark.parametrize("rule", ["adagrad", "adam", "rmsprop", "ftrl"])
def test_sums_of_squares(device: Device, rule: str) -> None:
    tables = [
        Table(rows=40, width=width, ids=200, bags=20, combiner="mean", all_rows=all_rows, hot=90)
        for width in (7, 8)
        for all_rows in (False, True)
    ]
    update, state = make_tables("float64", tables, rule)
    update = with_sums_of_squares(update)
    assert_sums_of_squares(update, state, run_on_device(device, update, state))


OUT_OF_RANGE = [-1, 30, 2**40, -(2**40), 2**31, 2**32 + 3]


@pytest.mark.parametrize("all_rows", [False, True])
@pytest.mark.parametrize("bags", [None, 40])
def test_ids_out_of_range_update_nothing(device: Device, bags: int | None, all_rows: bool) -> None:
    table = Table(rows=30, width=9, ids=300, bags=bags, all_rows=all_rows, hot=100)
    update, state = make_tables("float32", [table, Table(rows=20, width=4, ids=50)], "adagrad")
    lookup, good = update.lookups[0], np.arange(300) % 4 != 0
    ids = lookup.ids.copy()
    ids[~good] = np.resize(OUT_OF_RANGE, 75)
    received = run_on_device(device, _replaced(update, ids=ids), state)
    of_positions = "gradient" if bags is None else "gradient_row"
    kept = {name: getattr(lookup, name)[good] for name in ("ids", of_positions)}
    expected = run_on_device(device, _replaced(update, **kept), state)
    assert _bits(received) == _bits(expected)


def test_bags_out_of_range_add_nothing(device: Device) -> None:
    """The rows of their ids are updated all the same."""
    update, state = make_tables("float32", [Table(rows=30, width=9, ids=300, bags=30)], "adagrad")
    good = np.arange(300) % 4 != 0
    rows = np.where(good, update.lookups[0].gradient_row, np.resize(OUT_OF_RANGE, 300))
    received = run_on_device(device, _replaced(update, gradient_row=rows), state)
    without = _replaced(update, id_weights=good.astype(np.float32))
    assert_tables_accurate(without, state, received)


def _replaced(update: TableUpdate, **fields: np.ndarray) -> TableUpdate:
    first, *others = update.lookups
    return dataclasses.replace(update, lookups=(dataclasses.replace(first, **fields), *others))


def test_only_ids_out_of_range(device: Device) -> None:
    update, state = make_tables("float32", [Table(rows=30, width=8, ids=300)], "adam")
    update = _replaced(update, ids=np.full(300, 30))
    assert _bits(run_on_device(device, update, state)) == _bits(state)


@pytest.mark.parametrize("combiner", COMBINERS)
def test_ids_in_no_bag_add_nothing(device: Device, combiner: str) -> None:
    table = Table(rows=30, width=5, ids=80, bags=20, combiner=combiner, bag_dtype="int64")
    update, state = make_tables("float32", [table], "adagrad")
    rows = np.where(np.arange(80) % 3 != 0, update.lookups[0].gradient_row, -1 - np.arange(80))
    update = _replaced(update, gradient_row=rows)
    expected = run(update, state).named()
    for name, value in run_on_device(device, update, state).named().items():
        np.testing.assert_allclose(value, expected[name], 1e-6, 1e-6, err_msg=name)


@pytest.mark.parametrize("rule", ["sgd", "adam", "ftrl"])
def test_same_bits_from_run_to_run(device: Device, rule: str) -> None:
    update, state = make_tables("float32", [*TABLES, *ALL_ROWS], rule)
    once = _bits(run_on_device(device, update, state))
    for _ in range(3):
        assert _bits(run_on_device(device, update, state)) == once


def test_nan_stays_in_its_row(device: Device) -> None:
    update, state = make_tables("float32", [Table(rows=40, width=6, ids=60, all_rows=True)], "adam")
    update.lookups[0].gradient[7, 2] = np.nan
    (value,) = run_on_device(device, update, state).variables
    assert np.argwhere(~np.isfinite(value)).tolist() == [[update.lookups[0].ids[7], 2]]


@pytest.mark.parametrize("rule", ["sgd", "adagrad", "adam"])
@pytest.mark.parametrize("all_rows", [False, True])
def test_large_tables(real_gpu: Device, rule: str, all_rows: bool) -> None:
    tables = [
        Table(rows=1_000_000, width=32, ids=26 * 1024, all_rows=all_rows),
        Table(rows=300_000, width=64, ids=400_000, hot=150_000, all_rows=all_rows),
        Table(rows=2_000_000, width=1, ids=1_000_000, bags=4096, combiner="mean"),
    ]
    assert_steps_accurate(real_gpu, "float32", tables, rule, steps=1)


def test_too_little_scratch(device: Device) -> None:
    update, state = make_tables("float32", TABLES, "adam")
    call = TableCall(device, update, state)
    message = f"scratch must have at least {call.scratch_bytes} bytes. Received: "
    for scratch in (None, call.memory.scratch(call.scratch_bytes - 1)):
        with pytest.raises(ValueError, match=message):
            call.run(scratch=scratch)
    assert _bits(call.state()) == _bits(state)


def _bits(state: State) -> list[bytes]:
    return [array.tobytes() for array in state.named().values()]
