"""Waiting for the answers of parts: for a limited time, and with errors that name the part."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from splitop._src import errors
from splitop._src.errors import PartError, PartTimeoutError, SplitError
from splitop._src.parties.link import Link, LostError, UnreachableError
from splitop._src.parties.messages import Reply, Size

# Phases that include the time in which a process starts, imports TensorFlow and reads a checkpoint.
_STARTING = ("start", "restore")
_PAUSE = 0.5
_NEVER_STARTED = "It has never started: does a machine have free what the Party asks for?"


class LostInPhase(Exception):
    """A part was lost, or its process is a new one.

    Attributes:
        party: The part's party.
        phase: What was asked for.
        step: Of which step.
        text: What has come in the place of an answer.
    """

    def __init__(self, party: str, phase: str, step: int, text: str):
        super().__init__(f"{party} in {phase} of step {step}: {text}")
        self.party, self.phase, self.step, self.text = party, phase, step, text.strip(" .")


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes of arrays that have crossed between the first part and a second one.

    Attributes:
        iv: To the first part, as sent.
        seed: To the second part, as sent.
        plain: What both would be without compression.
    """

    iv: int = 0
    seed: int = 0
    plain: int = 0

    @property
    def saved(self) -> int:
        """Bytes that compression has saved."""
        return self.plain - self.iv - self.seed

    def plus(self, iv: Size, seed: Size) -> Traffic:
        """With what a step has added."""
        return Traffic(self.iv + iv.sent, self.seed + seed.sent, self.plain + iv.plain + seed.plain)


@dataclasses.dataclass
class Work:
    """What has been asked of the parts for one step.

    Attributes:
        step: The step, from 1.
        keys: Of its samples.
        forwards: The replies of the second parts, by name.
        ivs: Their ivs, until the first part has been asked.
        first: The first part's reply.
        updates: The replies of the second parts to their seeds.
    """

    step: int
    keys: np.ndarray
    forwards: dict[str, Any] = dataclasses.field(default_factory=dict)
    ivs: dict[str, Any] = dataclasses.field(default_factory=dict)
    first: Any = None
    updates: dict[str, Any] = dataclasses.field(default_factory=dict)


class Waiting:
    """Waits for replies."""

    def __init__(self, link: Link, timeout: float, start_timeout: float):
        self._link, self._timeout, self._start_timeout = link, timeout, start_timeout
        self._places: dict[str, str] = {}  # Of each part: its last process.

    def value(self, reply: Any, party: str, phase: str, step: int) -> Any:
        """The value of a reply.

        Args:
            reply: What the link has given for it.
            party: Who is to answer.
            phase: What was asked for.
            step: Of which step.

        Raises:
            LostInPhase: The part was lost.
            PartTimeoutError: It has not answered in time.
            SplitError: It has failed: the error that it has raised, or PartError.
        """
        timeout = self._start_timeout if phase in _STARTING else self._timeout
        try:
            answer: Reply = self._link.get(reply, timeout)
        except TimeoutError as error:
            raise PartTimeoutError(
                f'the part "{party}" must answer within {timeout:g} seconds: it was asked for the '
                f"phase {phase} of step {step}. {self._hint(party)} Received: no answer."
            ) from error
        except LostError as error:
            raise LostInPhase(party, phase, step, str(error)) from error
        if answer.lost:
            raise LostInPhase(party, phase, step, answer.text)
        if answer.error is not None:
            raise _named(answer, party, phase, step)
        return answer.value

    def start(self, parties: Sequence[str], step: int) -> dict[str, Any]:
        """Has all parties start; again those that can't be reached, as long as a start may take.

        When a machine dies, Ray needs some seconds to see it and to start the part elsewhere.

        Raises:
            LostInPhase: A part can't be reached for so long, or its process has died as it started.
        """
        until = time.monotonic() + self._start_timeout
        while True:
            try:
                self._find(parties, step)
                break
            except LostInPhase as error:
                unreachable = isinstance(error.__cause__, UnreachableError)
                if not unreachable or time.monotonic() > until:
                    raise
            time.sleep(_PAUSE)
        return self.values("start", parties, step)

    def _find(self, parties: Sequence[str], step: int) -> None:
        """Waits until each part has a process, and asks which one."""
        replies = {party: self._link.call(party, "place")[0] for party in parties}
        for party, reply in replies.items():
            place = self.value(reply, party, "start", step)
            self._places[party] = f"process {place['process']} of {place['host']}"

    def _hint(self, party: str) -> str:
        place = self._places.get(party)
        return _NEVER_STARTED if place is None else f"It was {place} last."

    def values(self, phase: str, parties: Sequence[str], step: int, *args: Any) -> dict[str, Any]:
        """Asks all parties for the same, and waits for all of them."""
        replies = {party: self._link.call(party, phase, *args)[0] for party in parties}
        return {party: self.value(reply, party, phase, step) for party, reply in replies.items()}


def _named(answer: Reply, party: str, phase: str, step: int) -> SplitError:
    """The error that a part has raised, as one of ours."""
    where = f'the part "{party}" has failed in the phase {phase} of step {step}'
    found = getattr(errors, answer.error or "", None)
    if isinstance(found, type) and issubclass(found, SplitError):
        return found(f"{where}: {answer.text}")
    text = answer.text.strip()
    received = ": ".join(filter(None, [answer.error, text]))
    return PartError(f"{where}. Received: {received}{'' if received[-1:] == '.' else '.'}")
