"""Which part runs where: an explicit specification, or that of TF_CONFIG."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from splitop._src.cluster import hosts
from splitop._src.errors import ClusterError

FIRST, SECOND = "first", "second"
PARTS = (FIRST, SECOND)
TF_CONFIG = "TF_CONFIG"


@dataclasses.dataclass(frozen=True)
class Spec:
    """The two hosts of a cluster.

    Attributes:
        addresses: "host:port" of each part, which is the name of its job, too.
        part: The part that this process has.
    """

    addresses: Mapping[str, str]
    part: str


def read_spec(addresses: Any, part: Any) -> Spec:
    """Checks what was given; without anything, reads TF_CONFIG.

    Raises:
        ClusterError: It does not say where the two parts are.
    """
    if addresses is None and part is None:
        return _from_environment()
    if part not in PARTS:
        raise ClusterError(
            f'part must be "first" or "second", the one that this process has. Received: {part!r}.'
        )
    return Spec(_checked(addresses, "spec"), part)


def device_of(part: str) -> str:
    """The device string of the host of a part."""
    return hosts.name_of(part, 0)


def _from_environment() -> Spec:
    text = os.environ.get(TF_CONFIG)
    example = (
        '{"cluster": {"first": ["host1:2222"], "second": ["host2:2222"]}, '
        '"task": {"type": "first", "index": 0}}'
    )
    if not text:
        raise ClusterError(
            "a cluster needs a spec and a part, or the environment variable TF_CONFIG, such as "
            f"{example}. Received: neither."
        )
    try:
        config = json.loads(text)
        addresses, task = config["cluster"], config["task"]
        part, index = task["type"], int(task.get("index", 0))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ClusterError(
            f"TF_CONFIG must be JSON with a cluster and a task, such as {example}. "
            f"Received: {text}."
        ) from None
    if part not in PARTS or index != 0:
        raise ClusterError(
            'the task of TF_CONFIG must be of the type "first" or "second", with the index 0. '
            f"Received: {task}."
        )
    return Spec(_checked(addresses, "the cluster of TF_CONFIG"), part)


def _checked(addresses: Any, what: str) -> dict[str, str]:
    if not isinstance(addresses, Mapping) or set(addresses) != set(PARTS):
        raise ClusterError(
            f'{what} must have an address for each of "first" and "second", and no other job. '
            f"Received: {addresses!r}."
        )
    checked = {part: _address(addresses[part], part, what) for part in PARTS}
    if checked[FIRST] == checked[SECOND]:
        raise ClusterError(
            f'{what} must have two different addresses. Received: "{checked[FIRST]}" twice.'
        )
    return checked


def _address(given: Any, part: str, what: str) -> str:
    """The one address of a part; a list of one is what tf.train.ClusterSpec takes."""
    address = given[0] if isinstance(given, (list, tuple)) and len(given) == 1 else given
    host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ClusterError(
            f'the address of "{part}" in {what} must be one "host:port", with a port from 1 to '
            f"65535. Received: {given!r}."
        )
    return address
