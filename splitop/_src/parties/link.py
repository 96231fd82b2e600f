"""What a trainer needs of the engine that runs the parts."""

from __future__ import annotations

from typing import Any, Protocol


class LostError(Exception):
    """A part's process has died, or what it has computed is gone."""


class UnreachableError(LostError):
    """A part's process can't be reached: whether it has died is yet to be found out."""


class Link(Protocol):
    """Calls parts in other processes. Each part answers its calls in the order they are made in."""

    def call(self, party: str, method: str, *args: Any, returns: int = 1) -> list[Any]:
        """Calls a method of a part's server, and does not wait.

        Args:
            party: The party's name.
            method: The method's name.
            *args: Its arguments: plain values, arrays, and what other calls have returned.
            returns: How many values it returns.

        Returns:
            Stand-ins for the values.
        """

    def get(self, value: Any, timeout: float) -> Any:
        """Waits for a value.

        Args:
            value: What `call` has returned.
            timeout: How many seconds to wait at most.

        Raises:
            TimeoutError: It has not come in time.
            UnreachableError: It won't come; another call may be answered later.
            LostError: It won't come.
        """

    def close(self) -> None:
        """Ends the parts' processes."""
