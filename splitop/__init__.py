"""Train a TensorFlow model in two parts, cut at an intermediate vector.

`minimize` runs the seeded backward pass of a part and the optimizer's update as one compiled
op where it can, and as plain TensorFlow where it can't.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from splitop._src.backend import backend
from splitop._src.errors import (
    AlignmentError,
    CheckpointError,
    ClusterError,
    CutError,
    LibraryError,
    NotFusableError,
    PartError,
    PartLostError,
    PartTimeoutError,
    SeedError,
    SplitError,
    StashError,
    VariableListError,
    VerifyError,
    WorkerError,
)
from splitop._src.version import __version__

if TYPE_CHECKING:
    from splitop import cluster as cluster
    from splitop import keras as keras
    from splitop import ray as ray
    from splitop._src.build_info import BuildInfo, build_info
    from splitop._src.checkpoint.checkpoint import Checkpoint
    from splitop._src.checkpoint.steps import common_step
    from splitop._src.function import function
    from splitop._src.micro_batches import MicroBatches
    from splitop._src.minimize import minimize, plan
    from splitop._src.planner import Plan, PlannedChain, PlannedLayer, PlannedTable
    from splitop._src.split_step import FirstStep, SplitStep
    from splitop._src.two_run import SplitOps, split_minimize
    from splitop._src.verify.api import verify
    from splitop._src.verify.report import VerifyReport
    from splitop._src.worker_strategy import multi_worker_strategy

__all__ = [
    "AlignmentError",
    "BuildInfo",
    "Checkpoint",
    "CheckpointError",
    "ClusterError",
    "CutError",
    "FirstStep",
    "LibraryError",
    "MicroBatches",
    "NotFusableError",
    "PartError",
    "PartLostError",
    "PartTimeoutError",
    "Plan",
    "PlannedChain",
    "PlannedLayer",
    "PlannedTable",
    "SeedError",
    "SplitError",
    "SplitOps",
    "SplitStep",
    "StashError",
    "VariableListError",
    "VerifyError",
    "VerifyReport",
    "WorkerError",
    "__version__",
    "backend",
    "build_info",
    "cluster",
    "common_step",
    "function",
    "keras",
    "minimize",
    "multi_worker_strategy",
    "plan",
    "ray",
    "split_minimize",
    "verify",
]

# Imported when they are first asked for: they need TensorFlow, which takes seconds.
_LAZY = {
    "BuildInfo": "build_info",
    "Checkpoint": "checkpoint.checkpoint",
    "MicroBatches": "micro_batches",
    "Plan": "planner",
    "PlannedChain": "planner",
    "PlannedLayer": "planner",
    "PlannedTable": "planner",
    "FirstStep": "split_step",
    "SplitOps": "two_run",
    "SplitStep": "split_step",
    "VerifyReport": "verify.report",
    "build_info": "build_info",
    "common_step": "checkpoint.steps",
    "function": "function",
    "minimize": "minimize",
    "multi_worker_strategy": "worker_strategy",
    "plan": "minimize",
    "split_minimize": "two_run",
    "verify": "verify.api",
}


def __getattr__(name: str) -> Any:
    if name in ("cluster", "keras", "ray"):
        return importlib.import_module(f"splitop.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"splitop._src.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
