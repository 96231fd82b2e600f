"""The step of an embedding table with a dense layer, given the seed, on each path."""

from __future__ import annotations

import gc

import keras
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cases import EMBEDDING_PATHS, LAZY, EmbeddingCase
from benchmarks.embedding_steps import EmbeddingStep, check_agreement
from benchmarks.interleave import RecordedClock, interleave, warm_up
from benchmarks.results import EMBEDDINGS

CLOCK = RecordedClock()


@pytest.fixture(scope="module")
def seconds(embedding_case: EmbeddingCase) -> dict[str, list[float]]:
    """For each path, the seconds of each round: all paths in one process, in turn."""
    steps = {path: EmbeddingStep(embedding_case, path) for path in embedding_case.paths}
    check_agreement(steps)
    warm_up(steps.values())
    measured = interleave(steps, embedding_case.rounds)
    # The tables and their slots take some gigabytes.
    del steps
    keras.backend.clear_session()
    gc.collect()
    return measured


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("path", EMBEDDING_PATHS)
def test_embedding(
    benchmark: BenchmarkFixture,
    embedding_case: EmbeddingCase,
    path: str,
    seconds: dict[str, list[float]],
) -> None:
    if path not in seconds:
        assert path == LAZY
        pytest.skip(f"{embedding_case.optimizer} updates only the rows looked up by itself")
    case = embedding_case
    benchmark.group = EMBEDDINGS + case.name
    benchmark.extra_info.update(
        path=path,
        rows=case.rows,
        width=case.width,
        ids=case.batch * case.fields,
        units=case.units,
        dtype="float32",
        optimizer=case.optimizer,
        target=case.target,
    )
    CLOCK.report(benchmark, seconds[path])
