"""Convolutions and the gradients of these and of max pooling, through the C ABI."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitop.lib import _kernels
from tests import convolutions
from tests.convolutions import CASES, Case
from tests.isas import selected


def _options(case: Case) -> dict[str, Any]:
    padding = tuple((int(before), int(after)) for before, after in case.pads())
    return {"strides": case.strides, "dilations": case.dilations, "padding": padding}


def _check(case: Case, dtype: str, num_threads: int) -> None:
    x, weights, bias, dz = convolutions.tensors(case, dtype)
    exact = convolutions.exact(case, x, weights, dz)
    options = {**_options(case), "num_threads": num_threads}
    received = [
        _kernels.convolution(x, weights, **options),
        *_kernels.filter_gradient(x, dz, case.size, **options),
    ]
    if case.strides == (1, 1):
        received.append(_kernels.image_gradient(dz, weights, case.images[1:3], **options))
    terms = convolutions.terms(case, exact[0])
    for value, expected, count in zip(received, exact, terms, strict=False):
        convolutions.assert_close(value, expected, count, dtype)
    y = _kernels.convolution(x, weights, bias, activation="relu", **options)
    convolutions.assert_close(y, np.maximum(exact[0] + bias, 0), terms[0], dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values(case: Case, dtype: str, isa: str) -> None:
    _check(case, dtype, num_threads=3)


@pytest.mark.parametrize("cache_ways", [4, 12], indirect=True)
@pytest.mark.parametrize("case", convolutions.ALIASING, ids=str)
def test_windows_that_alias(case: Case, cache_ways: int, isa: str) -> None:
    _check(case, "float32", num_threads=2)


PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))
PADDING = st.tuples(st.integers(0, 4), st.integers(0, 4))


@settings(deadline=None, max_examples=150)
@given(
    batch=st.integers(1, 5),
    size=PAIRS,
    dilations=PAIRS,
    rest=st.tuples(st.integers(0, 9), st.integers(0, 30)),
    channels=st.sampled_from([1, 2, 3, 7, 8, 9, 16, 17, 40]),
    filters=st.sampled_from([1, 5, 15, 16, 17, 33, 64, 270]),
    strides=PAIRS,
    padding=st.tuples(PADDING, PADDING),
    dtype=st.sampled_from(["float32", "float64"]),
    isa=st.sampled_from(_kernels.available_isas()),
)
def test_any_sizes(
    batch: int,
    size: Any,
    dilations: Any,
    rest: Any,
    channels: int,
    filters: int,
    strides: Any,
    padding: Any,
    dtype: str,
    isa: str,
) -> None:
    rows, columns = (
        (size[d] - 1) * dilations[d] + 1 + max(rest[d] - sum(padding[d]), 0) for d in range(2)
    )
    images = (batch, rows, columns, channels)
    with selected(isa):
        _check(Case(images, size, filters, strides, dilations, padding), dtype, num_threads=2)


@pytest.mark.parametrize(
    "case",
    [CASES[5], CASES[11], CASES[12], convolutions.TWO_SHARES, convolutions.LARGE],
    ids=str,
)
@pytest.mark.parametrize("largest", [None, np.inf])
def test_the_same_bits_with_any_number_of_threads(case: Case, largest: float | None) -> None:
    x, weights, bias, dz = convolutions.tensors(case, "float32")
    if largest is not None:  # outside of an image it is left out, or makes NaN of 0
        weights[0, 0, 0], dz[0, 0, 0] = largest, largest
    results = []
    for num_threads in (1, 2, 7):
        options = {**_options(case), "num_threads": num_threads}
        arrays = [
            _kernels.convolution(x, weights, bias, **options),
            *_kernels.filter_gradient(x, dz, case.size, **options),
            _kernels.image_gradient(dz, weights, case.images[1:3], **options),
        ]
        results.append([array.tobytes() for array in arrays])
    assert all(result == results[0] for result in results)


def test_wider_strides_have_no_image_gradient() -> None:
    dz, weights = np.zeros((1, 2, 2, 3)), np.zeros((2, 2, 4, 3))
    with pytest.raises(NotImplementedError):
        _kernels.image_gradient(dz, weights, (5, 5), strides=(2, 2))


def test_what_does_not_fit() -> None:
    x, weights = np.zeros((1, 5, 5, 3)), np.zeros((2, 2, 4, 3))
    with pytest.raises(ValueError, match=r"filter must be \[rows, columns, 3, filters\]"):
        _kernels.convolution(x, weights)
    with pytest.raises(ValueError, match="invalid argument"):
        _kernels.convolution(x, np.zeros((2, 2, 3, 4)), strides=(0, 1))


def _pooled(x: np.ndarray, size: Any, strides: Any, padding: Any) -> list[tuple[Any, Any]]:
    """The windows of padded images, each with its place in the result."""
    (top, bottom), (left, right) = padding
    pads = [(0, 0), (top, bottom), (left, right), (0, 0)]
    padded = np.pad(x, pads, constant_values=-np.inf)
    rows = (padded.shape[1] - size[0]) // strides[0] + 1
    columns = (padded.shape[2] - size[1]) // strides[1] + 1
    return [
        ((i, j), padded[:, i * strides[0] :, j * strides[1] :][:, : size[0], : size[1]])
        for i in range(rows)
        for j in range(columns)
    ]


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "size", "strides", "padding"),
    [
        ((1, 1, 1, 1), (1, 1), (1, 1), ((0, 0), (0, 0))),
        ((2, 7, 8, 5), (2, 2), (2, 2), ((0, 0), (0, 0))),
        ((2, 7, 8, 21), (3, 2), (2, 3), ((1, 1), (0, 1))),
        ((2, 9, 9, 33), (3, 3), (1, 1), ((1, 1), (1, 1))),
        ((3, 9, 10, 64), (2, 2), (3, 4), ((0, 0), (0, 0))),
    ],
)
def test_max_pooling(
    shape: Any, size: Any, strides: Any, padding: Any, dtype: str, activation: str, isa: str
) -> None:
    random = np.random.default_rng(0)
    x = random.integers(-2, 3, size=shape).astype(dtype)  # many are equally large
    if activation == "relu":
        x = np.maximum(x, 0)
    windows = _pooled(x, size, strides, padding)
    last = windows[-1][0]
    dy = random.normal(size=(shape[0], last[0] + 1, last[1] + 1, shape[3])).astype(dtype)
    dy[0, 0, 0, 0] = np.inf
    expected = np.zeros_like(x)
    for (i, j), window in windows:
        flat = window.reshape(shape[0], -1, shape[3])
        first = flat.argmax(1)  # the first one
        rows = i * strides[0] - padding[0][0] + first // size[1]
        columns = j * strides[1] - padding[1][0] + first % size[1]
        image, channel = np.ogrid[: shape[0], : shape[3]]
        expected[image, rows, columns, channel] += dy[:, i, j]
    received = _kernels.max_pool_gradient(
        x, dy, size, activation=activation, strides=strides, padding=padding, num_threads=2
    )
    with np.errstate(invalid="ignore"):
        expected = expected * (x > 0) if activation == "relu" else expected
    np.testing.assert_array_equal(received, expected)


def test_another_activation_before_pooling() -> None:
    x, dy = np.zeros((1, 2, 2, 3)), np.zeros((1, 1, 1, 3))
    with pytest.raises(ValueError, match="invalid argument"):
        _kernels.max_pool_gradient(x, dy, (2, 2), activation="tanh")


def test_a_window_outside_of_the_image() -> None:
    x = np.zeros((1, 2, 2, 3))
    with pytest.raises(ValueError, match="invalid argument"):
        _kernels.max_pool_gradient(x, np.zeros((1, 5, 5, 3)), (2, 2), padding=((2, 2), (2, 2)))
