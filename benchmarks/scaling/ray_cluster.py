"""A Ray cluster of two nodes, one at each end of a wire."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from benchmarks.scaling.wire import ADDRESSES, command

# The resource of each node, by which parts are placed.
RESOURCES = ("first", "second")
ADDRESS = f"{ADDRESSES[0]}:6379"
_START, _STOP = 60, 30
_ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join([str(pathlib.Path.cwd()), os.environ.get("PYTHONPATH", "")]),
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "of-this-benchmark",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


def environment() -> dict[str, str]:
    """That of all processes of the cluster."""
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return kept | _ENVIRONMENT


@contextlib.contextmanager
def nodes(names: tuple[str, str]) -> Iterator[None]:
    """Nodes in the namespaces of a wire.

    Args:
        names: Of the namespaces.

    Raises:
        RuntimeError: A node does not start.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        head = ("--head", "--port=6379", "--include-dashboard=false", f"--temp-dir={folder}")
        for name, address, resource, how in zip(
            names, ADDRESSES, RESOURCES, (head, (f"--address={ADDRESS}",)), strict=True
        ):
            said = pathlib.Path(folder) / f"{name}.log"
            node = subprocess.Popen(
                command(
                    name,
                    *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *how),
                    *(f"--node-ip-address={address}", f'--resources={{"{resource}": 1000}}'),
                    "--object-store-memory=200000000",
                ),
                env=environment(),
                stdout=stack.enter_context(said.open("wb")),
                stderr=subprocess.STDOUT,
            )
            stack.callback(_stop, node)
            _wait_for(node, said)
        yield


def _wait_for(node: subprocess.Popen[bytes], said: pathlib.Path) -> None:
    """Returns once a node says that it has started."""
    end = time.monotonic() + _START
    while "Ray runtime started" not in said.read_text():
        if time.monotonic() > end or node.poll() is not None:
            raise RuntimeError(f"a node of Ray must start. Received:\n{said.read_text()}")
        time.sleep(0.1)


def _stop(node: subprocess.Popen[bytes]) -> None:
    node.terminate()
    try:
        node.wait(_STOP)
    except subprocess.TimeoutExpired:
        node.kill()
        node.wait()
