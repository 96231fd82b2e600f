"""The emulated instructions against plain formulas, written after the PTX ISA."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import ml_dtypes
import numpy as np
import pytest

LANES = 32


def call(function: ctypes._CFuncPtr, *arguments: np.ndarray | int) -> None:
    """Arrays by address."""
    status = function(
        *(
            ctypes.c_void_p(x.ctypes.data) if isinstance(x, np.ndarray) else ctypes.c_int(x)
            for x in arguments
        )
    )
    assert status == 0


def same_or_both_nan(actual: np.ndarray, expected: np.ndarray) -> bool:
    """Of floats: the same bits, but any NaN for a NaN."""
    bits = f"u{actual.itemsize}"
    same = actual.view(bits) == expected.view(bits)
    nan = np.isnan(actual) & np.isnan(expected)
    return bool(np.all(same | nan))


# ---- conversions ----


def interesting_floats() -> np.ndarray:
    """Both signs, every exponent, the ties of every format, and the neighbours of all these."""
    rng = np.random.default_rng(0)
    halves = np.arange(65536, dtype=np.uint16)
    with np.errstate(invalid="ignore"):
        as_half = halves.view(np.float16).astype(np.float32)
    high = halves.astype(np.uint32) << 16
    tf32_ties = high | 0x1000 | (rng.integers(0, 4, 65536).astype(np.uint32) << 13)
    centres = np.concatenate(
        [
            as_half.view(np.uint32),
            # Halfway to the next float16, bfloat16 and TF32 number.
            as_half.view(np.uint32) + 0x1000,
            high | 0x8000,
            tf32_ties,
            rng.integers(0, 2**32, 65536, dtype=np.uint32),
        ]
    )
    return np.concatenate([centres - 1, centres, centres + 1]).view(np.float32)


def test_half_to_float_of_every_half(kernels: ctypes.CDLL) -> None:
    halves = np.arange(65536, dtype=np.uint16)
    result = np.empty(65536, np.float32)
    call(kernels.run_half_to_float, halves, result, 65536)
    assert same_or_both_nan(result, halves.view(np.float16).astype(np.float32))


def test_float_to_half(kernels: ctypes.CDLL) -> None:
    x = interesting_floats()
    result = np.empty(x.size, np.uint16)
    call(kernels.run_float_to_half, x, result, x.size)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x.astype(np.float16)
    assert same_or_both_nan(result.view(np.float16), expected)


def test_float_to_bfloat16(kernels: ctypes.CDLL) -> None:
    x = interesting_floats()
    result = np.empty(x.size, np.uint16)
    call(kernels.run_float_to_bfloat16, x, result, x.size)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x.astype(ml_dtypes.bfloat16)
    assert same_or_both_nan(result.view(ml_dtypes.bfloat16), expected)


def round_to_tf32(x: np.ndarray) -> np.ndarray:
    """To multiples of the ten-bit significand's last place, ties away from zero."""
    finite = np.isfinite(x)
    exact = np.where(finite, x, 0).astype(np.float64)
    magnitude = np.abs(exact)
    exponent = np.maximum(np.frexp(magnitude)[1] - 1, -126)  # subnormal numbers share one
    place = np.ldexp(1.0, exponent - 10)
    rounded = np.copysign(np.floor(magnitude / place + 0.5) * place, exact)
    with np.errstate(over="ignore"):
        return np.where(finite, rounded.astype(np.float32), x)


def test_to_tf32(kernels: ctypes.CDLL) -> None:
    x = interesting_floats()
    result = np.empty(x.size, np.uint32)
    call(kernels.run_to_tf32, x, result, x.size)
    assert same_or_both_nan(result.view(np.float32), round_to_tf32(x))


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (0x3F801000, 0x3F802000),  # a tie goes away from zero
        (0x3F803000, 0x3F804000),
        (0xBF801000, 0xBF802000),
        (0x3F800FFF, 0x3F800000),
        (0x7F7FFFFF, 0x7F800000),  # the largest number to infinity
        (0x7F7FEFFF, 0x7F7FE000),
        (0x7F800000, 0x7F800000),
        (0xFF800000, 0xFF800000),
        (0x00001000, 0x00002000),
        (0x80000000, 0x80000000),
    ],
)
def test_to_tf32_of(kernels: ctypes.CDLL, x: int, expected: int) -> None:
    result = np.empty(1, np.uint32)
    call(kernels.run_to_tf32, np.array([x], np.uint32), result, 1)
    assert hex(result[0]) == hex(expected)


# ---- mma ----

# "groupID = %laneid >> 2, threadID_in_group = %laneid % 4", and what the sections "Matrix Fragments
# for mma.m16n8k8" (.tf32) and "... mma.m16n8k16 with floating point type" say of row and column.


