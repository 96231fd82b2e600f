"""A GPU through torch; or, to try things out, a CPU that stands in for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from benchmarks.gpu.device import Array, Work, host_seconds
from splitop.lib import _kernels

RANDOM_SEED = 0
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TorchDevice:
    """Implements Device.

    Args:
        kind: "cuda", or "cpu" for the emulation.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.is_gpu = kind == "cuda"
        (facts, *_) = _kernels.cuda_devices()
        self.name = facts["name"]
        self.l2_bytes = facts["l2_bytes"]
        self._random = torch.Generator(kind).manual_seed(RANDOM_SEED)
        self.clock = "CUDA events" if self.is_gpu else "host"
        self.max_sets = 256 if self.is_gpu else 2
        self.limit_bytes = 1 << 30 if self.is_gpu else 1 << 20
        self.limit_extent = 8192 if self.is_gpu else 64

    def normal(self, shape: Sequence[int], dtype: str, scale: float = 1.0) -> Array:
        values = torch.randn(*shape, generator=self._random, device=self.kind)
        return values.mul_(scale).to(DTYPES[dtype])

    def vector(self, values: Sequence[float]) -> Array:
        return torch.tensor(list(values), dtype=torch.float32, device=self.kind)

    def assign(self, array: Array, values: Any) -> None:
        array.copy_(values if isinstance(values, torch.Tensor) else self.vector(values))

    def clone(self, array: Array) -> Array:
        return array.clone()

    def cast(self, array: Array, dtype: str) -> Array:
        return array.to(DTYPES[dtype])

    def dense(self, x: Array, kernel: Array, bias: Array) -> Array:
        return torch.addmm(bias, x, kernel).relu_()

    def distance(self, a: Array, b: Array) -> float:
        return float(torch.linalg.vector_norm(a.sub(b), dtype=torch.float64))

    def scratch(self, size: int) -> Array | None:
        if size == 0:
            return None
        room = torch.empty(size + 256, dtype=torch.uint8, device=self.kind)
        start = -room.data_ptr() % 256
        return room[start : start + size]

    def stream(self) -> int:
        return int(torch.cuda.current_stream().cuda_stream) if self.is_gpu else 0

    @contextlib.contextmanager
    def precision(self, name: str) -> Iterator[None]:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

    def synchronize(self) -> None:
        if self.is_gpu:
            torch.cuda.synchronize()

    def seconds(self, work: Work) -> float:
        if not self.is_gpu:
            return host_seconds(work)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3

    def capture(self, work: Work) -> Work:
        if not self.is_gpu:
            work()
            return work
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Another library's threads may call CUDA meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            work()
        replay: Work = graph.replay
        return replay

    def peak_bytes(self, work: Work) -> int | None:
        if not self.is_gpu:
            work()
            return None
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated() - before)

    def copier(self) -> Work:
        source = self.normal([self.limit_bytes // 4], "float32")
        target = torch.empty_like(source)
        return lambda: target.copy_(source)

    def multiplier(self, dtype: str) -> Work:
        a, b = (self.normal([self.limit_extent] * 2, dtype) for _ in range(2))
        result = torch.empty_like(a)
        return lambda: torch.mm(a, b, out=result)
