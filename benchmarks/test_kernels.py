"""The kernels alone, without TensorFlow: backward pass and Adam on NumPy arrays."""

from __future__ import annotations

import os

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cases import Case
from benchmarks.results import KERNELS

_kernels = pytest.importorskip("splitop.lib._kernels")

# Adam reads and writes a weight and its two slots.
BYTES_A_PARAMETER = 6 * 4
HYPER = (0.0, 1e-3, 0.1, 1e-3, 1e-7)  # decay, step_size, 1 - beta1, 1 - beta2, epsilon


def test_dense_chain(benchmark: BenchmarkFixture, case: Case) -> None:
    random = np.random.default_rng(0)
    threads = len(os.sched_getaffinity(0))
    arguments = {"rule": "adam", "hyper": np.array(HYPER, np.float32), "num_threads": threads}
    seed = _normal(random, case.batch, case.width)
    layers = [_layer(random, case) for _ in range(case.layers)]
    benchmark.group = KERNELS + case.name
    benchmark.pedantic(
        _kernels.dense_chain,
        args=(seed, layers),
        kwargs=arguments,
        rounds=case.rounds,
        warmup_rounds=case.warmup,
    )
    # Weight gradients of all layers, input gradients of all but the lowest.
    flop = 2 * case.batch * case.width**2 * (2 * case.layers - 1)
    median = benchmark.stats.stats.median
    benchmark.extra_info.update(
        threads=threads,
        isa=_kernels.isa_in_use(),
        gflop_per_s=flop / median / 1e9,
        optimizer_gb_per_s=case.parameters * BYTES_A_PARAMETER / median / 1e9,
    )


def _layer(random: np.random.Generator, case: Case) -> object:
    kernel = _normal(random, case.width, case.width) / np.float32(case.width**0.5)
    bias = np.zeros(case.width, np.float32)
    return _kernels.Layer(
        _normal(random, case.batch, case.width),
        kernel,
        [np.zeros_like(kernel), np.zeros_like(kernel)],
        bias=bias,
        bias_slots=[np.zeros_like(bias), np.zeros_like(bias)],
        activation="relu",
        reference=np.maximum(_normal(random, case.batch, case.width), 0),
    )


def _normal(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.standard_normal(shape, np.float32)
