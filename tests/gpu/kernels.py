"""The build of the kernels that is tested: this one if it can run CUDA here, else the emulated one.

The emulated build (`make emulate`) runs the same CUDA sources on the CPU; `SPLITOP_EMULATED_DIR`
says where it is.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
from typing import Any

from splitop.lib import _kernels as built

EMULATED_DIR = "SPLITOP_EMULATED_DIR"


def _find() -> tuple[Any, str | None]:
    """The module, and why it can't run CUDA."""
    if built.cuda_state() == "ready":
        return built, None
    directory = os.environ.get(EMULATED_DIR)
    if not directory:
        return built, (
            f"{built.cuda_state_message()}, and {EMULATED_DIR} names no emulated build "
            "(make emulate)"
        )
    return _load(pathlib.Path(directory)), None


def _load(directory: pathlib.Path) -> Any:
    (path,) = directory.glob("_kernels*.so")
    spec = importlib.util.spec_from_file_location("splitop_emulated._kernels", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.CUDA_EMULATED, f"{path} is no emulated build"
    return module


kernels, missing = _find()

EMULATED: bool = kernels.CUDA_EMULATED
if EMULATED:
    stand_in = pathlib.Path(kernels.__file__).with_name("libcublas_emulated.so")
    os.environ.setdefault("SPLITOP_CUBLAS", str(stand_in))
