"""What a measurement depends on besides the code; nothing that names the machine or its user."""

from __future__ import annotations

import platform
import sys

import splitop
from benchmarks.commit import commit
from splitop._src import library
from splitop.lib import _kernels

PACKAGES = ("torch", "jax", "tensorflow", "keras", "numpy")


def describe(emulated: bool) -> dict[str, object]:
    """Facts about the GPU (none where it is emulated), the build and what this process uses."""
    config = library.build_config()
    built, driver = _kernels.cuda_versions()
    return {
        **({} if emulated else _kernels.cuda_devices()[0]),
        "emulated": emulated,
        "cuda_built": built,
        "cuda_driver": driver,
        "cublas": _kernels.has_cublas(),
        "compiler": config.compiler if config else None,
        "commit": commit(),
        "python": platform.python_version(),
        "splitop": splitop.__version__,
        **{name: sys.modules[name].__version__ for name in PACKAGES if name in sys.modules},
    }
