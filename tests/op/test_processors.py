"""Threads of an op that share a processor move apart (csrc/tf/processors.h)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SOURCE = pathlib.Path(__file__).with_name("processors.cpp")
NONE = -1
TRIES = 20  # The system may move a thread at any time.

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="for Linux only")


@pytest.fixture
def library(tmp_path: pathlib.Path) -> ctypes.CDLL:
    """A library of its own, with what it remembers."""
    built = tmp_path / "libprocessors.so"
    flags = ["-std=c++17", "-Wall", "-Werror", "-shared", "-fPIC", f"-I{ROOT / 'csrc'}"]
    flags += ["-fvisibility=hidden"]  # Or the process would have one for all tests.
    subprocess.run([os.environ.get("CXX", "g++"), *flags, SOURCE, "-o", built], check=True)
    library = ctypes.CDLL(str(built))
    for function in (library.make_team, library.take_seat, library.begin_call):
        function.restype = ctypes.c_void_p
    for function in (library.end_team, library.seat_of, library.leave_seat, library.end_call):
        function.argtypes = [ctypes.c_void_p]
    library.take_seat.argtypes = [ctypes.c_void_p, ctypes.c_bool]
    library.await_helper.argtypes = [ctypes.c_bool]
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
def only(processor: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {processor})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def seat(
    library: ctypes.CDLL, team: int, moves: bool = True, on: int | None = None
) -> Iterator[int]:
    """Takes a seat, wherever the thread is or on a processor; gives the seat's."""
    with contextlib.nullcontext() if on is None else only(on):
        taken = library.take_seat(team, moves)
    try:
        yield library.seat_of(taken)
    finally:
        library.leave_seat(taken)


def sleeps(library: ctypes.CDLL, has_come: bool = False) -> bool:
    """Whether a caller gives its processor away while it waits for a helper."""
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    library.await_helper(has_come)
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw > before


class TestSeats:
    def test_the_second_one_moves_and_may_go_where_it_could(
        self, library: ctypes.CDLL, team: int, two: set[int]
    ) -> None:
        for here in sorted(two):
            found = set()
            for _ in range(TRIES):
                with seat(library, team, on=here) as first, seat(library, team) as there:
                    assert first == here
                    found.add(there)
                    assert os.sched_getaffinity(0) == two
            assert two - {here} <= found <= two - {here} | {NONE}

    def test_the_caller_stays(self, library: ctypes.CDLL, team: int, two: set[int]) -> None:
        found = set()
        for _ in range(TRIES):
            with seat(library, team, on=min(two)), seat(library, team, moves=False) as there:
                found.add(there)
        assert NONE in found

    def test_one_that_is_left_is_free(self, library: ctypes.CDLL, team: int, two: set[int]) -> None:
        with only(min(two)):
            for _ in range(3):
                with seat(library, team) as processor:
                    assert processor == min(two)

    def test_without_a_free_one_it_stays(
        self, library: ctypes.CDLL, team: int, two: set[int]
    ) -> None:
        here = min(two)
        with only(here), seat(library, team), seat(library, team) as processor:
            assert processor == NONE
            assert os.sched_getaffinity(0) == {here}
            # Nor does its caller wait from now on.
            assert not sleeps(library)


class TestCallers:
    def test_wait_after_a_thread_has_moved(
        self, library: ctypes.CDLL, team: int, two: set[int]
    ) -> None:
        assert not sleeps(library)
        for _ in range(TRIES):
            with seat(library, team, on=min(two)), seat(library, team):
                pass
        assert sleeps(library)

    def test_do_not_wait_for_one_that_has_come(self, library: ctypes.CDLL) -> None:
        library.note_move()
        assert not sleeps(library, has_come=True)
        assert sleeps(library)

    def test_do_not_wait_again_when_it_was_in_vain(self, library: ctypes.CDLL) -> None:
        library.note_move()
        slept = [sleeps(library) for _ in range(TRIES)]
        assert slept[0]
        # Not for 8 ms at least, which a busy machine may take between any two calls.
        assert not all(slept)

    def test_do_not_wait_when_others_are_at_work(self, library: ctypes.CDLL) -> None:
        library.note_move()
        calls = [library.begin_call() for _ in range(2)]
        assert not sleeps(library)
        library.end_call(calls.pop())
        assert sleeps(library)
        library.end_call(calls.pop())
