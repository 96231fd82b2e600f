"""Whether this process can run the op on a GPU."""

from __future__ import annotations

import functools

import pytest
import tensorflow as tf

from splitop._src import library
from tests.op import emulated_gpu


@functools.cache
def gpu_reason() -> str | None:
    """Why "/GPU:0" can't run the op, or None."""
    if _is_emulated() and not tf.test.is_built_with_cuda():
        emulated_gpu.load()
    cause = library.reason() or library.cuda_reason()
    if cause is None and not tf.config.get_visible_devices("GPU"):
        cause = "TensorFlow sees no GPU"
    return cause


def on_gpu(*values: object, id: str | None = None) -> object:
    """A pytest parameter for which a GPU is needed."""
    cause = gpu_reason()
    first_sentence = (cause or "").split(". ")[0]
    skip = pytest.mark.skipif(cause is not None, reason=f"needs a GPU: {first_sentence}")
    return pytest.param(*values, marks=[pytest.mark.gpu, skip], id=id)


def has_kernels_of_tensorflow(device: str) -> bool:
    """Whether TensorFlow's own kernels can run on a device, too."""
    return "CPU" in device or not _is_emulated()


def _is_emulated() -> bool:
    config = library.build_config()
    return config is not None and config.cuda == "emulated"
