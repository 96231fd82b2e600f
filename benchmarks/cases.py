"""What is measured, defined once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

REFERENCE = "reference"
FUSED = "fused"
KERAS = "keras"
PATHS = (REFERENCE, FUSED, KERAS)


@dataclasses.dataclass(frozen=True)
class Case:
    """A second part: dense layers with bias and relu, all of one width, float32, Adam.

    Attributes:
        layers: How many.
        width: Inputs and units of each.
        batch: Rows of x and of the seed.
        rounds: Steps of each path that are timed.
        warmup: Steps of each path before that.
        target: For each other path, how many times as fast the fused path is to be.
    """

    layers: int
    width: int
    batch: int
    rounds: int
    warmup: int = 3
    target: dict[str, float] = dataclasses.field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        return f"{self.layers}x{self.width} b{self.batch}"

    @property
    def parameters(self) -> int:
        return self.layers * (self.width + 1) * self.width


CASES = (
    Case(4, 1024, 128, rounds=50, target={REFERENCE: 1.6, KERAS: 2.5}),
    Case(2, 4096, 32, rounds=30, target={REFERENCE: 2.2, KERAS: 5.0}),
    Case(3, 256, 64, rounds=200, warmup=10, target={REFERENCE: 1.5, KERAS: 1.6}),
    Case(4, 1024, 1024, rounds=20, target={REFERENCE: 1.0, KERAS: 1.0}),
)
QUICK_CASES = (Case(2, 33, 8, rounds=3), Case(1, 16, 1, rounds=3))


def select(quick: bool, names: Sequence[str] | None) -> list[Case]:
    """The cases with these names, or all of them.

    Raises:
        ValueError: A name that no case has.
    """
    known = {case.name: case for case in (QUICK_CASES if quick else CASES)}
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise ValueError(f"--case must be one of {list(known)}. Received: {unknown}.")
    return [case for name, case in known.items() if not names or name in names]
