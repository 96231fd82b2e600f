"""`splitop.cluster.bytes_across`: what goes from one host to another in a run of a session."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from splitop._src.cluster import hosts
from splitop._src.table import table

_FED = re.compile(r"_recv_(.+)_(\d+)$")
# Bytes of an element, by the number of the dtype; those of strings differ.
_KNOWN = {
    dtype.as_datatype_enum: dtype.size
    for dtype in (
        *(tf.bool, tf.int8, tf.int16, tf.int32, tf.int64),
        *(tf.uint8, tf.uint16, tf.uint32, tf.uint64),
        *(tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.complex64, tf.complex128),
    )
}
_RECEIVED = re.compile(r"(\S+) from (\S+) to (\S+)$")


@dataclasses.dataclass(frozen=True)
class Crossing:
    """A tensor that goes from one host to another.

    Attributes:
        name: Of the tensor, "x:0"; of one that is fed, that of its placeholder.
        source: The host that sends it, "/job:second/task:0".
        target: The host that receives it.
        bytes: Its size, without what the protocol adds; 0: it only says that something is done.
            None: TensorFlow reports no size, as in a branch that was not taken.
    """

    name: str
    source: str
    target: str
    bytes: int | None


@dataclasses.dataclass(frozen=True)
class Traffic:
    """All that crosses in a run; `str` makes a table."""

    crossings: tuple[Crossing, ...]

    @property
    def total(self) -> int:
        """All bytes whose number is known."""
        return sum(each.bytes or 0 for each in self.crossings)

    def with_content(self) -> tuple[Crossing, ...]:
        """Those that hold anything, or may."""
        return tuple(each for each in self.crossings if each.bytes != 0)

    def __str__(self) -> str:
        rows = [
            (each.name, each.source, each.target, "?" if each.bytes is None else f"{each.bytes:,}")
            for each in self.with_content()
        ]
        shown = table([("tensor", "from", "to", "bytes"), *rows])
        empty = len(self.crossings) - len(rows)
        return f"{shown}\n{self.total:,} bytes; {empty} signals without content"


def bytes_across(session: Any, fetches: Any, feed_dict: Mapping[Any, Any] | None = None) -> Traffic:
    """Runs once, and tells which tensors have gone from one host of the cluster to another.

    It is a run as any other: it trains if `fetches` do. It counts what is sent between the servers,
    what is fed and fetched, too, if that is needed or computed on another host than the session's.

    Args:
        session: A session on a server of a cluster.
        fetches: What session.run takes.
        feed_dict: What session.run takes.
    """
    options = tf.compat.v1.RunOptions(
        trace_level=tf.compat.v1.RunOptions.FULL_TRACE, output_partition_graphs=True
    )
    metadata = tf.compat.v1.RunMetadata()
    session.run(fetches, feed_dict, options, metadata)
    sizes = _output_sizes(metadata.step_stats) | _feed_sizes(feed_dict or {})
    received = _received_sizes(metadata.step_stats)
    crossings = []
    for node in _sends(metadata.partition_graphs):
        source, target = (_host(_text(node, end)) for end in ("send_device", "recv_device"))
        if source == target or node.attr["client_terminated"].b:
            continue
        key = (_text(node, "tensor_name"), source, target)
        size = received.get(key, sizes.get(_with_index(node.input[0])))
        crossings.append(Crossing(_name(node.input[0]), source, target, size))
    return Traffic(tuple(sorted(crossings, key=lambda each: -(each.bytes or 0))))


def _sends(graphs: Any) -> Iterator[Any]:
    return (node for graph in graphs for node in graph.node if node.op in ("_Send", "_HostSend"))


def _text(node: Any, attribute: str) -> str:
    return str(node.attr[attribute].s.decode())


def _host(device: str) -> str:
    spec = tf.DeviceSpec.from_string(device)
    return hosts.name_of(spec.job, spec.task)


def _with_index(tensor: str) -> str:
    return tensor if ":" in tensor else f"{tensor}:0"


def _name(tensor: str) -> str:
    """The name of the user's tensor; TensorFlow receives a fed one under another name."""
    fed = _FED.match(tensor)
    return f"{fed[1]}:{fed[2]}" if fed else _with_index(tensor)


def _received_sizes(stats: Any) -> dict[tuple[str, str, str], int]:
    """What the receivers have counted, by the name of the edge and the two hosts.

    Some are missing: TensorFlow begins to count while the run has begun already.
    """
    sizes = {}
    for device in stats.dev_stats:
        for node in device.node_stats:
            edge = _RECEIVED.search(node.timeline_label) if node.node_name == "RecvTensor" else None
            if edge:
                size = node.output[0].tensor_description.allocation_description.requested_bytes
                sizes[edge[1], _host(edge[2]), _host(edge[3])] = int(size)
    return sizes


def _output_sizes(stats: Any) -> dict[str, int]:
    """The sizes of what the operations have given, of fixed-size dtypes."""
    sizes = {}
    for device in stats.dev_stats:
        for node in device.node_stats:
            for output in node.output:
                about = output.tensor_description
                if about.dtype in _KNOWN:
                    count = math.prod(extent.size for extent in about.shape.dim)
                    sizes[f"{node.node_name}:{output.slot}"] = count * _KNOWN[about.dtype]
    return sizes


def _feed_sizes(feeds: Mapping[Any, Any]) -> dict[str, int]:
    """The sizes of what is fed, by the names under which TensorFlow receives it."""
    return {
        f"_recv_{tensor.op.name}_{tensor.value_index}:0": np.asarray(value).size * tensor.dtype.size
        for tensor, value in feeds.items()
        if isinstance(tensor, tf.Tensor) and tensor.dtype.as_datatype_enum in _KNOWN
    }
