"""A GPU for TensorFlow in the host's memory, to run the GPU kernels that are emulated there."""

from __future__ import annotations

import functools
import os
import pathlib
import subprocess
import tempfile

import tensorflow as tf
from tensorflow.python.framework.load_library import load_pluggable_device_library

SOURCE = pathlib.Path(__file__).with_suffix(".cpp")


@functools.cache
def load() -> None:
    """Adds two such GPUs to this process; it must not have run an operation yet."""
    with tempfile.TemporaryDirectory() as directory:
        library = pathlib.Path(directory) / "libemulated_gpu.so"
        compiler = os.environ.get("CXX", "g++")
        flags = ["-std=c++17", "-O1", "-shared", "-fPIC", *_include_flags()]
        subprocess.run([compiler, *flags, SOURCE, "-o", library], check=True)
        load_pluggable_device_library(str(library))


def _include_flags() -> list[str]:
    # TensorFlow itself has the symbols already: nothing to link.
    return [flag for flag in tf.sysconfig.get_compile_flags() if flag.startswith("-I")]
