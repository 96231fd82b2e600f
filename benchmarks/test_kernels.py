"""The kernels alone, without TensorFlow, on NumPy arrays.

The backward pass of dense layers with Adam, and the update of embedding tables.
"""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cases import Case, TableCase
from benchmarks.results import KERNELS, TABLES

_kernels = pytest.importorskip("splitop.lib._kernels")

# Adam reads and writes a weight and its two slots.
BYTES_A_PARAMETER = 6 * 4
HYPER = (0.0, 1e-3, 0.1, 1e-3, 1e-7)  # decay, step_size, 1 - beta1, 1 - beta2, epsilon

TABLE_HYPER = {"sgd": (0.0, 0.01), "adagrad": (0.0, 0.01, 1e-7), "adam": HYPER}
NUM_SLOTS = {"sgd": 0, "adagrad": 1, "adam": 2}
WARMUP = 3  # steps: no executor has to learn about them
# In turn, so that a step does not find its rows in the cache because the last one had them too.
LOOKUPS = 12


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
        warmup_rounds=WARMUP,
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


def test_table_update(benchmark: BenchmarkFixture, table_case: TableCase) -> None:
    case = table_case
    random = np.random.default_rng(0)
    threads = len(os.sched_getaffinity(0))
    variable = [
        np.full((case.rows, case.width), 0.1, np.float32) for _ in range(1 + NUM_SLOTS[case.rule])
    ]
    lookups = [(_ids(random, case), _normal(random, case.ids, case.width)) for _ in range(LOOKUPS)]
    tables = itertools.cycle(
        [_kernels.Table(variable[0], variable[1:], *pair, all_rows=case.all_rows)]
        for pair in lookups
    )
    arguments = {
        "rule": case.rule,
        "hyper": np.array(TABLE_HYPER[case.rule], np.float32),
        "num_threads": threads,
    }
    benchmark.group = TABLES + case.name
    benchmark.pedantic(
        _kernels.table_update,
        setup=lambda: ((next(tables),), arguments),
        rounds=case.rounds,
        warmup_rounds=WARMUP,
    )
    distinct = np.mean([len(np.unique(ids)) for ids, _ in lookups])
    rows = case.rows if case.all_rows else distinct
    # A row of each array is read and written, a row of the gradient is read.
    elements = (2 * len(variable) * rows + case.ids) * case.width
    median = benchmark.stats.stats.median
    benchmark.extra_info.update(
        threads=threads,
        isa=_kernels.isa_in_use(),
        ids_per_s=case.ids / median,
        gb_per_s=4 * elements / median / 1e9,
    )


def _ids(random: np.random.Generator, case: TableCase) -> np.ndarray:
    if case.zipf is None:
        return random.integers(0, case.rows, case.ids)
    return (random.zipf(case.zipf, case.ids) - 1) % case.rows


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
