"""Products of the members of a batch against float64, through the C ABI."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitop.lib import _kernels

# Both sides of a tile, of a block of rows and of a block of steps.
EXTENTS = st.sampled_from([1, 2, 5, 15, 16, 17, 31, 32, 33, 64, 97, 200, 255, 256, 257, 300])
# How the dimensions of a matrix lie in memory, and whether there is something between them.
LAYOUTS = ("rows", "columns", "spread", "alias")


def _matrices(
    random: np.random.Generator, batch: tuple[int, ...], rows: int, cols: int, dtype, layout: str
) -> np.ndarray:
    """[*batch, rows, cols] with the strides of a layout; what lies between is NaN."""
    shape = (*batch, rows, cols)
    values = random.normal(size=shape).astype(dtype)
    if layout == "rows":
        return values
    if layout == "columns":
        return np.swapaxes(np.ascontiguousarray(np.swapaxes(values, -1, -2)), -1, -2)
    # [rows, *batch, cols], as queries and keys are, or with rows a multiple of 4096 bytes apart.
    width = -(-cols // 1024) * 1024 if layout == "alias" else cols
    memory = np.full((rows, *batch, width), np.nan, dtype)
    view = np.moveaxis(memory[..., :cols], 0, -2)
    view[...] = values
    return view


def _assert_accurate(a: np.ndarray, b: np.ndarray, received: np.ndarray) -> None:
    """Off by the rounding of a sum at most (Higham, ch. 3)."""
    wide, other = a.astype(np.longdouble), b.astype(np.longdouble)
    exact, terms = wide @ other, abs(wide) @ abs(other)
    unit = a.shape[-1] * np.finfo(a.dtype).eps
    assert received.dtype == a.dtype
    assert np.all(abs(received - exact) <= unit * terms)


@settings(deadline=None, max_examples=100)
@given(
    batch=st.sampled_from([(), (1,), (3,), (2, 3), (0,), (2, 0, 3)]),
    rows=EXTENTS,
    cols=EXTENTS,
    depth=EXTENTS,
    dtype=st.sampled_from([np.float32, np.float64]),
    layouts=st.tuples(st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS)),
)
def test_any_size_and_strides(batch, rows, cols, depth, dtype, layouts) -> None:
    random = np.random.default_rng(0)
    a = _matrices(random, batch, rows, depth, dtype, layouts[0])
    b = _matrices(random, batch, depth, cols, dtype, layouts[1])
    _assert_accurate(a, b, _kernels.batched_product(a, b))


@pytest.mark.parametrize("layouts", [(a, b) for a in LAYOUTS for b in LAYOUTS])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_instruction_set(isa: str, dtype, layouts) -> None:
    random = np.random.default_rng(1)
    a = _matrices(random, (2,), 43, 290, dtype, layouts[0])
    b = _matrices(random, (2,), 290, 77, dtype, layouts[1])
    _assert_accurate(a, b, _kernels.batched_product(a, b))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("depth", [0, 33, 300])
@pytest.mark.parametrize("layout", ["rows", "columns", "spread"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bias_and_relu(
    isa: str, dtype, layout: str, depth: int, batch: tuple[int, ...], relu: bool
) -> None:
    """Without a batch that is a dense layer's forward pass; both are off by a rounding more."""
    random = np.random.default_rng(3)
    a = _matrices(random, batch, 43, depth, dtype, layout)
    b = _matrices(random, batch, depth, 77, dtype, layout)
    bias = random.normal(size=77).astype(dtype)
    wide, other = a.astype(np.longdouble), b.astype(np.longdouble)
    exact, terms = wide @ other + bias, abs(wide) @ abs(other) + abs(bias)
    received = _kernels.batched_product(a, b, bias=bias, relu=relu)
    again = _kernels.batched_product(a, b, bias=bias, relu=relu, num_threads=3)
    assert again.tobytes() == received.tobytes()
    unit = (depth + 1) * np.finfo(dtype).eps
    assert np.all(abs(received - (np.maximum(exact, 0) if relu else exact)) <= unit * terms)


def test_relu_of_what_is_not_a_number() -> None:
    for batch in ((), (2,)):
        a, b = np.ones((*batch, 3, 4), "f4"), -np.ones((*batch, 4, 5), "f4")
        a[..., 1, :] = np.nan
        c = _kernels.batched_product(a, b, relu=True)
        expected = np.zeros((*batch, 3, 5))
        expected[..., 1, :] = np.nan
        np.testing.assert_array_equal(c, expected)


def test_same_bits_with_any_number_of_threads() -> None:
    random = np.random.default_rng(2)
    a = _matrices(random, (16,), 250, 65, np.float32, "spread")
    b = _matrices(random, (16,), 65, 64, np.float32, "columns")
    expected = _kernels.batched_product(a, b).tobytes()
    for num_threads in (2, 3, 8):
        assert _kernels.batched_product(a, b, num_threads=num_threads).tobytes() == expected


def test_no_steps_give_zeros() -> None:
    c = _kernels.batched_product(np.ones((3, 4, 0), "f4"), np.ones((3, 0, 5), "f4"))
    np.testing.assert_array_equal(c, np.zeros((3, 4, 5), "f4"))


def test_what_is_not_finite_stays_where_it_is() -> None:
    a, b = np.ones((7, 40), "f4"), np.ones((40, 33), "f4")
    a[2, 3], b[1, 4] = np.nan, np.inf
    c = _kernels.batched_product(a, b)
    expected = np.full((7, 33), 40.0)
    expected[:, 4] = np.inf
    expected[2] = np.nan
    np.testing.assert_array_equal(c, expected)


def test_errors() -> None:
    a = np.ones((2, 3, 4), "f4")
    for b in (np.ones((2, 3, 4), "f4"), np.ones((1, 4, 5), "f4"), np.ones((4, 5), "f4")):
        with pytest.raises(ValueError, match=r"\[..., rows, depth\].* Received: \(2, 3, 4\)"):
            _kernels.batched_product(a, b)
    for bias in (np.ones(3, "f4"), np.ones((1, 5), "f4"), np.ones(5), np.ones(10, "f4")[::2]):
        with pytest.raises(ValueError, match=r"bias must be a contiguous array of float32 and"):
            _kernels.batched_product(a, np.ones((2, 4, 5), "f4"), bias=bias)
    with pytest.raises(TypeError, match="float32 or of float64"):
        _kernels.batched_product(a, np.ones((2, 4, 5), "f8"))
    with pytest.raises(ValueError, match="num_threads"):
        _kernels.batched_product(a, np.ones((2, 4, 5), "f4"), num_threads=0)