def places_a_k8(group: int, thread: int) -> Iterator[tuple[int, int]]:
    for i in range(4):
        yield (group if i in (0, 2) else group + 8, thread if i in (0, 1) else thread + 4)


def places_b_k8(group: int, thread: int) -> Iterator[tuple[int, int]]:
    for i in range(2):
        yield (thread if i == 0 else thread + 4, group)


def places_a_k16(group: int, thread: int) -> Iterator[tuple[int, int]]:
    for i in range(8):
        row = group if 0 <= i < 2 or 4 <= i < 6 else group + 8
        col = thread * 2 + (i & 1) if i < 4 else thread * 2 + (i & 1) + 8
        yield row, col


def places_b_k16(group: int, thread: int) -> Iterator[tuple[int, int]]:
    for i in range(4):
        row = thread * 2 + (i & 1) if i < 2 else thread * 2 + (i & 1) + 8
        yield row, group


def places_c(group: int, thread: int) -> Iterator[tuple[int, int]]:
    for i in range(4):
        yield (group if i < 2 else group + 8, thread * 2 + (i & 1))


def fragments(matrix: np.ndarray, places) -> np.ndarray:
    """[lane, register] of 32 bits, an element of 16 bits in the lower half first."""
    lanes = [[matrix[place] for place in places(lane // 4, lane % 4)] for lane in range(LANES)]
    return np.array(lanes, matrix.dtype).view(np.uint32).copy()


MMA = {
    "tf32": (np.dtype(np.float32), 8, places_a_k8, places_b_k8),
    "bf16": (np.dtype(ml_dtypes.bfloat16), 16, places_a_k16, places_b_k16),
    "f16": (np.dtype(np.float16), 16, places_a_k16, places_b_k16),
}


@pytest.mark.parametrize("name", MMA)
def test_mma(kernels: ctypes.CDLL, name: str) -> None:
    dtype, depth, places_a, places_b = MMA[name]
    rng = np.random.default_rng(1)
    # Whole numbers: no order of adding them up rounds.
    a = rng.integers(-100, 100, (16, depth)).astype(dtype)
    b = rng.integers(-100, 100, (depth, 8)).astype(dtype)
    c = rng.integers(-1000, 1000, (16, 8)).astype(np.float32)
    registers = fragments(c, places_c)
    call(
        getattr(kernels, f"run_mma_{name}"),
        registers,
        fragments(a, places_a),
        fragments(b, places_b),
    )
    expected = c + a.astype(np.float32) @ b.astype(np.float32)
    assert np.array_equal(registers, fragments(expected, places_c))


def test_mma_tf32_ignores_the_low_bits(kernels: ctypes.CDLL) -> None:
    rng = np.random.default_rng(2)
    a = rng.standard_normal((LANES, 4)).astype(np.float32).view(np.uint32)
    b = rng.standard_normal((LANES, 2)).astype(np.float32).view(np.uint32)
    results = []
    for low in (0, 0x1FFF):
        c = np.zeros((LANES, 4), np.float32)
        mask = np.uint32(0xFFFFE000)
        call(kernels.run_mma_tf32, c, (a & mask) | np.uint32(low), (b & mask) | np.uint32(low))
        results.append(c)
    assert np.array_equal(*results)
    assert results[0].any()


@pytest.mark.parametrize("name", ["bf16", "f16"])
def test_mma_takes_special_numbers(kernels: ctypes.CDLL, name: str) -> None:
    dtype, depth, places_a, places_b = MMA[name]
    a = np.zeros((16, depth), dtype)
    a[0, 0] = np.inf
    a[1, 1] = np.nan
    a[2, 2] = ml_dtypes.finfo(dtype).smallest_subnormal
    registers = fragments(np.zeros((16, 8), np.float32), places_c)
    b = np.ones((depth, 8), dtype)
    call(
        getattr(kernels, f"run_mma_{name}"),
        registers,
        fragments(a, places_a),
        fragments(b, places_b),
    )
    with np.errstate(invalid="ignore"):  # of 0 times infinity, and of NaN
        expected = fragments(a.astype(np.float32) @ b.astype(np.float32), places_c)
    assert same_or_both_nan(registers.view(np.float32), expected.view(np.float32))


# ---- ldmatrix ----


@pytest.mark.parametrize("transposed", [False, True])
def test_load_matrix(kernels: ctypes.CDLL, transposed: bool) -> None:
    """Thread l gets elements 2 * (l % 4) and the next of row l / 4, of each matrix."""
    rng = np.random.default_rng(3)
    num_rows = 50
    memory = rng.permutation(num_rows * 8).astype(np.uint16).reshape(num_rows, 8)
    rows = rng.permutation(num_rows)[:LANES].astype(np.int32)
    result = np.empty((LANES, 4), np.uint32)
    function = kernels.run_load_matrix_x4_trans if transposed else kernels.run_load_matrix_x4
    call(function, aligned(memory), num_rows, rows, result)
    for matrix in range(4):
        elements = memory[rows[8 * matrix : 8 * matrix + 8]]
        if transposed:
            elements = elements.T
        expected = elements.reshape(8, 4, 2).reshape(LANES, 2)
        assert np.array_equal(result[:, matrix].copy().view(np.uint16).reshape(LANES, 2), expected)


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy at a multiple of 16 bytes."""
    buffer = np.empty(array.nbytes + 16, np.uint8)
    start = -buffer.ctypes.data % 16
    copy = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


# ---- shuffles ----


@pytest.mark.parametrize("width", [32, 8])
@pytest.mark.parametrize("argument", [1, 3, 4, 16])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shuffles(kernels: ctypes.CDLL, dtype: type, argument: int, width: int) -> None:
    values = np.random.default_rng(4).standard_normal(64).astype(dtype)
    result = np.empty((4, 64), dtype)
    name = "float" if dtype == np.float32 else "double"
    call(getattr(kernels, f"run_shuffle_{name}"), values, result, argument, width)
    lane = np.arange(64)
    first = lane // width * width
    last = first + width - 1
    sources = {
        "xor": np.where(lane ^ argument > last, lane, lane ^ argument),
        "down": np.where(lane + argument > last, lane, lane + argument),
        "up": np.where(lane - argument < first, lane, lane - argument),
        "index": first + argument % width,
    }
    assert np.array_equal(result, np.stack([values[source] for source in sources.values()]))


def test_shuffles_of_a_part_of_the_warp(kernels: ctypes.CDLL) -> None:
    values = np.arange(LANES, dtype=np.float32)
    result = np.empty(LANES, np.float32)
    call(kernels.run_half_warp, values, result)
    expected = values.copy()
    expected[:16] = values[np.arange(16) ^ 1]
    assert np.isnan(result[:8]).all()  # read from lanes that were not in the mask
    assert np.array_equal(result[8:], expected[8:])


# ---- asynchronous copies ----


@pytest.mark.parametrize("num_valid", [3, 1])
def test_copies_arrive_at_the_wait(kernels: ctypes.CDLL, num_valid: int) -> None:
    threads, num_bytes = 40, 16
    data = np.random.default_rng(5).integers(0, 255, (threads, 3, num_bytes)).astype(np.uint8)
    seen = np.empty((4, threads, 3, num_bytes), np.uint8)
    call(kernels.run_copy, aligned(data), seen, num_valid, threads)
    source = data.copy()
    source[:, num_valid:] = 0
    for moment in range(4):
        expected = np.full_like(data, 0xFF)
        expected[:, :moment] = source[:, :moment]
        assert np.array_equal(seen[moment], expected)


# ---- threads, blocks and shared memory ----


@pytest.mark.parametrize(
    ("grid", "block"),
    [((1, 1, 1), (1, 1, 1)), ((3, 2, 4), (5, 3, 7)), ((7, 1, 1), (1024, 1, 1))],
)
def test_every_thread_runs_once(
    kernels: ctypes.CDLL, grid: tuple[int, int, int], block: tuple[int, int, int]
) -> None:
    blocks, threads = int(np.prod(grid)), int(np.prod(block))
    visits = np.zeros((blocks, threads), np.int32)
    where = aligned(np.zeros((blocks, threads, 4), np.uint32))
    call(kernels.run_index, visits, where, np.array(grid, np.int32), np.array(block, np.int32))
    assert np.all(visits == 1)
    number, thread = np.meshgrid(np.arange(blocks), np.arange(threads), indexing="ij")
    expected = np.stack(
        [
            number % grid[0],
            number // grid[0] % grid[1],
            number // grid[0] // grid[1],
            thread % block[0],
        ],
        axis=-1,
    )
    assert np.array_equal(where, expected)


@pytest.mark.parametrize("threads", [1, 7, 32, 100, 256, 1024])
def test_barriers(kernels: ctypes.CDLL, threads: int) -> None:
    values = np.arange(3 * threads, dtype=np.float32).reshape(3, threads)
    result = values.copy()
    times = 25
    call(kernels.run_rotate, result, 3, threads, times)
    assert np.array_equal(result, np.roll(values, times, axis=1))


def test_shared_memory_is_fresh_in_every_block(kernels: ctypes.CDLL) -> None:
    ok = np.zeros(20, np.int32)
    call(kernels.run_fresh, 20, 999, ok)
    assert ok.all()


@pytest.mark.parametrize("num_bytes", [4, 16])
def test_streaming(kernels: ctypes.CDLL, num_bytes: int) -> None:
    values = aligned(np.arange(64 * num_bytes // 4, dtype=np.float32))
    result = aligned(np.zeros_like(values))
    call(getattr(kernels, f"run_stream_{num_bytes}"), values, result, 64)
    assert np.array_equal(result, values)
