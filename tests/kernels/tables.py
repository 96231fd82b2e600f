"""Random updates of embedding tables in a non-zero optimizer state, and what they must give."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from splitop.lib import _kernels
from tests import oracle
from tests.accuracy import FEW, PRECISIONS, assert_accurate, update_few_ulp
from tests.kernels import plain
from tests.kernels.updates import State, make_update

COMBINERS = ("sum", "mean", "sqrtn")


@dataclasses.dataclass(frozen=True)
class Table:
    """A table's size, and how its rows are looked up.

    Attributes:
        rows: Of the table.
        width: Of a row.
        ids: How many positions.
        bags: How many bags they are in; None: none at all.
        combiner: Of the rows of a bag.
        weighted: Whether the positions have weights.
        all_rows: Whether rows that were not looked up are updated as well.
        id_dtype: Dtype of the ids.
        bag_dtype: Dtype of the bags' indices.
        distinct: How many different ids there are at most.
        hot: How many of the positions, anywhere, have the same id besides.
    """

    rows: int
    width: int
    ids: int
    bags: int | None = None
    combiner: str = "sum"
    weighted: bool = False
    all_rows: bool = False
    id_dtype: str = "int64"
    bag_dtype: str = "int32"
    distinct: int | None = None
    hot: int = 0


@dataclasses.dataclass(frozen=True)
class Lookup:
    """What one call is given for a table, besides the state."""

    ids: np.ndarray
    gradient: np.ndarray
    gradient_row: np.ndarray | None
    combiner: str
    id_weights: np.ndarray | None
    all_rows: bool
    sums_squares: bool = False

    def row_gradients(self, rows: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        """The gradient of every row of the table, and the sums of its terms' magnitudes."""
        bags, factors = np.arange(len(self.ids)), np.ones(len(self.ids), dtype)
        if self.gradient_row is not None:
            bags = self.gradient_row
            sizes = np.bincount(bags, minlength=1)[bags].astype(dtype)
            factors = {"sum": factors, "mean": 1 / sizes, "sqrtn": 1 / np.sqrt(sizes)}[
                self.combiner
            ]
        if self.id_weights is not None:
            factors = factors * self.id_weights.astype(dtype)
        terms = factors[:, None] * self.gradient.astype(dtype)[bags]
        sums = np.zeros((2, rows, self.gradient.shape[1]), dtype)
        np.add.at(sums[0], self.ids, terms)
        np.add.at(sums[1], self.ids, abs(terms))
        return sums[0], sums[1]

    def updated_rows(self, rows: int) -> np.ndarray:
        """Whether each row of the table is updated."""
        updated = np.full(rows, self.all_rows)
        updated[self.ids] = True
        return updated


@dataclasses.dataclass(frozen=True)
class TableUpdate:
    """What one call is given besides the state."""

    lookups: tuple[Lookup, ...]
    rule: str
    hyper: np.ndarray
    decayed: tuple[bool, ...]


def make_tables(
    dtype: str, tables: Sequence[Table], rule: str, random_seed: int = 0
) -> tuple[TableUpdate, State]:
    """An update of these tables, and the state before it."""
    shapes = [(table.rows, table.width) for table in tables]
    update, state = make_update(PRECISIONS[dtype], shapes, rule, random_seed)
    random = np.random.default_rng(random_seed)
    lookups = tuple(_lookup(random, dtype, table) for table in tables)
    return TableUpdate(lookups, rule, update.hyper, update.decayed), state


def _lookup(random: np.random.Generator, dtype: str, table: Table) -> Lookup:
    known = random.integers(0, table.rows, table.distinct or table.ids)
    bags = None
    if table.bags is not None:
        bags = random.integers(0, table.bags, table.ids).astype(table.bag_dtype)
    ids = random.choice(known, table.ids).astype(table.id_dtype) if table.ids else known[:0]
    if table.hot:
        ids[random.permutation(table.ids)[: table.hot]] = random.integers(0, table.rows)
    gradient_rows = table.ids if table.bags is None else table.bags
    return Lookup(
        ids=ids,
        gradient=random.normal(size=(gradient_rows, table.width)).astype(dtype),
        gradient_row=bags,
        combiner=table.combiner,
        id_weights=random.normal(size=table.ids).astype(dtype) if table.weighted else None,
        all_rows=table.all_rows,
    )


