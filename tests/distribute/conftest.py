from __future__ import annotations

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from splitop._src import library
from tests.distribute import replicas


@pytest.fixture(scope="session")
def run() -> Iterator[Callable[..., Any]]:
    """Calls a function in a process whose TensorFlow has two CPUs."""
    if library.reason() is not None:
        pytest.skip(str(library.reason()))
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn, replicas.start) as pool:
        yield lambda function, *args, **options: pool.submit(function, *args, **options).result()
