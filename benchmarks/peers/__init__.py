"""The second part's step against the other frameworks, on the CPU, in one process a row."""

import sys

# torch's optimizers import triton where it is installed, which crashes beside TensorFlow.
sys.modules.setdefault("triton", None)  # type: ignore[arg-type]
