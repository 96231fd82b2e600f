"""A process that forks others, which have TensorFlow already: a kill costs a second, not ten.

It imports, runs nothing, and does what the lines of its input say: "start serve", "start train
FOLDER LIFE", "wait PROCESS". When the input ends, it kills all that it has started.
"""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable

from tests.cluster.processes import ROOT, environment


class Nursery:
    """The test's side."""

    def __init__(self, spec: dict[str, str], timeout: float):
        variables = environment(spec, "second") | {"TEST_TIMEOUT": str(timeout)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.nursery"],
            cwd=ROOT,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def start(self, *words: object) -> int:
        """Starts a process; returns its id."""
        return int(self._ask("start", *words))

    def end(self, process: int) -> int:
        """Waits for a process to end; returns its exit code, of a signal -signal."""
        return int(self._ask("wait", process))

    def _ask(self, *words: object) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(*words, file=self._process.stdin, flush=True)
        return self._process.stdout.readline()

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=30)


def main() -> None:
    import splitop
    from splitop._src import library
    from tests.cluster.drive import drive

    library.load()
    timeout = float(os.environ["TEST_TIMEOUT"])

    def serve() -> None:
        splitop.cluster.Cluster(timeout=timeout).serve()

    def train(folder: str, part: str) -> None:
        drive(pathlib.Path(folder), int(part), timeout)

    jobs: dict[str, Callable[..., None]] = {"serve": serve, "train": train}
    running: set[int] = set()
    try:
        for line in sys.stdin:
            command, what, *arguments = line.split()
            if command == "start":
                running.add(child := _fork(jobs[what], arguments))
                print(child, flush=True)
            else:
                _, status = os.waitpid(int(what), 0)
                running.remove(int(what))
                print(os.waitstatus_to_exitcode(status), flush=True)
    finally:
        for child in running:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _fork(job: Callable[..., None], arguments: list[str]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)  # The commands are not for the child.
        os.dup2(null, 1)
        job(*arguments)
        code = 0
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
