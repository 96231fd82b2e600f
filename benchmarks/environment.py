"""What a measurement depends on besides the code: machine, threads and versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import cpuinfo
import tensorflow as tf

import splitop

PACKAGES = ("keras", "numpy", "pytest-benchmark")


def describe() -> dict[str, object]:
    """Facts about the machine and the software; nothing that names the machine or its user."""
    info = splitop.build_info()
    return {
        "cpu": cpuinfo.get_cpu_info().get("brand_raw", "unknown"),
        "cores": len(os.sched_getaffinity(0)),
        "machine": f"{platform.machine()}, {platform.system()}",
        "gpus": [gpu.name for gpu in tf.config.list_physical_devices("GPU")],
        # 0: TensorFlow's default, one a core.
        "intra_op_threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "inter_op_threads": tf.config.threading.get_inter_op_parallelism_threads(),
        "isa": info.cpu_isa_in_use,
        "compiler": info.compiler,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "splitop": info.splitop,
        **{package: importlib.metadata.version(package) for package in PACKAGES},
    }
