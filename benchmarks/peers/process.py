"""Measures a row in a process of its own, as some frameworks keep the memory they once used."""

from __future__ import annotations

import multiprocessing
import traceback
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from benchmarks.peers.cases import Part
from benchmarks.peers.limits import Limits
from benchmarks.peers.results import Row


class Failure(Exception):
    """A row that was not measured; the message says which one and why."""


def in_own_process(part: Part, rule: str, seconds: float, limits: Limits) -> tuple[Row, Limits]:
    """All peers' times for a part and rule.

    Args:
        part: What is trained.
        rule: The update rule.
        seconds: About how long to measure, all peers together.
        limits: The best that was seen so far.

    Returns:
        The row, and the best that was seen including it.

    Raises:
        Failure: The measurement raised an error, or its process was killed, as it is where memory
            is short.
    """
    name = f"{part.name}, {rule}"
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        try:
            measured = pool.submit(_measure, part, rule, seconds, limits).result()
        except BrokenProcessPool as error:
            raise Failure(f"{name}: its process died; is there too little memory?") from error
    if isinstance(measured, str):
        raise Failure(f"{name}: {measured}")
    return measured


def _measure(part: Part, rule: str, seconds: float, limits: Limits) -> tuple[Row, Limits] | str:
    """The row and the limits, or the traceback: not every error can be sent to the parent."""
    try:
        from benchmarks.peers.run import measure

        return measure(part, rule, seconds, limits), limits
    except Exception:
        return traceback.format_exc()
