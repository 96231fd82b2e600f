"""A GPU through TensorFlow; or its CPU, to try things out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

from benchmarks.gpu.device import Array, Work, host_seconds


class TensorFlowDevice:
    """Implements limits.Yardstick and run.Device.

    Raises:
        RuntimeError: TensorFlow sees no GPU, and this is not the emulation.
    """

    def __init__(self, emulated: bool) -> None:
        tf.get_logger().setLevel("ERROR")  # it warns of a tf.function for every case
        self.is_gpu = not emulated
        self.name = _use_cpu() if emulated else _use_gpu()
        self.limit_bytes = 1 << 30 if self.is_gpu else 1 << 20
        self.limit_extent = 8192 if self.is_gpu else 64
        self._last: tf.Tensor | None = None

    @contextlib.contextmanager
    def precision(self, name: str) -> Iterator[None]:
        config = tf.config.experimental
        before = config.tensor_float_32_execution_enabled()
        config.enable_tensor_float_32_execution(name == "tf32")
        try:
            yield
        finally:
            config.enable_tensor_float_32_execution(before)

    def seconds(self, work: Work) -> float:
        """For work whose result was handed to `keep`."""

        def finished() -> None:
            work()
            self.synchronize()

        self.synchronize()
        return host_seconds(finished)

    def keep(self, result: tf.Tensor) -> None:
        """The end of the work that `synchronize` waits for."""
        self._last = result

    def synchronize(self) -> None:
        """One stream runs all: what was enqueued last ends last."""
        if self._last is not None:
            tf.reshape(self._last, [-1])[0].numpy()

    def clone(self, array: Array) -> Array:
        return tf.identity(array)

    def distance(self, a: Array, b: Array) -> float:
        return float(tf.norm(a - b))

    def peak_bytes(self, work: Work) -> int | None:
        """The most memory that the work takes beyond what is taken already; None: unknown."""
        work()
        self.synchronize()
        if not self.is_gpu:
            return None
        config = tf.config.experimental
        config.reset_memory_stats("GPU:0")
        before = config.get_memory_info("GPU:0")["current"]
        work()
        self.synchronize()
        return int(config.get_memory_info("GPU:0")["peak"] - before)

    def copier(self) -> Work:
        source = tf.random.normal([self.limit_bytes // 4])
        return lambda: self.keep(source + 1.0)

    def multiplier(self, dtype: str) -> Work:
        a, b = (
            tf.cast(tf.random.normal([self.limit_extent] * 2), tf.as_dtype(dtype)) for _ in range(2)
        )
        return lambda: self.keep(tf.matmul(a, b))


def _use_cpu() -> str:
    tf.config.set_visible_devices([], "GPU")
    return "Emulated device"


def _use_gpu() -> str:
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        raise RuntimeError(f"TensorFlow {tf.__version__} sees no GPU")
    tf.config.set_visible_devices(gpus[0], "GPU")
    tf.config.experimental.set_memory_growth(gpus[0], True)
    return str(tf.config.experimental.get_device_details(gpus[0])["device_name"])
