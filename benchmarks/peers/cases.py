"""What is measured: second parts, and the work that a step of each can't do without."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence

import numpy as np

SGD = "sgd"
MOMENTUM = "momentum"
ADAM = "adam"
ADAMW = "adamw"
ADAGRAD = "adagrad"
RULES = (SGD, MOMENTUM, ADAM, ADAMW)
# State arrays a weight.
SLOTS = {SGD: 0, MOMENTUM: 1, ADAM: 2, ADAMW: 2, ADAGRAD: 1}
# With these an unused row of a table stays as it is.
ROWS_LOOKED_UP = (SGD, ADAGRAD)
BATCHES = 4


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of the step that can't overlap with the others.

    Attributes:
        flops: Floating-point operations of its products.
        numbers: Weights and state, float32, that are read or written.
    """

    flops: float
    numbers: float


@dataclasses.dataclass(frozen=True)
class Part(abc.ABC):
    """A second part, float32, with the forward pass x to IV. Its batches are drawn once."""

    batch: int

    @property
    @abc.abstractmethod
    def name(self) -> str: ...

    @property
    @abc.abstractmethod
    def iv_shape(self) -> tuple[int, ...]: ...

    @abc.abstractmethod
    def phases(self, rule: str) -> list[Phase]:
        """What the step has to do at least; reading and writing activations is left out."""

    def inputs(self) -> list[np.ndarray]:
        """The batches of x."""
        random = np.random.default_rng(1)
        return [self._input(random) for _ in range(BATCHES)]

    def seeds(self) -> list[np.ndarray]:
        """dL/dIV of each batch."""
        random = np.random.default_rng(2)
        shape = (self.batch, *self.iv_shape)
        return [random.normal(size=shape).astype("f4") / self.batch for _ in range(BATCHES)]

    @abc.abstractmethod
    def _input(self, random: np.random.Generator) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class Dense(Part):
    """Dense layers with bias and relu, all of one width."""

    layers: int
    width: int

    @property
    def name(self) -> str:
        return f"{self.layers}x{self.width} b{self.batch}"

    @property
    def iv_shape(self) -> tuple[int, ...]:
        return (self.width,)

    def phases(self, rule: str) -> list[Phase]:
        return [
            phase
            for layer in range(self.layers)
            for phase in layer_phases(self.batch, self.width, self.width, rule, layer > 0)
        ]

    def _input(self, random: np.random.Generator) -> np.ndarray:
        return random.normal(size=(self.batch, self.width)).astype("f4")


@dataclasses.dataclass(frozen=True)
class Embedding(Part):
    """A table looked up `fields` times a sample, and a dense layer with bias and relu."""

    rows: int
    width: int
    fields: int
    units: int

    @property
    def name(self) -> str:
        return f"table {self.rows}x{self.width}, {self.batch}x{self.fields} ids"

    @property
    def iv_shape(self) -> tuple[int, ...]:
        return (self.units,)

    def phases(self, rule: str) -> list[Phase]:
        looked_up = self.batch * self.fields
        touched = looked_up if rule in ROWS_LOOKED_UP else self.rows
        return [
            Phase(0, looked_up * self.width),
            *layer_phases(self.batch, self.fields * self.width, self.units, rule, True),
            Phase(0, (2 + 2 * SLOTS[rule]) * touched * self.width),
        ]

    def _input(self, random: np.random.Generator) -> np.ndarray:
        # No id twice: Keras squares the gradients of a row one by one, the others their sum.
        ids = random.choice(self.rows, self.batch * self.fields, replace=False)
        return ids.reshape(self.batch, self.fields).astype("i4")


