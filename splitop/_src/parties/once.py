"""Each call of a training runs once, however often it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from splitop._src.errors import PartError

T = TypeVar("T")


class RestartedError(Exception):
    """The part's process is a new one, or calls have come in another order: go back to a save."""


class Once:
    """The calls of a run that have been answered.

    A run begins when the trainer has had all parts go back to one step. Calls of a run before it,
    which may come late, are refused. A call that comes again gets the answer that it has had.
    """

    def __init__(self, kept: int):
        """Begins no run.

        Args:
            kept: How many answers of each phase are kept.
        """
        self._kept = kept
        self._run: str | None = None
        self._answers: dict[str, dict[int, Any]] = {}

    def begin(self, run: str) -> None:
        """Begins a run, in which nothing has been answered."""
        self._run, self._answers = run, {}

    def is_in(self, run: str) -> bool:
        """Whether this run has begun, and none since."""
        return self._run == run

    def end(self) -> None:
        """Has every call refused until a run begins."""
        self._run, self._answers = None, {}

    def check(self, run: str) -> None:
        """Checks that a call is of the current run.

        Raises:
            RestartedError: There is none.
            PartError: Another one is current.
        """
        if self._run is None:
            raise RestartedError("no run has begun in this process")
        if run != self._run:
            raise PartError(
                "a call must be of the run that the part is in. Received: a late call, of run "
                f"{run[:8]}, where {self._run[:8]} is current."
            )

    def answer(self, phase: str, run: str, step: int, due: bool, work: Callable[[], T]) -> T:
        """The answer to a call: a new one, or the one that it has had.

        Args:
            phase: What is asked for.
            run: The run that the call is of.
            step: The step that the call is of.
            due: Whether it is the call's turn.
            work: Makes the answer. If it fails, there is none, and the call may come again.

        Raises:
            RestartedError: It is not the call's turn, or no run has begun.
            PartError: The call is of another run.
        """
        self.check(run)
        answers = self._answers.setdefault(phase, {})
        if step not in answers:
            if not due:
                raise RestartedError(f"{phase} of step {step} came out of turn")
            answers[step] = work()
            for old in sorted(answers)[: -self._kept]:
                del answers[old]
        return answers[step]
