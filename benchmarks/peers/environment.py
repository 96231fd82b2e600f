"""What a run depends on besides the code."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from benchmarks import environment
from benchmarks.commit import commit

PACKAGES = ("keras", "numpy", "torch", "jax")


def describe() -> dict[str, Any]:
    """Machine and versions."""
    facts = environment.describe()
    return {
        **{key: facts[key] for key in ("cpu", "cores", "machine", "isa", "compiler", "python")},
        "versions": {
            "splitop": facts["splitop"],
            "TensorFlow": facts["tensorflow"],
            **{package: importlib.metadata.version(package) for package in PACKAGES},
        },
        "commit": commit() or "unknown",
    }
