"""Starts the workers of a MultiWorkerMirroredStrategy, each in a process of its own."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
LIMIT = 100  # seconds, until a worker that does not end is killed, and the test fails


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def run_workers(
    module: str, arguments: Sequence[Sequence[Any]], limit: float = LIMIT
) -> list[tuple[int, str]]:
    """Runs a module as workers that train together, until all have ended.

    Args:
        module: Its name.
        arguments: For each worker, its command line.
        limit: See LIMIT.

    Returns:
        For each worker its exit status, and what it has written to stderr.
    """
    ports = _free_ports(len(arguments))
    workers = []
    try:
        for index, own in enumerate(arguments):
            config = {
                "cluster": {"worker": [f"localhost:{port}" for port in ports]},
                "task": {"type": "worker", "index": index},
            }
            workers.append(
                subprocess.Popen(
                    [sys.executable, "-m", module, *map(str, own)],
                    cwd=ROOT,
                    env={**os.environ, "TF_CONFIG": json.dumps(config)},
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        errors = [process.communicate(timeout=limit)[1] for process in workers]
        return [(p.returncode, text) for p, text in zip(workers, errors, strict=True)]
    finally:
        for process in workers:
            process.kill()
            process.wait()
