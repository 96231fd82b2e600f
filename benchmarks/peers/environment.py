"""What a run depends on besides the code."""

from __future__ import annotations

import importlib.metadata
import subprocess
from typing import Any

from benchmarks import environment
from benchmarks.peers.limits import Limits

PACKAGES = ("keras", "numpy", "torch", "jax")


def describe(limits: Limits) -> dict[str, Any]:
    """Machine, versions and the machine's measured rates."""
    facts = environment.describe()
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=10"],
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        **{key: facts[key] for key in ("cpu", "cores", "machine", "isa", "compiler", "python")},
        "versions": {
            "splitop": facts["splitop"],
            "TensorFlow": facts["tensorflow"],
            **{package: importlib.metadata.version(package) for package in PACKAGES},
        },
        "commit": commit.stdout.strip() or "unknown",
        "gflop_per_s": limits.flops_per_s / 1e9,
        "gb_per_s": limits.bytes_per_s / 1e9,
    }
