"""Starts the workers of a MultiWorkerMirroredStrategy, each in a process of its own."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import pathlib
import pickle
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from tests.ports import free_ports

LIMIT = 150  # seconds, until workers that do not end are killed, and the test fails

# TensorFlow takes seconds to import: a process that has done so forks all workers.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tensorflow", "keras", "splitop.keras"])


@dataclasses.dataclass(frozen=True)
class Ended:
    """A worker that has ended.

    Attributes:
        status: The exit status; below 0: the signal that has killed it.
        result: What its function has returned.
        error: The traceback, if it has raised an error.
    """

    status: int
    result: Any = None
    error: str = ""


def run_workers(
    folder: pathlib.Path,
    function: Callable[..., Any],
    options: Sequence[dict[str, Any] | None],
) -> list[Ended]:
    """Runs a function in workers that train together, until all have ended.

    Args:
        folder: For files.
        function: The function, of a module.
        options: For each worker the arguments; None: the worker does not start.

    Returns:
        How those ended that were started.
    """
    ports = free_ports(len(options))
    workers = {
        index: _context.Process(
            target=_run, args=(folder / f"worker-{index}", ports, index, function, own)
        )
        for index, own in enumerate(options)
        if own is not None
    }
    try:
        for process in workers.values():
            process.start()
        for process in workers.values():
            process.join(LIMIT)
            assert process.exitcode is not None, "a worker did not end"
        return [_ended(folder / f"worker-{i}", p.exitcode) for i, p in workers.items()]
    finally:
        for process in workers.values():
            if process.pid is not None:
                process.kill()
                process.join()


def _run(
    output: pathlib.Path,
    ports: list[int],
    index: int,
    function: Callable[..., Any],
    options: dict[str, Any],
) -> None:
    output.unlink(missing_ok=True)
    os.environ["TF_CONFIG"] = json.dumps(
        {
            "cluster": {"worker": [f"localhost:{port}" for port in ports]},
            "task": {"type": "worker", "index": index},
        }
    )
    try:
        output.write_bytes(pickle.dumps(Ended(0, function(**options))))
    except BaseException:
        output.write_bytes(pickle.dumps(Ended(1, error=traceback.format_exc())))
        raise


def _ended(output: pathlib.Path, status: int | None) -> Ended:
    assert status is not None
    return pickle.loads(output.read_bytes()) if status >= 0 else Ended(status)
