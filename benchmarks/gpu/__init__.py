"""Benchmarks on a CUDA GPU: `python -m benchmarks.gpu --help`, docs/gpu.md."""
