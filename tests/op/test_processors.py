"""Threads of an op that share a processor move apart (csrc/tf/processors.h)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SOURCE = pathlib.Path(__file__).with_name("processors.cpp")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="for Linux only")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    built = tmp_path_factory.mktemp("processors") / "libprocessors.so"
    flags = ["-std=c++17", "-Wall", "-Werror", "-shared", "-fPIC", f"-I{ROOT / 'csrc'}"]
    subprocess.run([os.environ.get("CXX", "g++"), *flags, SOURCE, "-o", built], check=True)
    library = ctypes.CDLL(str(built))
    library.make_team.restype = library.take_seat.restype = ctypes.c_void_p
    for function in (library.end_team, library.take_seat, library.leave_seat):
        function.argtypes = [ctypes.c_void_p]
    return library


@pytest.fixture
def team(library: ctypes.CDLL) -> Iterator[int]:
    team = library.make_team()
    yield team
    library.end_team(team)


@pytest.fixture
def two() -> Iterator[set[int]]:
    """The calling thread may use two processors."""
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("there is one processor")
    os.sched_setaffinity(0, sorted(before)[:2])
    yield os.sched_getaffinity(0)
    os.sched_setaffinity(0, before)


@contextlib.contextmanager
def seat(library: ctypes.CDLL, team: int) -> Iterator[int]:
    """Takes a seat; gives the processor that the thread runs on after that."""
    taken = library.take_seat(team)
    yield library.processor()
    library.leave_seat(taken)


@contextlib.contextmanager
def only(processor: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {processor})
    yield
    os.sched_setaffinity(0, before)


def test_the_second_one_moves_and_may_go_where_it_could(
    library: ctypes.CDLL, team: int, two: set[int]
) -> None:
    for here in sorted(two):
        with only(here):
            first = library.take_seat(team)
        # Until something moves it, the thread is where it was.
        moved = []
        for _ in range(20):
            with only(here):
                pass
            if library.processor() == here:
                with seat(library, team) as there:
                    moved.append(there)
                    assert os.sched_getaffinity(0) == two
        library.leave_seat(first)
        assert moved
        assert set(moved) == two - {here}


def test_a_seat_that_is_left_is_free(library: ctypes.CDLL, team: int, two: set[int]) -> None:
    here = min(two)
    stayed = 0
    for _ in range(20):
        with only(here):
            pass
        if library.processor() == here:
            with seat(library, team) as processor:
                stayed += processor == here
    assert stayed > 1


def test_without_a_free_one_it_stays(library: ctypes.CDLL, team: int, two: set[int]) -> None:
    here = min(two)
    with only(here), seat(library, team), seat(library, team) as processor:
        assert processor == here
        assert os.sched_getaffinity(0) == {here}
