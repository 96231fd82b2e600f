"""Options and the contents of the JSON."""

from __future__ import annotations

import operator

import pytest

from benchmarks import environment, results
from benchmarks.cases import (
    select,
    select_embeddings,
    select_models,
    select_tables,
    select_two_runs,
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="tiny cases: proves that it works")
    parser.addoption("--case", action="append", help="a case by name, such as '3x256 b64'")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    option = metafunc.config.getoption
    for fixture, selected in (
        ("case", select),
        ("table_case", select_tables),
        ("embedding_case", select_embeddings),
        ("model_case", select_models),
        ("two_run_case", select_two_runs),
    ):
        if fixture in metafunc.fixturenames:
            cases = selected(option("--quick"), option("--case"))
            metafunc.parametrize(fixture, cases, ids=operator.attrgetter("name"), scope="module")


def pytest_benchmark_generate_machine_info() -> dict[str, object]:
    return environment.describe()


def pytest_benchmark_update_json(output_json: dict[str, object]) -> None:
    results.complete(output_json)
