"""A wire between two network namespaces, with a latency and a bandwidth of its own.

A process reads each packet from one end's TUN device and writes it to the other end's when it would
have arrived. Linux only, as root: `ip` makes the namespaces, /dev/net/tun the devices. (tc's netem
does the same in the kernel, where the kernel has it.)
"""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import select
import struct
import subprocess
import time
from collections import deque
from collections.abc import Iterator

ADDRESSES = ("10.77.0.1", "10.77.0.2")
MTU = 16000
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000


@contextlib.contextmanager
def wire(latency: float, bandwidth: float) -> Iterator[tuple[str, str]]:
    """Two namespaces at the ends of a wire: their names. Their addresses are ADDRESSES.

    Args:
        latency: Seconds, one way.
        bandwidth: Bytes a second, each way.

    Raises:
        PermissionError: The process is not root's.
        RuntimeError: `ip` could not do what it was asked for.
    """
    if os.geteuid() != 0:
        raise PermissionError("a wire needs root: it makes network namespaces")
    names = tuple(f"splitop-{os.getpid()}-{end}" for end in "ab")
    with contextlib.ExitStack() as stack:
        ends = []
        for name, address in zip(names, ADDRESSES, strict=True):
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name)
            ends.append(_open_end(name, address))
            stack.callback(os.close, ends[-1])
        process = multiprocessing.get_context("fork").Process(
            target=_carry, args=(*ends, latency, bandwidth), daemon=True
        )
        process.start()
        stack.callback(process.join)
        stack.callback(process.kill)
        yield names


def command(namespace: str, *arguments: str) -> list[str]:
    """A command that runs in a namespace."""
    return ["ip", "netns", "exec", namespace, *arguments]


def _open_end(namespace: str, address: str) -> int:
    """A TUN device of the namespace: its file descriptor."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    name = namespace[-15:]
    flags = struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI)
    fcntl.ioctl(file, _TUNSETIFF, flags)
    _ip("link", "set", name, "netns", namespace)
    _ip("-n", namespace, "addr", "add", f"{address}/24", "dev", name)
    _ip("-n", namespace, "link", "set", name, "mtu", str(MTU), "txqueuelen", "10000", "up")
    _ip("-n", namespace, "link", "set", "lo", "up")
    return file


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class _Direction:
    """Packets on their way from one end to the other, in order."""

    def __init__(self, source: int, target: int, latency: float, bandwidth: float) -> None:
        self.source, self._target = source, target
        self._latency, self._bandwidth = latency, bandwidth
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._free = 0.0

    def take(self) -> None:
        """Takes what the sending end has."""
        while True:
            try:
                packet = os.read(self.source, MTU)
            except BlockingIOError:
                return
            self._free = max(self._free, time.monotonic()) + len(packet) / self._bandwidth
            self._under_way.append((self._free + self._latency, packet))

    def deliver(self) -> float:
        """Delivers what has arrived; returns the seconds until the next packet does."""
        while self._under_way:
            wait = self._under_way[0][0] - time.monotonic()
            if wait > 0:
                return wait
            with contextlib.suppress(OSError):  # Lost where the device is full; TCP repeats it.
                os.write(self._target, self._under_way.popleft()[1])
        return 1.0


def _carry(a: int, b: int, latency: float, bandwidth: float) -> None:
    directions = [_Direction(a, b, latency, bandwidth), _Direction(b, a, latency, bandwidth)]
    while True:
        wait = min(direction.deliver() for direction in directions)
        select.select([a, b], [], [], wait)
        for direction in directions:
            direction.take()
