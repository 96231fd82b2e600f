"""What a run depends on besides the code."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from benchmarks import environment
from benchmarks.commit import commit
from benchmarks.peers.limits import Limits

PACKAGES = ("keras", "numpy", "torch", "jax")


def describe(limits: Limits) -> dict[str, Any]:
    """Machine, versions and the machine's measured rates."""
    facts = environment.describe()
    return {
        **{key: facts[key] for key in ("cpu", "cores", "machine", "isa", "compiler", "python")},
        "versions": {
            "splitop": facts["splitop"],
            "TensorFlow": facts["tensorflow"],
            **{package: importlib.metadata.version(package) for package in PACKAGES},
        },
        "commit": commit() or "unknown",
        "gflop_per_s": limits.flops_per_s / 1e9,
        "gb_per_s": limits.bytes_per_s / 1e9,
    }
