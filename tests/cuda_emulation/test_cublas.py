"""The emulated cuBLAS against NumPy."""

from __future__ import annotations

import ctypes

import ml_dtypes
import numpy as np
import pytest

SUCCESS, INVALID_VALUE, NOT_SUPPORTED = 0, 7, 15
HOST_POINTERS, DEVICE_POINTERS = 0, 1
COMPUTE_32F, COMPUTE_64F, COMPUTE_32F_FAST_TF32 = 68, 70, 77

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
FLOAT16, BFLOAT16 = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
CUDA_TYPES = {FLOAT32: 0, FLOAT64: 1, FLOAT16: 2, BFLOAT16: 14}

SUPPORTED = [  # factors, result, compute type
    (FLOAT32, FLOAT32, COMPUTE_32F),
    (FLOAT32, FLOAT32, COMPUTE_32F_FAST_TF32),
    (FLOAT64, FLOAT64, COMPUTE_64F),
    (FLOAT16, FLOAT16, COMPUTE_32F),
    (FLOAT16, FLOAT32, COMPUTE_32F),
    (BFLOAT16, BFLOAT16, COMPUTE_32F),
    (BFLOAT16, FLOAT32, COMPUTE_32F),
]


@pytest.fixture
def handle(cublas: ctypes.CDLL) -> ctypes.c_void_p:
    handle = ctypes.c_void_p()
    assert cublas.cublasCreate_v2(ctypes.byref(handle)) == SUCCESS
    assert cublas.cublasSetPointerMode_v2(handle, DEVICE_POINTERS) == SUCCESS
    assert cublas.cublasSetStream_v2(handle, None) == SUCCESS
    assert cublas.cublasSetWorkspace_v2(handle, WORKSPACE, ctypes.c_size_t(256)) == SUCCESS
    yield handle
    assert cublas.cublasDestroy_v2(handle) == SUCCESS


WORKSPACE = ctypes.c_void_p(4096)  # its address is all that is looked at


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def gemm(
    cublas: ctypes.CDLL,
    handle: ctypes.c_void_p,
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    *,
    alpha: float = 1.0,
    beta: float = 0.0,
    transpose_a: bool = False,
    transpose_b: bool = False,
    compute: int = COMPUTE_32F,
) -> int:
    """C = alpha * op(A) op(B) + beta * C; of column-major arrays [rows, pitch's rest]."""
    scalars = np.array([alpha, beta], np.float64 if compute == COMPUTE_64F else np.float32)
    m, n = c.shape
    k = a.shape[0] if transpose_a else a.shape[1]
    return cublas.cublasGemmEx(
        handle,
        int(transpose_a),
        int(transpose_b),
        m,
        n,
        k,
        pointer(scalars[:1]),
        pointer(a),
        CUDA_TYPES[a.dtype],
        a.strides[1] // a.itemsize,
        pointer(b),
        CUDA_TYPES[b.dtype],
        b.strides[1] // b.itemsize,
        pointer(scalars[1:]),
        pointer(c),
        CUDA_TYPES[c.dtype],
        c.strides[1] // c.itemsize,
        compute,
        -1,
    )


def matrix(rows: int, cols: int, dtype: np.dtype, seed: int) -> np.ndarray:
    """Column-major, with a pitch; whole numbers, which nothing rounds."""
    rng = np.random.default_rng(seed)
    whole = rng.integers(-8, 8, (rows + 3, cols)).astype(dtype)
    return np.asfortranarray(whole)[:rows]


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize(("factors", "result", "compute"), SUPPORTED)
def test_gemm(
    cublas: ctypes.CDLL,
    handle: ctypes.c_void_p,
    factors: np.dtype,
    result: np.dtype,
    compute: int,
    transpose_a: bool,
    transpose_b: bool,
) -> None:
    m, n, k = 5, 7, 11
    a = matrix(k, m, factors, 1) if transpose_a else matrix(m, k, factors, 1)
    b = matrix(n, k, factors, 2) if transpose_b else matrix(k, n, factors, 2)
    c = matrix(m, n, result, 3)
    wide_a, wide_b, wide_c = (x.astype(np.float64) for x in (a, b, c))
    op_a = wide_a.T if transpose_a else wide_a
    op_b = wide_b.T if transpose_b else wide_b
    expected = (0.5 * op_a @ op_b - 2.0 * wide_c).astype(result)
    rest = c.base[m:].copy()
    options = dict(transpose_a=transpose_a, transpose_b=transpose_b, compute=compute)
    assert gemm(cublas, handle, a, b, c, alpha=0.5, beta=-2.0, **options) == SUCCESS
    assert np.array_equal(c, expected)
    assert np.array_equal(c.base[m:], rest)


