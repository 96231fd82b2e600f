"""A training under TLS, in a process of its own: Ray reads its settings once.

The second part's machine dies, and another one takes its place. In the end it looks from outside
at who may talk to the cluster.
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
from ray.cluster_utils import Cluster

from splitop.ray import Batches, Party, Trainer

NODE = {"include_dashboard": False, "object_store_memory": 2**27}
# What a gRPC client sends first (RFC 9113), and an empty SETTINGS frame.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


def main(folder: pathlib.Path) -> None:
    cluster = Cluster(
        initialize_head=True,
        connect=True,
        head_node_args={"num_cpus": 2, **NODE},
    )
    module = "tests.ray_parts.parts"
    try:
        banks = cluster.add_node(num_cpus=1, resources={"bank": 1}, **NODE)
        with Trainer(
            Party("head", f"{module}:head", str(folder / "head"), num_cpus=0.1),
            [
                Party(
                    "bank",
                    f"{module}:encoder",
                    str(folder / "bank"),
                    {"name": "bank"},
                    num_cpus=0.1,
                    resources={"bank": 1},
                )
            ],
            timeout=60,
            start_timeout=120,
            save_every=2,
        ) as trainer:
            batches = Batches([f"id-{n}" for n in range(41)], 12, seed=1)
            losses = trainer.train(batches, 3)
            cluster.remove_node(banks, allow_graceful=False)
            cluster.add_node(num_cpus=1, resources={"bank": 1}, **NODE)
            losses |= trainer.train(batches, 6)
        answers = {
            name: {
                "with a certificate": answer(*service, context(folder, certificate=True)),
                "without a certificate": answer(*service, context(folder, certificate=False)),
                "without TLS": answer(*service, None),
            }
            for name, service in services().items()
        }
    finally:
        ray.shutdown()
        cluster.shutdown()
    print(json.dumps({"losses": losses, "answers": answers}))


def services() -> dict[str, tuple[str, int]]:
    """Address and port of the cluster's control service, and of those of each node."""
    host, port = ray.get_runtime_context().gcs_address.rsplit(":", 1)
    found = {"control": (host, int(port))}
    for number, node in enumerate(node for node in ray.nodes() if node["Alive"]):
        for kind in ("NodeManagerPort", "ObjectManagerPort"):
            found[f"{kind} {number}"] = (node["NodeManagerAddress"], node[kind])
    return found


def context(folder: pathlib.Path, certificate: bool) -> ssl.SSLContext:
    result = ssl.create_default_context(cafile=os.environ["RAY_TLS_CA_CERT"])
    result.set_alpn_protocols(["h2"])
    if certificate:
        result.load_cert_chain(folder / "node.crt", folder / "node.key")
    return result


def answer(host: str, port: int, tls: ssl.SSLContext | None) -> str:
    """What a service answers to a gRPC client: "HTTP/2" or nothing."""
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
