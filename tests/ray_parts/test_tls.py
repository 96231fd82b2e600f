"""Two machines of a Ray cluster under TLS, with certificates that are made here.

Both are on this machine: two of Ray's nodes, with a store of objects each.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile

import pytest

from splitop.ray import Batches
from tests.ray_parts import parts

ROOT = pathlib.Path(__file__).parents[2]


def make_certificates(folder: pathlib.Path) -> None:
    """ca.crt, and node.crt and node.key for all addresses of this machine."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "rsa:2048", "-nodes")
    openssl(
        "req", "-x509", *new, "-days", "1", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca"
    )
    openssl("req", *new, "-keyout", "node.key", "-out", "node.csr", "-subj", "/CN=node")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # Sends nothing: it asks which address would be used.
        address = probe.getsockname()[0]
    names = folder / "names"
    names.write_text(f"subjectAltName=DNS:localhost,IP:127.0.0.1,IP:{address}\n")
    signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1")
    openssl("x509", "-req", "-in", "node.csr", *signed, "-extfile", "names", "-out", "node.crt")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")
def test_two_machines_under_tls() -> None:
    pytest.importorskip("ray")
    with tempfile.TemporaryDirectory("tls") as name:
        folder = pathlib.Path(name)
        make_certificates(folder)
        run = subprocess.run(
            [sys.executable, "-m", "tests.ray_parts.tls", str(folder)],
            cwd=ROOT,
            env={key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
            | {
                "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
                "RAY_AUTH_TOKEN": "of-this-test",
                "RAY_TMPDIR": str(folder),  # Short: it holds sockets.
                "RAY_USAGE_STATS_ENABLED": "0",
                "RAY_worker_niceness": "0",
                "RAY_USE_TLS": "1",
                "RAY_TLS_SERVER_CERT": str(folder / "node.crt"),
                "RAY_TLS_SERVER_KEY": str(folder / "node.key"),
                "RAY_TLS_CA_CERT": str(folder / "ca.crt"),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout.splitlines()[-1])
    expected = parts.OneProcess().train(Batches(parts.KEYS, 12, seed=1), 6)
    assert {int(step): loss for step, loss in result["losses"].items()} == expected
    assert len(result["answers"]) == 5
    for service, answers in result["answers"].items():
        assert answers == {
            "with a certificate": "HTTP/2",
            "without a certificate": "nothing",
            "without TLS": "nothing",
        }, service
