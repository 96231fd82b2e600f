"""Addresses of processes, "host:port"."""

from __future__ import annotations

import socket


def host_and_port(address: str) -> tuple[str, int]:
    """The two halves; an IPv6 host without its brackets.

    Raises:
        ValueError: The port is no number.
    """
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def knock(address: str, timeout: float) -> None:
    """Connects to a process, and hangs up.

    Args:
        address: The process's.
        timeout: Seconds to wait at most.

    Raises:
        OSError: No process listens there.
        ValueError: The port is no number.
    """
    socket.create_connection(host_and_port(address), timeout).close()


def listens(address: str) -> bool:
    """Whether a process listens at an address; waits a second at most."""
    try:
        knock(address, 1.0)
    except (OSError, ValueError):
        return False
    return True
