"""The update of embedding tables against the float64 oracle, through the C ABI."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitop.lib import _kernels
from tests import oracle
from tests.kernels.collisions import COLLISIONS, placed
from tests.kernels.tables import (
    COMBINERS,
    Table,
    TableUpdate,
    assert_sums_of_squares,
    assert_tables_accurate,
    make_tables,
    run,
    to_kernel_tables,
    with_sums_of_squares,
)
from tests.kernels.updates import STEPS, State

# More ids than a worker sorts alone, and than one takes at a time; also where rows are few.
LARGE = Table(rows=70_001, width=3, ids=70_000)
TABLES = [
    Table(rows=50, width=1, ids=300),
    Table(rows=1000, width=3, ids=77, id_dtype="int32"),
    Table(rows=1, width=17, ids=9),
    Table(rows=5, width=33, ids=0),
    Table(rows=300, width=32, ids=2),
    Table(rows=40, width=1030, ids=60),
    Table(rows=200, width=17, ids=500, bags=40, bag_dtype="int64"),
    Table(rows=200, width=33, ids=500, weighted=True),
    Table(rows=200, width=8, ids=500, bags=90, combiner="mean", id_dtype="int32"),
    Table(rows=200, width=3, ids=500, bags=600, combiner="sqrtn", weighted=True),
]


SUMS_SQUARES = [rule for rule in oracle.RULES if rule not in ("adadelta", "adamax")]
ALL_ROWS = [dataclasses.replace(table, all_rows=True) for table in TABLES]


def assert_steps_accurate(
    dtype: str, tables: list[Table], rule: str, random_seed: int = 0, **options: int
) -> None:
    update, state = make_tables(dtype, tables, rule, random_seed)
    for _ in range(STEPS):
        after = run(update, state, **options)
        assert_tables_accurate(update, state, after)
        state = after


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", oracle.ALL_RULES)
@pytest.mark.parametrize("tables", [TABLES, ALL_ROWS], ids=["looked-up rows", "all rows"])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_every_rule(dtype: str, rule: str, tables: list[Table], num_threads: int) -> None:
    assert_steps_accurate(dtype, tables, rule, num_threads=num_threads)


@pytest.mark.parametrize("all_rows", [False, True])
@pytest.mark.parametrize("width", [1, 3, 17, 33, 64])
def test_every_isa(isa: str, width: int, all_rows: bool) -> None:
    table = Table(rows=400, width=width, ids=500, all_rows=all_rows)
    bags = dataclasses.replace(table, bags=80, combiner="mean", weighted=True)
    for rule in ("adam", "rowwise_adagrad"):
        assert_steps_accurate("float32", [table, bags], rule)


LARGE_TABLES = {
    "few duplicates": LARGE,
    "many duplicates": dataclasses.replace(LARGE, distinct=100),
    "one id": dataclasses.replace(LARGE, distinct=1),
    "one id of all rows": dataclasses.replace(LARGE, distinct=1, all_rows=True),
    "bags": dataclasses.replace(LARGE, bags=500, combiner="sqrtn", bag_dtype="int64"),
    "all rows": dataclasses.replace(LARGE, all_rows=True, id_dtype="int32"),
    "few rows": Table(rows=2, width=5, ids=70_000),
    "one row": Table(rows=1, width=1, ids=70_000, id_dtype="int32"),
    "wide rows": Table(rows=30, width=5000, ids=100, bags=10, combiner="mean"),
}


@pytest.mark.parametrize("case", LARGE_TABLES)
def test_large_table(case: str) -> None:
    table = LARGE_TABLES[case]
    assert_steps_accurate(
        "float32", [table, Table(rows=10, width=2, ids=10)], "adam", num_threads=2
    )


def test_ids_of_many_bits() -> None:
    rows, ids = 3_000_000, [2_999_999, 0, 2_097_152, 2_999_999, 65_536, 1, 2_097_152]
    update, state = make_tables("float32", [Table(rows=rows, width=1, ids=len(ids))], "sgd")
    lookup = dataclasses.replace(update.lookups[0], ids=np.array(ids))
    update = dataclasses.replace(update, lookups=(lookup,))
    assert_tables_accurate(update, state, run(update, state))


@st.composite
def tables(draw: st.DrawFn) -> Table:
    bags = draw(st.one_of(st.none(), st.integers(1, 50)))
    return Table(
        rows=draw(st.one_of(st.integers(1, 100), st.integers(1, 20_000))),
        width=draw(st.integers(1, 40)),
        ids=draw(st.one_of(st.integers(0, 100), st.integers(0, 3000))),
        bags=bags,
        combiner="sum" if bags is None else draw(st.sampled_from(COMBINERS)),
        weighted=draw(st.booleans()),
        all_rows=draw(st.booleans()),
        id_dtype=draw(st.sampled_from(["int32", "int64"])),
        bag_dtype=draw(st.sampled_from(["int32", "int64"])),
        distinct=draw(st.one_of(st.none(), st.integers(1, 20))),
    )


@settings(deadline=None, max_examples=60)
@given(
    dtype=st.sampled_from(["float32", "float64"]),
    tables=st.lists(tables(), max_size=5),
    rule=st.sampled_from(list(oracle.ALL_RULES)),
    random_seed=st.integers(0, 2**16),
    num_threads=st.integers(1, 3),
)
def test_any_tables(
    dtype: str, tables: list[Table], rule: str, random_seed: int, num_threads: int
) -> None:
    update, state = make_tables(dtype, tables, rule, random_seed)
    assert_tables_accurate(update, state, run(update, state, num_threads=num_threads))


@pytest.mark.parametrize("rule", oracle.ALL_RULES)
def test_same_bits_whatever_the_thread_count(rule: str) -> None:
    update, state = make_tables("float32", [*LARGE_TABLES.values(), *TABLES, *ALL_ROWS], rule)
    once = run(update, state, num_threads=1).named()
    for num_threads in (2, 3, 7):
        again = run(update, state, num_threads=num_threads).named()
        for name, value in once.items():
            assert value.tobytes() == again[name].tobytes(), f"{name}, {num_threads} threads"


@pytest.mark.parametrize(("rule", "distances"), COLLISIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_where_lines_collide(rule: str, dtype: str, distances) -> None:
    """Many rows in a row are not looked up, and are updated in one go."""
    table = Table(rows=700, width=33, ids=20, all_rows=True)
    update, state = make_tables(dtype, [table], rule)
    elsewhere = run(update, state, num_threads=2).named()
    for begin in (0, 64 + 8):
        variable, slots = placed(state.variables[0], state.slots[0], distances, begin)
        there = State((variable,), (slots,))
        _run_in_place(update, there, num_threads=2)
        for name, value in there.named().items():
            assert value.tobytes() == elsewhere[name].tobytes(), f"{name}, from byte {begin} on"


def test_no_tables() -> None:
    run(*make_tables("float32", [], "adam"))


def f32(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


GOOD = {
    "value": f32(10, 3),
    "slots": [f32(10, 3)],
    "ids": np.array([1, 9, 1, 0]),
    "gradient": f32(2, 3),
    "gradient_row": np.array([0, 1, 1, 0]),
    "combiner": "mean",
}
BAD_TABLES: dict[str, tuple[dict[str, Any], str]] = {
    "negative id": (
        dict(ids=np.array([1, 9, -1, 10])),
        "tables[1].ids[2] must be in [0, 10). Received: -1",
    ),
    "negative id of 32 bits": (
        dict(ids=np.array([1, 9, 1, -3], np.int32)),
        "tables[1].ids[3] must be in [0, 10). Received: -3",
    ),
    "id too large": (
        dict(ids=np.array([10, 9, 1, 0])),
        "tables[1].ids[0] must be in [0, 10). Received: 10",
    ),
    "id of more than 32 bits": (
        dict(ids=np.array([1, 2**32 + 1, 1, 0])),
        "tables[1].ids[1] must be in [0, 10). Received: 4294967297",
    ),
    "bag too large": (
        dict(gradient_row=np.array([0, 2, 1, 0])),
        "tables[1].gradient_row[1] must be in [0, 2). Received: 2",
    ),
    "bag before id": (
        dict(gradient_row=np.array([0, 2, 1, 0]), ids=np.array([1, 9, 10, 0])),
        "tables[1].gradient_row[1] must be in [0, 2). Received: 2",
    ),
    "no rows": (
        dict(value=f32(0, 3), slots=[f32(0, 3)]),
        "tables[1].ids[0] must be in [0, 0). Received: 1",
    ),
    "value of rank 1": (
        dict(value=f32(10)),
        "tables[1].value must have 2 dimensions. Received: shape [10]",
    ),
    "value of float64": (
        dict(value=np.ones((10, 3))),
        "tables[1].value must have dtype float32. Received: float64",
    ),
    "slot too much": (
        dict(slots=[f32(10, 3)] * 2),
        "tables[1].slots must have 1 arrays for the rule. Received: 2",
    ),
    "ids of rank 2": (
        dict(ids=np.ones((2, 2), np.int64)),
        "tables[1].ids must have 1 dimension. Received: shape [2, 2]",
    ),
    "ids of float32": (
        dict(ids=f32(4)),
        "tables[1].ids must have dtype int32 or int64. Received: float32",
    ),
    "ids with gaps": (
        dict(ids=np.zeros(8, np.int64)[::2]),
        "tables[1].ids must be contiguous in row-major order. Received: strides [16]",
    ),
    "gradient of another width": (
        dict(gradient=f32(2, 4)),
        "tables[1].gradient must have shape [2, 3]. Received: [2, 4]",
    ),
    "gradient without bags": (
        dict(gradient_row=None, combiner="sum"),
        "tables[1].gradient must have shape [4, 3]. Received: [2, 3]",
    ),
    "mean without bags": (
        dict(gradient_row=None, gradient=f32(4, 3)),
        "tables[1].combiner must be sum without gradient_row. Received: mean",
    ),
    "too few bags": (
        dict(gradient_row=np.array([0, 1])),
        "tables[1].gradient_row must have shape [4]. Received: [2]",
    ),
    "unknown combiner": (
        dict(combiner="max"),
        "tables[1].combiner must be one of sum, mean, sqrtn. Received: max",
    ),
    "weights of float64": (
        dict(id_weights=np.ones(4)),
        "tables[1].id_weights must have dtype float32. Received: float64",
    ),
    "too few weights": (
        dict(id_weights=f32(3)),
        "tables[1].id_weights must have shape [4]. Received: [3]",
    ),
}
BAD_ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "hyper too short": (dict(hyper=f32(2)), "hyper must have shape [5]. Received: [2]"),
    "hyper of integers": (
        dict(hyper=np.ones(5, np.int32)),
        "hyper must have dtype float32 or float64. Received: int32",
    ),
    "unknown rule": (dict(rule="adamw"), "Received: adamw"),
    "no threads": (dict(num_threads=0), "num_threads must be at least 1. Received: 0"),
}


def assert_refused(update: dict[str, Any], message: str, **arguments: Any) -> None:
    """The second of two tables is another one than a good one; nothing is written."""
    tables = [GOOD, {**GOOD, **update}]
    tables = [
        {**table, "value": table["value"].copy(), "slots": [s.copy() for s in table["slots"]]}
        for table in tables
    ]
    arrays = [array for table in tables for array in (table["value"], *table["slots"])]
    before = [array.tobytes() for array in arrays]
    good = {"rule": "momentum", "hyper": f32(5), "num_threads": 2}
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        _kernels.table_update(
            [_kernels.Table(**table) for table in tables], **{**good, **arguments}
        )
    assert [array.tobytes() for array in arrays] == before


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_table(case: str) -> None:
    assert_refused(*BAD_TABLES[case])


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_argument(case: str) -> None:
    arguments, message = BAD_ARGUMENTS[case]
    assert_refused({}, message, **arguments)


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("position", [0, 65_535, 65_536, 199_999])
def test_first_bad_id_of_many(position: int, num_threads: int) -> None:
    update, state = make_tables("float32", [Table(rows=9, width=1, ids=200_000)] * 2, "sgd")
    ids = update.lookups[1].ids
    ids[position] = 9
    ids[position + 1 :: 7] = -1
    before = _bits(state)
    message = re.escape(f"tables[1].ids[{position}] must be in [0, 9). Received: 9")
    with pytest.raises(ValueError, match=message):
        _run_in_place(update, state, num_threads)
    assert _bits(state) == before


def test_read_only_table() -> None:
    update, state = make_tables("float32", [Table(rows=9, width=1, ids=2)], "sgd")
    state.variables[0].flags.writeable = False
    with pytest.raises(ValueError, match=r"tables\[0\]\.value must be writeable"):
        _run_in_place(update, state, 1)


def _run_in_place(update: TableUpdate, state: State, num_threads: int) -> None:
    tables = to_kernel_tables(update, state)
    _kernels.table_update(tables, rule=update.rule, hyper=update.hyper, num_threads=num_threads)


def _bits(state: State) -> list[bytes]:
    return [array.tobytes() for array in state.named().values()]


@pytest.mark.parametrize("rule", SUMS_SQUARES)
@pytest.mark.parametrize("all_rows", [False, True])
def test_sums_of_squares(rule: str, all_rows: bool) -> None:
    table = Table(rows=40, width=7, ids=90, bags=20, combiner="mean", all_rows=all_rows)
    update, state = make_tables("float64", [table], rule)
    update = with_sums_of_squares(update)
    assert_sums_of_squares(update, state, run(update, state))


@pytest.mark.parametrize("rule", ["adadelta", "adamax", "rowwise_adagrad"])
def test_a_rule_that_has_no_sums_of_squares(rule: str) -> None:
    update, state = make_tables("float32", [Table(rows=4, width=3, ids=5)], rule)
    tables = to_kernel_tables(with_sums_of_squares(update), state)
    with pytest.raises(ValueError, match="invalid argument"):
        _kernels.table_update(tables, rule=rule, hyper=update.hyper)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("combiner", COMBINERS)
def test_ids_in_no_bag_add_nothing(dtype: str, combiner: str) -> None:
    table = Table(rows=30, width=5, ids=80, bags=20, combiner=combiner, bag_dtype="int64")
    update, state = make_tables(dtype, [table], "adagrad")
    lookup = update.lookups[0]
    in_bag = np.arange(80) % 3 != 0
    rows = np.where(in_bag, lookup.gradient_row, -1 - np.arange(80))
    dropped = dataclasses.replace(
        lookup, ids=lookup.ids[in_bag], gradient_row=lookup.gradient_row[in_bag]
    )
    expected = run(dataclasses.replace(update, lookups=(dropped,)), state)
    given = dataclasses.replace(lookup, gradient_row=rows)
    actual = run(dataclasses.replace(update, lookups=(given,)), state)
    # Rows of ids without a bag are updated with a gradient of 0; adagrad's weight decay shows it.
    touched = np.isin(np.arange(30), dropped.ids) | ~np.isin(np.arange(30), lookup.ids)
    for name, value in expected.named().items():
        np.testing.assert_array_equal(actual.named()[name][touched], value[touched])
