"""docs/coverage.md says what the plans say."""

from __future__ import annotations

import concurrent.futures
import multiprocessing

import pytest

from splitop._src import library
from splitop._src.backend import ENVIRONMENT_VARIABLE
from tools import coverage_table


@pytest.mark.slow
def test_the_page_is_what_the_plans_say(monkeypatch: pytest.MonkeyPatch) -> None:
    if library.reason() is not None:
        pytest.skip(str(library.reason()))
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    written = coverage_table.PAGE.read_text().splitlines()
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn) as pool:
        page = pool.submit(coverage_table.page).result()
    assert page.splitlines() == written, "run `make coverage`"