@dataclasses.dataclass(frozen=True)
class Transformer(Part):
    """Attention without biases, then an MLP of 4 times the width; each normalised after."""

    length: int
    width: int
    heads: int

    @property
    def name(self) -> str:
        return f"transformer d{self.width} T{self.length} b{self.batch}"

    @property
    def iv_shape(self) -> tuple[int, ...]:
        return (self.length, self.width)

    def phases(self, rule: str) -> list[Phase]:
        rows, width = self.batch * self.length, self.width
        products = 4.0 * self.batch * self.length**2 * width
        phases = [Phase(products, 0), Phase(2 * products, 0)]
        for _ in ("query", "key", "value"):
            phases += layer_phases(rows, width, width, rule, False)
        for sizes in [(width, width), (width, 4 * width), (4 * width, width)]:
            phases += layer_phases(rows, *sizes, rule, True)
        return phases

    def _input(self, random: np.random.Generator) -> np.ndarray:
        return random.normal(size=(self.batch, *self.iv_shape)).astype("f4")


@dataclasses.dataclass(frozen=True)
class Convolutions(Part):
    """Two convolutions of 3 x 3 with relu, the first one pooled by 2, and a dense layer."""

    side: int
    filters: int
    units: int

    @property
    def name(self) -> str:
        return f"CNN stem {self.side}x{self.side}x3 b{self.batch}"

    @property
    def iv_shape(self) -> tuple[int, ...]:
        return (self.units,)

    @property
    def sides(self) -> tuple[int, int]:
        """Of the convolutions' outputs."""
        return self.side - 2, (self.side - 2) // 2 - 2

    def phases(self, rule: str) -> list[Phase]:
        first, second = self.sides
        flat = second**2 * 2 * self.filters
        return [
            *layer_phases(self.batch * first**2, 27, self.filters, rule, False),
            *layer_phases(self.batch * second**2, 9 * self.filters, 2 * self.filters, rule, True),
            *layer_phases(self.batch, flat, self.units, rule, True),
        ]

    def _input(self, random: np.random.Generator) -> np.ndarray:
        return random.normal(size=(self.batch, self.side, self.side, 3)).astype("f4")


def layer_phases(rows: int, inputs: int, units: int, rule: str, has_dx: bool) -> list[Phase]:
    """A product's forward pass; its gradients and update, for which W is read once."""
    weights = inputs * units
    flops = 2.0 * rows * weights
    return [
        Phase(flops, weights),
        Phase(flops * (2 if has_dx else 1), (2 + 2 * SLOTS[rule]) * weights),
    ]


@dataclasses.dataclass(frozen=True)
class Case:
    """A second part and the rules that it is trained by."""

    part: Part
    rules: tuple[str, ...] = RULES


CASES = (
    Case(Dense(64, 3, 256)),
    Case(Dense(128, 4, 1024)),
    Case(Dense(1024, 4, 1024)),
    Case(Dense(32, 2, 4096)),
    Case(Dense(256, 8, 512)),
    Case(Embedding(1024, 1_000_000, 32, 26, 256), (*RULES, ADAGRAD)),
    Case(Embedding(1024, 10_000_000, 16, 26, 256), (SGD, ADAGRAD)),
    Case(Transformer(32, 64, 256, 4)),
    Case(Convolutions(64, 32, 32, 128)),
)
QUICK_CASES = (
    Case(Dense(8, 2, 33)),
    Case(Embedding(8, 5000, 3, 4, 5), (*RULES, ADAGRAD)),
    Case(Transformer(3, 4, 8, 2)),
    Case(Convolutions(3, 12, 4, 5)),
)


def select(quick: bool, names: Sequence[str] | None, rules: Sequence[str] | None) -> list[Case]:
    """The cases whose name contains one of `names`, with those of their rules in `rules`.

    Raises:
        ValueError: Nothing is left.
    """
    chosen = [
        Case(case.part, tuple(rule for rule in case.rules if not rules or rule in rules))
        for case in (QUICK_CASES if quick else CASES)
        if not names or any(name in case.part.name for name in names)
    ]
    chosen = [case for case in chosen if case.rules]
    if not chosen:
        known = [case.part.name for case in (QUICK_CASES if quick else CASES)]
        raise ValueError(
            f"No case is left: --case must be a part of a name in {known}, --rule one of "
            f"{[*RULES, ADAGRAD]}. Received: {names}, {rules}."
        )
    return chosen
