"""What a measurement depends on besides the code; nothing that names the machine or its user."""

from __future__ import annotations

import pathlib
import platform
import subprocess
import sys

import splitop
from splitop._src import library
from splitop.lib import _kernels

ROOT = pathlib.Path(__file__).parents[2]
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
        "commit": _commit(),
        "python": platform.python_version(),
        "splitop": splitop.__version__,
        **{name: sys.modules[name].__version__ for name in PACKAGES if name in sys.modules},
    }


def _commit() -> str | None:
    """Of the sources; None outside a repository."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=10", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
