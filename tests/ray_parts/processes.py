"""Trainer and parts in processes that are killed at any moment.

TensorFlow takes seconds to import, and may only be forked before it is used. So a fork server
imports it once; the trainer, which uses none of it, is forked from there, and forks the parts.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pathlib
import signal
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from splitop._src.parties.first_server import FirstServer
from splitop._src.parties.link import LostError
from splitop._src.parties.messages import Settings
from splitop._src.parties.party import Party
from splitop._src.parties.second_server import SecondServer
from splitop.ray import Batches, Trainer
from tests.ray_parts import parts

BATCHES = Batches(parts.KEYS[:36], 12, seed=1)
TRAINER = "trainer"
FILE_OPERATIONS = ("open", "os.", "fcntl.", "shutil.")
_FORK = multiprocessing.get_context("fork")


class Kill(NamedTuple):
    """When a process kills itself.

    Attributes:
        party: Which process; TRAINER is the trainer's.
        method: In which call of a part.
        when: "before" the call has run, "after" it, with its answer not sent; or before the nth
            file operation in it.
        nth: In which of these calls, counted from the last kill on.
    """

    party: str
    method: str
    when: str | int
    nth: int = 1


class ProcessLink:
    """Parts in forked processes, at the other ends of pipes."""

    def __init__(self, parties: Sequence[Party], settings: Settings, kills: Iterable[Kill]):
        self._parties, self._settings = {party.name: party for party in parties}, settings
        self._kills, self._seen = deque(kills), 0
        self._processes: dict[str, Any] = {}
        self._pipes: dict[str, Connection] = {}
        self.killed = 0

    def call(self, party: str, method: str, *args: Any, returns: int = 1) -> list[Any]:
        broken = [each for each in args if isinstance(each, Exception)]
        if broken:
            return broken[:1] * returns
        if party not in self._processes:
            self._fork(party)
        kill = self._due(party, method)
        if kill == (TRAINER, "before"):
            _kill_myself()
        pipe = self._pipes[party]
        try:
            pipe.send((method, args, kill[1] if kill[0] == party else None))
            if not pipe.poll(60):
                return [TimeoutError()] * returns
            result = pipe.recv()
        except (EOFError, OSError):
            self._bury(party)
            return [LostError("killed")] * returns
        if kill == (TRAINER, "after"):
            _kill_myself()
        return list(result) if returns > 1 else [result]

    def get(self, value: Any, timeout: float) -> Any:
        del timeout
        if isinstance(value, Exception):
            raise value
        return value

    def close(self) -> None:
        for party in list(self._processes):
            self._pipes.pop(party).close()
            self._processes.pop(party).join(60)

    def _due(self, party: str, method: str) -> tuple[str, str | int]:
        """Who is to be killed in this call, and when; two empty strings: nobody."""
        if not self._kills:
            return "", ""
        kill = self._kills[0]
        if kill.method != method or kill.party not in (party, TRAINER):
            return "", ""
        self._seen += 1
        if self._seen < kill.nth:
            return "", ""
        self._kills.popleft()
        self._seen = 0
        return kill.party, kill.when

    def _fork(self, party: str) -> None:
        ours, theirs = _FORK.Pipe()
        others = [*self._pipes.values(), ours]
        target = _FORK.Process(
            target=_serve, args=(theirs, others, self._parties[party], self._settings), daemon=True
        )
        target.start()
        theirs.close()
        self._processes[party], self._pipes[party] = target, ours

    def _bury(self, party: str) -> None:
        self._pipes.pop(party).close()
        process = self._processes.pop(party)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL, process.exitcode
        self.killed += 1


def _serve(
    pipe: Connection, others: Sequence[Connection], party: Party, settings: Settings
) -> None:
    for other in others:
        other.close()  # Or its other end would not see that the trainer has died.
    kind = FirstServer if party.name == settings.first else SecondServer
    server: Any = kind(party, settings)
    left: list[int] = []
    sys.addaudithook(lambda event, _: _count_down(event, left))
    with contextlib.suppress(EOFError):
        while True:
            method, args, when = pipe.recv()
            if when == "before":
                _kill_myself()
            left[:] = [when] if isinstance(when, int) else []
            result = getattr(server, method)(*args)
            left.clear()
            if when == "after":
                _kill_myself()
            pipe.send(result)
    os._exit(0)  # TensorFlow's threads are of no more use.


def _count_down(event: str, left: list[int]) -> None:
    if not left or not event.startswith(FILE_OPERATIONS):
        return
    left[0] -= 1
    if left[0] < 0:
        left.clear()  # The kill is such an operation, too.
        _kill_myself()


def _kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Outcome(NamedTuple):
    """What a training has come to: losses by step, and how many processes were killed."""

    losses: dict[int, float]
    killed: int


def train(
    result: Connection, folder: pathlib.Path, steps: int, kills: Sequence[Kill], options: Any
) -> None:
    """Runs in the trainer's process."""
    links: list[ProcessLink] = []

    def link(parties: Any, settings: Any) -> ProcessLink:
        links.append(ProcessLink(parties, settings, kills))
        return links[0]

    with Trainer(
        Party("head", "tests.ray_parts.parts:head", folder / "head"),
        [Party("bank", "tests.ray_parts.parts:encoder", folder / "bank", {"name": "bank"})],
        save_every=2,
        restarts=12,
        link=link,
        **options,
    ) as trainer:
        losses = trainer.train(BATCHES, until=steps)
        result.send(Outcome(losses, links[0].killed))
    result.close()


class ForkServer:
    """Forks trainers."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])

    def run(
        self, folder: pathlib.Path, steps: int, kills: Sequence[Kill] = (), **options: Any
    ) -> tuple[int | None, Outcome | None]:
        """The exit status of a trainer's process, and what has come of it."""
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=train, args=(theirs, folder, steps, list(kills), options)
        )
        process.start()
        theirs.close()
        try:
            outcome = ours.recv() if ours.poll(300) else None
        except EOFError:
            outcome = None
        process.join(30)
        if process.is_alive():
            process.kill()
        return process.exitcode, outcome
