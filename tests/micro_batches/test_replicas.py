"""Replicas under tf.distribute, each with micro-batches of its own."""

from __future__ import annotations

import concurrent.futures
import multiprocessing

import numpy as np
import pytest

from splitop._src import library
from tests.distribute.replicas import start
from tests.micro_batches.replicas import train


def test_two_replicas() -> None:
    if library.reason() is not None:
        pytest.skip(str(library.reason()))
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn, start) as pool:
        micro, plain = (pool.submit(train, way).result() for way in (True, False))
    for actual, expected in zip(micro, plain, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-11)
