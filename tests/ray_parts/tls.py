"""A training under TLS, in a process of its own: Ray reads its settings once.

It trains in a local cluster, and then looks from outside at who may talk to the cluster.
"""

from __future__ import annotations

import json
import os
import pathlib
import socket
import ssl
import sys
from typing import Any

import ray

from splitop.ray import Batches, Party, Trainer

# What a gRPC client sends first (RFC 9113), and an empty SETTINGS frame.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


def main(folder: pathlib.Path) -> None:
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=2**27,
        _temp_dir=str(folder / "t"),
        log_to_driver=False,
        logging_level="error",
    )
    module = "tests.ray_parts.parts"
    try:
        with Trainer(
            Party("head", f"{module}:head", folder / "head", num_cpus=0.1),
            [Party("bank", f"{module}:encoder", folder / "bank", {"name": "bank"}, num_cpus=0.1)],
            timeout=60,
            start_timeout=120,
        ) as trainer:
            losses = trainer.train(Batches([f"id-{n}" for n in range(41)], 12, seed=1), 3)
        host, port = ray.get_runtime_context().gcs_address.rsplit(":", 1)
        answers = {
            "with a certificate": answer(host, int(port), context(folder, certificate=True)),
            "without a certificate": answer(host, int(port), context(folder, certificate=False)),
            "without TLS": answer(host, int(port), None),
        }
    finally:
        ray.shutdown()
    print(json.dumps({"losses": losses, "answers": answers}))


def context(folder: pathlib.Path, certificate: bool) -> ssl.SSLContext:
    result = ssl.create_default_context(cafile=os.environ["RAY_TLS_CA_CERT"])
    result.set_alpn_protocols(["h2"])
    if certificate:
        result.load_cert_chain(folder / "node.crt", folder / "node.key")
    return result


def answer(host: str, port: int, tls: ssl.SSLContext | None) -> str:
    """What the cluster's control service answers to a client: "HTTP/2" or nothing."""
    try:
        with socket.create_connection((host, port), 10) as plain:
            connection: Any = plain if tls is None else tls.wrap_socket(plain, server_hostname=host)
            with connection:
                connection.settimeout(10)
                connection.sendall(PREFACE)
                received = connection.recv(9)
    except (ssl.SSLError, ConnectionError, TimeoutError):
        return "nothing"
    # A SETTINGS frame is of type 4.
    return "HTTP/2" if len(received) == 9 and received[3] == 4 else "nothing"


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
