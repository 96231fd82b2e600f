"""IV and seeds in fewer bits: how far they are off, what that saves, and what is kept."""

from __future__ import annotations

import pathlib
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from splitop._src.parties.compression import COMPRESSIONS, Compressor
from splitop.ray import Batches, Party, Trainer
from tests.ray_parts import parts
from tests.ray_parts.local import LocalLink
from tests.ray_parts.test_protocol import BATCHES, MODULE, make

KEYS = np.arange(7)
DTYPES = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)


def values(dtype: Any, scale: float = 1.0, shape: tuple[int, ...] = (7, 3, 5)) -> np.ndarray:
    draw = np.random.default_rng(1)
    return (scale * draw.normal(size=shape)).astype(dtype)


def roundtrip(compression: str | None, array: np.ndarray) -> np.ndarray:
    (sent,) = Compressor(compression)([array], KEYS)
    result = sent.received()
    assert result.dtype == array.dtype
    assert result.shape == array.shape
    assert sent.nbytes_before == array.nbytes
    return result


@pytest.mark.parametrize("dtype", DTYPES)
def test_none_changes_nothing(dtype: Any) -> None:
    np.testing.assert_array_equal(roundtrip(None, values(dtype)), values(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-30, 1e-7, 1.0, 3e4, 1e30])
def test_float16_keeps_11_bits_whatever_the_scale(dtype: Any, scale: float) -> None:
    array = values(dtype, scale)
    error = np.abs(roundtrip("float16", array) - array)
    smallest = np.abs(array).max() * 2.0**-30  # Below it float16 has fewer bits.
    assert (error <= np.maximum(2.0**-11 * np.abs(array), 2.0**-10 * smallest)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_bfloat16_keeps_8_bits(dtype: Any, scale: float) -> None:
    array = values(dtype, scale)
    assert (np.abs(roundtrip("bfloat16", array) - array) <= 2.0**-8 * np.abs(array)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7,), (7, 4), (7, 3, 5)])
def test_int8_is_within_half_a_step_of_its_row(dtype: Any, shape: tuple[int, ...]) -> None:
    array = values(dtype, 100.0, shape) * 10.0 ** np.arange(7).reshape(-1, *[1] * (len(shape) - 1))
    array = np.clip(array, -6e4, 6e4).astype(dtype)
    result = roundtrip("int8", array).astype(np.float64)
    exact = array.astype(np.float64)
    largest = np.abs(exact).reshape(7, -1).max(axis=1).reshape(-1, *[1] * (len(shape) - 1))
    rounding = float(ml_dtypes.finfo(dtype).eps) * largest
    assert (np.abs(result - exact) <= largest / 254 * (1 + 1e-6) + rounding).all()


def test_zeros_stay_zeros() -> None:
    for compression in COMPRESSIONS:
        array = np.zeros([7, 3], np.float32)
        np.testing.assert_array_equal(roundtrip(compression, array), array)
        tiny = np.full([7, 3], 1e-45, np.float32)
        assert np.isfinite(roundtrip(compression, tiny)).all()


def test_error_feedback_adds_what_was_lost() -> None:
    """Sent again and again, a sample's values are right in the mean; each by its own key."""
    compress, array = Compressor("int8"), values(np.float32)
    draw, total, count = np.random.default_rng(2), np.zeros([7, 3, 5]), np.zeros(7)
    for _ in range(64):
        rows = draw.permutation(7)[:4]
        (sent,) = compress([array[rows]], KEYS[rows])
        total[rows] += sent.received()
        count[rows] += 1
    largest = np.abs(array).reshape(7, -1).max(axis=1)
    error = np.abs(total / count[:, None, None] - array).reshape(7, -1).max(axis=1)
    assert (error <= 1.01 * largest / 254 / count).all()
    one = np.abs(roundtrip("int8", array) - array).reshape(7, -1).max(axis=1)
    assert (error < one / 4).all()


def test_what_is_not_finite() -> None:
    array = values(np.float32)
    array[1, 2, 3], array[2, 2, 2] = np.inf, np.nan
    for compression in (None, "float16", "bfloat16"):
        result = roundtrip(compression, array)
        np.testing.assert_array_equal(np.isinf(result), np.isinf(array))
        np.testing.assert_array_equal(np.isnan(result), np.isnan(array))
        assert abs(result[0, 0, 0] - array[0, 0, 0]) < 0.01
    result = roundtrip("int8", array)
    np.testing.assert_array_equal(np.isnan(result).all(axis=(1, 2)), [0, 1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(np.isnan(result).any(axis=(1, 2)), [0, 1, 1, 0, 0, 0, 0])


def test_error_feedback_waits_where_a_step_may_be_left_out() -> None:
    """Inf in one array: nothing that another one has lost in that message is forgotten."""
    compress, plain = Compressor("int8"), Compressor("int8")
    first, second = values(np.float32), values(np.float32, 3.0)
    overflow = second.copy()
    overflow[3, 1, 1] = -np.inf
    for compressor in (compress, plain):
        compressor([first, second], KEYS)
    compress([first, overflow], KEYS)
    sent, expected = (each([first, second], KEYS) for each in (compress, plain))
    for array, received, right in zip((first, second), sent, expected, strict=True):
        np.testing.assert_array_equal(received.received(), right.received())
        assert (right.received() != roundtrip("int8", array)).any()


@pytest.mark.parametrize(
    ("compression", "row"),  # bytes of a row of 6 float32; int8 has a scale
    [(None, 24), ("float16", 12), ("bfloat16", 12), ("int8", 6 + 4)],
)
def test_training(tmp_path: pathlib.Path, compression: str | None, row: int) -> None:
    batches, steps = Batches(parts.KEYS[:36], 12, seed=1), 12
    trainer, _ = make(tmp_path, compression=compression, config={"dropout": 0.0})
    losses = trainer.train(batches, steps)
    rows = sum(len(batches(step)) for step in range(steps))
    scales = 4 * steps if compression == "float16" else 0  # One for each array.
    for traffic in trainer.traffic.values():
        assert traffic.iv == traffic.seed == row * rows + scales
        assert traffic.saved == 2 * (24 * rows - row * rows - scales)
    plain, _ = make(tmp_path / "plain", config={"dropout": 0.0})
    exact = plain.train(batches, steps)
    off = max(abs(losses[step] - exact[step]) for step in exact)
    assert (off == 0) == (compression is None)
    assert off < 0.02


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_loss_scales(tmp_path: pathlib.Path, compression: str | None) -> None:
    """Seeds that have overflown are skipped until the scale fits, and then training goes on."""
    links: list[LocalLink] = []

    def link(*arguments: Any) -> LocalLink:
        links.append(LocalLink(*arguments))
        return links[0]

    trainer = Trainer(
        Party("head", f"{MODULE}:overflowing_head", tmp_path / "head"),
        [Party("bank", f"{MODULE}:careful_encoder", tmp_path / "bank")],
        compression=compression,
        link=link,
    )
    steps = 12
    losses = trainer.train(BATCHES, steps)
    made = {
        name: server._part.optimizer.iterations.numpy() for name, server in links[0].servers.items()
    }
    assert 0 < made["bank"] < steps
    assert np.isfinite(list(losses.values())).all()
    assert all(np.isfinite(value).all() for value in links[0].servers["bank"]._part.model.weights)
