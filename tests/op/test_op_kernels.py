"""Which kernels the op has, in any TensorFlow: the GPU's are registered without a GPU too."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.python.framework import kernels

from splitop._src import library

IN_HOST_MEMORY = ["kernels", "biases", "slots", "conditions"]


def registered():
    """(device, T, V) of each kernel, and its arguments in host memory.

    The devices of XLA's compiler, which TensorFlow adds at the first jit_compile=True of the
    process, are no devices of a user's.
    """
    library.load()
    found = {}
    for kernel in kernels.get_registered_kernels_for_op("Splitop>DenseChain").kernel:
        if kernel.device_type not in ("CPU", "GPU"):
            continue
        types = {c.name: tf.as_dtype(c.allowed_values.list.type[0]) for c in kernel.constraint}
        key = (kernel.device_type, types["T"], types["V"])
        found[key] = list(kernel.host_memory_arg)
    return found


def test_dtypes_and_memory():
    assert registered() == {
        ("CPU", tf.float32, tf.float32): [],
        ("CPU", tf.float64, tf.float64): [],
        ("CPU", tf.bfloat16, tf.float32): [],
        ("CPU", tf.float16, tf.float32): [],
        ("GPU", tf.float32, tf.float32): IN_HOST_MEMORY,
        ("GPU", tf.float64, tf.float64): IN_HOST_MEMORY,
        ("GPU", tf.bfloat16, tf.float32): IN_HOST_MEMORY,
        ("GPU", tf.float16, tf.float32): IN_HOST_MEMORY,
    }