def to_kernel_tables(
    update: TableUpdate, state: State, table: Callable[..., Any] = _kernels.Table
) -> list[Any]:
    """The tables as the compiled module takes them; the arrays are shared."""
    return [
        table(
            value,
            slots,
            lookup.ids,
            lookup.gradient,
            gradient_row=lookup.gradient_row,
            combiner=lookup.combiner,
            id_weights=lookup.id_weights,
            all_rows=lookup.all_rows,
            sums_squares=lookup.sums_squares,
            decayed=decayed,
        )
        for lookup, value, slots, decayed in zip(
            update.lookups, state.variables, state.slots, update.decayed, strict=True
        )
    ]


def run(update: TableUpdate, state: State, **options: int) -> State:
    """The state after a call of the CPU kernel."""
    after = state.copy()
    _kernels.table_update(
        to_kernel_tables(update, after), rule=update.rule, hyper=update.hyper, **options
    )
    return after


def assert_tables_accurate(update: TableUpdate, before: State, after: State) -> None:
    """Asserts the accuracy rule for the rows that are updated, and the bits of the others."""
    for i, lookup in enumerate(update.lookups):
        rows = len(before.variables[i])
        updated = lookup.updated_rows(rows)
        old, new = _variable(before, i), _variable(after, i)
        for was, now in zip(old, new, strict=True):
            assert was[~updated].tobytes() == now[~updated].tobytes(), f"table {i}"
        value, *slots = (array[updated] for array in old)
        dtype = value.dtype
        exact, magnitude = lookup.row_gradients(rows, np.float64)
        rounded, _ = lookup.row_gradients(rows, dtype)
        how = (update.decayed[i], update.rule, update.hyper)
        # In float64 the oracle's own sums are rounded as well: an ulp a term (Higham, ch. 4).
        terms = np.bincount(lookup.ids, minlength=rows)[updated, None] if dtype == np.float64 else 0
        few = update_few_ulp(
            f"table {i}",
            *(value, slots, exact[updated], *how),
            (FEW + terms) * np.finfo(dtype).eps * magnitude[updated],
        )
        assert_accurate(
            _named(i, [array[updated] for array in new]),
            _named(i, _arrays(plain.update(value, slots, rounded[updated], *how))),
            _named(i, _arrays(oracle.update(value, slots, exact[updated], *how))),
            few,
        )


class Sum(np.ndarray):
    """Sums of terms; times itself, it is the sums of their squares."""

    def __new__(cls, terms: np.ndarray, ids: np.ndarray, rows: int) -> Sum:
        sums = np.zeros((2, rows, terms.shape[1]))
        np.add.at(sums[0], ids, terms)
        np.add.at(sums[1], ids, terms**2)
        made = sums[0].view(cls)
        made.squares = sums[1]
        return made

    def __mul__(self, other: Any) -> np.ndarray:
        return self.squares if other is self else np.asarray(self) * other


def with_sums_of_squares(update: TableUpdate) -> TableUpdate:
    """The same update, of tables that sum up squares."""
    lookups = (dataclasses.replace(lookup, sums_squares=True) for lookup in update.lookups)
    return dataclasses.replace(update, lookups=tuple(lookups))


def assert_sums_of_squares(update: TableUpdate, before: State, after: State) -> None:
    """Asserts that float64 tables of mean bags, which sum up squares, are what the oracle says."""
    for i, lookup in enumerate(update.lookups):
        rows = len(before.variables[i])
        sizes = np.bincount(lookup.gradient_row)[lookup.gradient_row]
        terms = lookup.gradient[lookup.gradient_row] / sizes[:, np.newaxis]
        gradient = Sum(terms, lookup.ids, rows)
        expected = oracle.update(
            before.variables[i],
            before.slots[i],
            gradient,
            update.decayed[i],
            update.rule,
            update.hyper,
        )
        updated = lookup.updated_rows(rows)
        for got, want in zip(_variable(after, i), _arrays(expected), strict=True):
            np.testing.assert_allclose(got[updated], np.asarray(want)[updated], 1e-13, 1e-13)


def _variable(state: State, i: int) -> list[np.ndarray]:
    return [state.variables[i], *state.slots[i]]


def _arrays(updated: tuple[np.ndarray, tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    value, slots = updated
    return [value, *slots]


def _named(i: int, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    value, *slots = arrays
    return {f"table {i}": value, **{f"table {i} slot {s}": slot for s, slot in enumerate(slots)}}
