"""Parts in this process, called as over a network that loses, repeats and delays what is sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from splitop._src.parties.first_server import FirstServer
from splitop._src.parties.link import LostError, UnreachableError
from splitop._src.parties.messages import Settings
from splitop._src.parties.party import Party
from splitop._src.parties.second_server import SecondServer

# What may happen to a call.
LOST_CALL, LOST_REPLY, TWICE = "lost call", "lost reply", "twice"
LATE, DIES, UNREACHABLE = "late", "dies", "unreachable"
FAULTS = (LOST_CALL, LOST_REPLY, TWICE, LATE, DIES, UNREACHABLE)
Fault = Callable[[str, str], str | None]


class Failed:
    """What stands for a value that does not come."""

    def __init__(self, error: Exception):
        self.error = error


class LocalLink:
    """A link that runs each call at once."""

    def __init__(self, parties: Sequence[Party], settings: Settings, fault: Fault | None = None):
        self._parties = {party.name: party for party in parties}
        self._settings = settings
        self._fault: Fault = fault or (lambda *_: None)
        self._late: list[tuple[Any, ...]] = []
        self.servers: dict[str, Any] = {}
        self.calls: list[tuple[str, str, tuple[Any, ...]]] = []

    def call(self, party: str, method: str, *args: Any, returns: int = 1) -> list[Any]:
        broken = [each for each in args if isinstance(each, Failed)]
        if broken:
            return broken[:1] * returns
        self.calls.append((party, method, args))
        fault = self._fault(party, method)
        if len(self._late) > 2:
            self.repeat(*self._late.pop(0))
        if fault == LATE:
            self._late.append((party, method, *args))
        if fault in (LOST_CALL, LATE):
            return [Failed(TimeoutError())] * returns
        if fault == DIES:
            self.servers.pop(party, None)
            return [Failed(LostError("it has died"))] * returns
        if fault == UNREACHABLE:
            return [Failed(UnreachableError("no route"))] * returns
        for _ in range(2 if fault == TWICE else 1):
            result = self.repeat(party, method, *args)
        if fault == LOST_REPLY:
            return [Failed(TimeoutError())] * returns
        return list(result) if returns > 1 else [result]

    def repeat(self, party: str, method: str, *args: Any) -> Any:
        """A call that arrives, perhaps late."""
        if party not in self.servers:
            kind = FirstServer if party == self._settings.first else SecondServer
            self.servers[party] = kind(self._parties[party], self._settings)
        return getattr(self.servers[party], method)(*args)

    def get(self, value: Any, timeout: float) -> Any:
        del timeout
        if isinstance(value, Failed):
            raise value.error
        return value

    def close(self) -> None:
        self.servers = {}
