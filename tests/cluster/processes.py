"""Processes that have the second part, and the addresses of both."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

from tests.ports import free_ports

ROOT = pathlib.Path(__file__).parents[2]
SERVE = "import splitop; splitop.cluster.Cluster().serve()"
# Somebody else's server, which knows nothing of splitop.
SOMEBODY_ELSES = (
    "import json, os, tensorflow as tf; spec = json.loads(os.environ['TF_CONFIG'])['cluster']; "
    "tf.distribute.Server(spec, job_name='second', task_index=0).join()"
)
OLD = f"import splitop._src.cluster.notices as n; n.__version__ = '0.0.1'; {SERVE}"


def free_spec() -> dict[str, str]:
    """Addresses whose ports were free a moment ago."""
    first, second = (f"127.0.0.1:{port}" for port in free_ports(2))
    return {"first": first, "second": second}


def tf_config(spec: dict[str, str], part: str) -> str:
    return json.dumps(
        {
            "cluster": {name: [address] for name, address in spec.items()},
            "task": {"type": part, "index": 0},
        }
    )


def environment(spec: dict[str, str], part: str) -> dict[str, str]:
    return os.environ | {
        "TF_CONFIG": tf_config(spec, part),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def run_first(spec: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python as the first part's process, to its end."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment(spec, "first"),
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


class Peer:
    """A process with the second part; killed when the context is left."""

    def __init__(self, spec: dict[str, str], code: str = SERVE):
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, env=environment(spec, "second")
        )

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(30)