def test_beta_zero_does_not_read_c(cublas: ctypes.CDLL, handle: ctypes.c_void_p) -> None:
    a, b = matrix(4, 5, FLOAT32, 1), matrix(5, 6, FLOAT32, 2)
    c = np.asfortranarray(np.full((4, 6), np.nan, np.float32))
    assert gemm(cublas, handle, a, b, c) == SUCCESS
    assert np.array_equal(c, a @ b)


@pytest.mark.parametrize(
    ("compute", "expected"), [(COMPUTE_32F, 1 + 2.0**-20), (COMPUTE_32F_FAST_TF32, 1.0)]
)
def test_tf32_rounds_the_factors(
    cublas: ctypes.CDLL, handle: ctypes.c_void_p, compute: int, expected: float
) -> None:
    a = np.full((1, 1), 1 + 2.0**-20, np.float32)
    b = np.ones((1, 1), np.float32)
    c = np.zeros((1, 1), np.float32)
    assert gemm(cublas, handle, a, b, c, compute=compute) == SUCCESS
    assert c[0, 0] == expected


def test_refuses_host_scalars(cublas: ctypes.CDLL, handle: ctypes.c_void_p) -> None:
    a = matrix(4, 4, FLOAT32, 1)
    assert cublas.cublasSetPointerMode_v2(handle, HOST_POINTERS) == SUCCESS
    assert gemm(cublas, handle, a, a, a.copy(order="F")) == INVALID_VALUE


def test_setting_the_stream_forgets_the_workspace(
    cublas: ctypes.CDLL, handle: ctypes.c_void_p
) -> None:
    a = matrix(4, 4, FLOAT32, 1)
    assert cublas.cublasSetStream_v2(handle, None) == SUCCESS
    assert gemm(cublas, handle, a, a, a.copy(order="F")) == INVALID_VALUE


def test_refuses_an_unaligned_workspace(cublas: ctypes.CDLL, handle: ctypes.c_void_p) -> None:
    unaligned = ctypes.c_void_p(4096 + 128)
    status = cublas.cublasSetWorkspace_v2(handle, unaligned, ctypes.c_size_t(256))
    assert status == INVALID_VALUE


@pytest.mark.parametrize(
    ("factors", "result", "compute"),
    [
        (FLOAT32, FLOAT64, COMPUTE_32F),
        (FLOAT64, FLOAT64, COMPUTE_32F),
        (FLOAT16, BFLOAT16, COMPUTE_32F),
        (FLOAT16, FLOAT16, COMPUTE_32F_FAST_TF32),
        (FLOAT32, FLOAT32, 64),
    ],
)
def test_refuses_types(
    cublas: ctypes.CDLL,
    handle: ctypes.c_void_p,
    factors: np.dtype,
    result: np.dtype,
    compute: int,
) -> None:
    a = matrix(4, 4, factors, 1)
    c = matrix(4, 4, result, 2)
    assert gemm(cublas, handle, a, a, c, compute=compute) == NOT_SUPPORTED


def test_refuses_a_short_pitch(cublas: ctypes.CDLL, handle: ctypes.c_void_p) -> None:
    a = np.asfortranarray(np.ones((4, 4), np.float32))
    c = np.asfortranarray(np.ones((5, 4), np.float32))
    assert gemm(cublas, handle, a, a, c) == INVALID_VALUE
