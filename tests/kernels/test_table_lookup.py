"""The lookup of rows, through the C ABI."""

from __future__ import annotations

import numpy as np
import pytest

from splitop.lib import _kernels


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("id_dtype", ["int32", "int64"])
@pytest.mark.parametrize("width", [1, 3, 16, 32, 100, 1030])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_rows(dtype: str, id_dtype: str, width: int, num_threads: int) -> None:
    random = np.random.default_rng(width)
    table = random.normal(size=(501, width)).astype(dtype)
    for shape in [(), (0,), (1,), (7, 3), (4999,)]:
        ids = random.integers(0, 501, size=shape).astype(id_dtype)
        rows = _kernels.table_lookup(table, ids, num_threads=num_threads)
        np.testing.assert_array_equal(rows, table[ids])
        assert rows.dtype == table.dtype


@pytest.mark.parametrize("shape", [(5, 0), (0, 4), (0, 0)])
def test_empty_tables(shape: tuple[int, int]) -> None:
    table = np.zeros(shape, np.float32)
    count = 3 if shape[0] else 0
    ids = np.zeros(count, np.int64)
    assert _kernels.table_lookup(table, ids).shape == (count, shape[1])


@pytest.mark.parametrize("bad", [-1, 50, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("position", [0, 2999])
@pytest.mark.parametrize("width", [0, 4])
def test_ids_out_of_range(bad: int, position: int, width: int) -> None:
    ids = np.zeros(3000, np.int32)
    ids[position] = bad
    with pytest.raises(ValueError, match=r"ids must be in \[0, 50\)"):
        _kernels.table_lookup(np.zeros((50, width), np.float32), ids, num_threads=2)


def test_an_id_that_only_64_bits_hold() -> None:
    with pytest.raises(ValueError, match="one out of range"):
        _kernels.table_lookup(np.zeros((50, 4)), np.array([1 << 32]))


@pytest.mark.parametrize(
    ("table", "ids", "message"),
    [
        (np.zeros(4), np.zeros(2, np.int64), "two dimensions"),
        (np.zeros((4, 2)), np.zeros(2, np.int16), "int32, int64.*int16"),
        (np.zeros((4, 6))[:, ::2], np.zeros(2, np.int64), "table must be contiguous"),
    ],
)
def test_what_is_no_table(table: np.ndarray, ids: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _kernels.table_lookup(table, ids)
