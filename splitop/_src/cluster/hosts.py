"""Which hosts of a cluster run the fused ops: those that a `splitop.cluster.Cluster` has."""

from __future__ import annotations

from typing import Any

# Job and task. A cluster of somebody else's may not have loaded the ops.
_known: set[tuple[str, int]] = set()


def add(job: str, task: int) -> None:
    """Makes a host known, for as long as the process lives."""
    _known.add((job, task))


def are_known() -> bool:
    """Whether there is a cluster at all."""
    return bool(_known)


def name_of(job: str, task: int) -> str:
    """A host as TensorFlow writes it, such as "/job:second/task:0"."""
    return f"/job:{job}/task:{task}"


def host_of(spec: Any) -> str | None:
    """The host of a tf.DeviceSpec, such as "/job:second/task:0"; None: not a known one."""
    key = (spec.job, spec.task or 0)
    return name_of(*key) if key in _known else None
