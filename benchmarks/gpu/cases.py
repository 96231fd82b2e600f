"""What is measured, defined once."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable

WEIGHTS = "weights"
STEP = "step"
KERNELS = "kernels"
TENSORFLOW = "tensorflow"
PARTS = (KERNELS, TENSORFLOW)
SELECTIONS = ("quick", "full", "grid", "tiny")

PRECISIONS = ("float32", "tf32", "bfloat16")
RULES = ("sgd", "momentum", "adam", "adamw")
WIDTHS = (256, 1024, 2048, 4096, 8192)
DEPTHS = (1, 2, 4, 8)
BATCHES = (16, 64, 256, 1024, 8192)


@dataclasses.dataclass(frozen=True)
class Case:
    """Dense layers of one width.

    Attributes:
        kind: "weights": the weight gradient and the update of one layer, alone. "step": the
            step of a second part given the seed: forward pass, backward pass, updates; layers
            with bias and relu.
        layers: How many.
        width: Inputs and units of each.
        batch: Rows of x and of the seed.
        rule: One of RULES.
        precision: "bfloat16" with float32 weights and state; the others are float32.
    """

    kind: str
    layers: int
    width: int
    batch: int
    rule: str
    precision: str

    @property
    def name(self) -> str:
        return f"{self.kind} {self.layers}x{self.width} b{self.batch} {self.rule} {self.precision}"

    @property
    def parameters(self) -> int:
        """Weights of one layer."""
        return self.width * self.width

    @property
    def dtype(self) -> str:
        """Of activations and gradients."""
        return "bfloat16" if self.precision == "bfloat16" else "float32"

    @property
    def mixed(self) -> bool:
        return self.dtype != "float32"


def select(part: str, selection: str, only: str = "") -> list[Case]:
    """The cases of a part, in the order in which they are worth the time.

    Args:
        part: One of PARTS.
        selection: "quick", "full" (begins with the quick ones), "grid" (every combination) or
            "tiny" (proves that it works).
        only: Text that a case's name must contain.

    Raises:
        ValueError: No case is left.
    """
    steps, weights = _STEPS[selection](), _WEIGHTS[selection]()
    cases = _unique([*weights, *steps] if part == KERNELS else steps)
    found = [case for case in cases if only in case.name]
    if not found:
        raise ValueError(f"--only must be part of a case's name. Received: {only!r}.")
    return found


def _quick_weights() -> list[Case]:
    rules = ("adamw", "sgd", "momentum")
    return [
        *_weights((4096,), (16, 256, 4096), rules, PRECISIONS),
        *_weights((2048,), (64,), rules, PRECISIONS),
    ]


def _full_weights() -> list[Case]:
    rules = ("adamw", "sgd", "momentum")
    return _quick_weights() + _weights((4096, 2048, 8192, 1024, 256), BATCHES, rules, PRECISIONS)


def _quick_steps() -> list[Case]:
    shapes = [(4, 1024, 64), (2, 4096, 16), (8, 256, 64), (4, 2048, 256), (2, 2048, 4096)]
    return [
        *_steps(shapes, ("adamw",), PRECISIONS),
        *_steps(shapes[:1], ("sgd", "momentum", "adam"), ("tf32",)),
    ]


def _full_steps() -> list[Case]:
    """One thing varied at a time, and the corners."""
    varied = [(2, width, 64) for width in WIDTHS]
    varied += [(4, 2048, batch) for batch in BATCHES]
    varied += [(depth, 1024, 256) for depth in DEPTHS]
    corners = [(8, 256, 16), (8, 256, 8192), (1, 8192, 8192), (8, 4096, 1024)]
    return [
        *_quick_steps(),
        *_steps(varied, ("adamw",), PRECISIONS),
        *_steps([(2, 4096, 64)], RULES, PRECISIONS),
        *_steps(corners, ("adamw",), PRECISIONS),
    ]


def _grid_weights() -> list[Case]:
    return _full_weights() + _weights(WIDTHS, BATCHES, RULES, PRECISIONS)


def _grid_steps() -> list[Case]:
    shapes = list(itertools.product(DEPTHS, WIDTHS, BATCHES))
    return _full_steps() + _steps(shapes, RULES, PRECISIONS)


def _tiny_weights() -> list[Case]:
    return _weights((96,), (8,), RULES, PRECISIONS) + _weights((33,), (3,), ("adamw",), PRECISIONS)


def _tiny_steps() -> list[Case]:
    """Large enough that single relus do not count (agreement.py)."""
    return [
        *_steps([(2, 72, 64)], RULES, PRECISIONS[:1]),
        *_steps([(3, 33, 65)], ("adamw",), PRECISIONS[1:]),
    ]


_WEIGHTS = {
    "quick": _quick_weights,
    "full": _full_weights,
    "grid": _grid_weights,
    "tiny": _tiny_weights,
}
_STEPS = {
    "quick": _quick_steps,
    "full": _full_steps,
    "grid": _grid_steps,
    "tiny": _tiny_steps,
}


def _weights(
    widths: Iterable[int], batches: Iterable[int], rules: Iterable[str], precisions: Iterable[str]
) -> list[Case]:
    every = itertools.product(widths, batches, rules, precisions)
    return [Case(WEIGHTS, 1, width, batch, *rest) for width, batch, *rest in every]


def _steps(
    shapes: Iterable[tuple[int, int, int]], rules: Iterable[str], precisions: Iterable[str]
) -> list[Case]:
    every = itertools.product(shapes, rules, precisions)
    return [Case(STEP, *shape, rule, precision) for shape, rule, precision in every]


def _unique(cases: Iterable[Case]) -> list[Case]:
    return list(dict.fromkeys(cases))
