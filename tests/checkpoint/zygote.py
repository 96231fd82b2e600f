"""A process that has imported TensorFlow, and forks others that are to be killed.

TensorFlow takes seconds to import, and may only be forked before it is used. So this one reads
commands, a JSON object a line, and never runs an operation itself:

    {"task": "count" or "train", "directory": ..., "result": ..., "event": n, "seconds": s, ...}

It runs each in a new process and answers with the exit status. The process kills itself just before
the nth of its file operations, or is killed so many seconds after it has started to work.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import tensorflow as tf

import splitop
from tests.checkpoint.parts import Training

FILE_OPERATIONS = ("open", "os.", "fcntl.", "shutil.")


class Killer:
    """Kills this process just before the nth file operation after `start`."""

    def __init__(self, event: int | None) -> None:
        self._left = event
        self._active = False
        sys.addaudithook(self._hook)

    def start(self) -> None:
        self._active = True

    def _hook(self, event: str, _: Any) -> None:
        if not self._active or self._left is None or not event.startswith(FILE_OPERATIONS):
            return
        self._left -= 1
        if self._left == -1:  # Once, as the kill is such an operation, too.
            os.kill(os.getpid(), signal.SIGKILL)


def count(directory: str, steps: int, start: Callable[[], None], **_: Any) -> dict[str, Any]:
    """Goes on from the last step; the variables of both parts tell the step."""
    first, second = tf.Variable(0), tf.Variable(tf.zeros([3, 5]))
    checkpoint = splitop.Checkpoint(directory, keep=2, first={"v": first}, second={"v": second})
    begin = checkpoint.restore() or 0
    restored = [int(first.numpy()), *set(second.numpy().flatten().tolist())]
    found = checkpoint.steps
    start()
    for step in range(begin + 1, begin + 1 + steps):
        first.assign(step)
        second.assign(tf.fill([3, 5], float(step)))
        checkpoint.save(step)
    return {
        "restored": restored,
        "found": found,
        "steps": checkpoint.steps,
        "names": sorted(os.listdir(directory)),
    }


def train(directory: str, steps: int, start: Callable[[], None], **_: Any) -> dict[str, Any]:
    """Trains up to a step, with a checkpoint after each one."""
    run = Training()
    checkpoint = splitop.Checkpoint(directory, keep=2, **run.parts())
    start()
    begin = checkpoint.restore() or 0
    for step in range(begin, steps):
        run.train(step, step + 1)
        checkpoint.save(step + 1)
    digests = [hashlib.sha256(bits).hexdigest() for bits in run.bits()]
    return {"begin": begin, "digests": digests}


def _child(command: dict[str, Any], ready: int) -> None:
    killer = Killer(command.get("event"))

    def start() -> None:
        os.write(ready, b"!")
        killer.start()

    task = {"count": count, "train": train}[command["task"]]
    result = task(start=start, **command)
    pathlib.Path(command["result"]).write_text(json.dumps(result))


def _run(command: dict[str, Any]) -> int:
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.close(reader)
            _child(command, writer)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writer)
    os.read(reader, 1)  # Nothing, if it has ended.
    if "seconds" in command:
        time.sleep(command["seconds"])
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    os.close(reader)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    import splitop._src.checkpoint.checkpoint
    import splitop._src.minimize

    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)
