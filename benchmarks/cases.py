"""What is measured, defined once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

REFERENCE = "reference"
FUSED = "fused"
KERAS = "keras"
LAZY = "lazy"
XLA = "xla"
FUSED_XLA = "fused, xla"
JOINT = "joint"
PLAIN = "plain"
RECOMPUTE = "recompute"
STASH = "stash"
BOTH = "both"
PATHS = (REFERENCE, FUSED, KERAS, XLA, FUSED_XLA)
IN_XLA = (XLA, FUSED_XLA)
EMBEDDING_PATHS = (*PATHS, LAZY)
TWO_RUN_PATHS = (JOINT, PLAIN, RECOMPUTE, STASH, BOTH)


@dataclasses.dataclass(frozen=True)
class Case:
    """A second part: dense layers with bias and relu, all of one width, float32, Adam.

    Attributes:
        layers: How many.
        width: Inputs and units of each.
        batch: Rows of x and of the seed.
        rounds: Steps of each path that are timed.
        target: For each other path, how many times as fast the fused path is to be.
    """

    layers: int
    width: int
    batch: int
    rounds: int
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
    Case(3, 256, 64, rounds=200, target={REFERENCE: 1.5, KERAS: 1.6}),
    Case(4, 1024, 1024, rounds=20, target={REFERENCE: 1.0, KERAS: 1.0}),
)
QUICK_CASES = (Case(2, 33, 8, rounds=3), Case(1, 16, 1, rounds=3))


@dataclasses.dataclass(frozen=True)
class TableCase:
    """The update of an embedding table, float32, from the gradients of the rows looked up.

    Attributes:
        rows: Of the table.
        width: Of a row.
        ids: How many rows are looked up in a step; a row may be looked up more than once.
        rule: The update rule.
        rounds: Steps that are timed.
        all_rows: Whether rows that were not looked up are updated as well.
        zipf: The exponent of the ids' distribution; None: uniform.
    """

    rows: int
    width: int
    ids: int
    rule: str
    rounds: int
    all_rows: bool = False
    zipf: float | None = None

    @property
    def name(self) -> str:
        ids = f"{self.ids} ids" if self.zipf is None else f"{self.ids} Zipf ids"
        rows = ", all rows" if self.all_rows else ""
        return f"{self.rows}x{self.width} {ids} {self.rule}{rows}"


TABLE_CASES = (
    TableCase(1_000_000, 32, 26_624, "sgd", rounds=100),
    TableCase(1_000_000, 32, 26_624, "adagrad", rounds=100),
    TableCase(1_000_000, 32, 26_624, "adagrad", rounds=100, zipf=1.1),
    TableCase(10_000_000, 16, 26_624, "sgd", rounds=100),
    TableCase(1_000_000, 32, 262_144, "adagrad", rounds=50),
    TableCase(1_000_000, 32, 26_624, "adam", rounds=30, all_rows=True),
)
QUICK_TABLE_CASES = (
    TableCase(50, 3, 30, "sgd", rounds=3),
    TableCase(50, 3, 30, "adam", rounds=3, all_rows=True, zipf=1.1),
)


@dataclasses.dataclass(frozen=True)
class EmbeddingCase:
    """A second part: an embedding table, Flatten and a dense layer with bias and relu, float32.

    Attributes:
        rows: Of the table.
        width: Of a row.
        fields: Ids of a sample.
        batch: Samples.
        units: Of the dense layer.
        optimizer: "SGD", "Adagrad" or "Adam".
        rounds: Steps of each path that are timed.
        target: For each path of splitop's, how many times as fast as Keras it is to be.
    """

    rows: int
    width: int
    fields: int
    batch: int
    units: int
    optimizer: str
    rounds: int
    target: dict[str, float] = dataclasses.field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        return f"{self.rows}x{self.width} {self.batch}x{self.fields} ids {self.optimizer}"

    @property
    def paths(self) -> tuple[str, ...]:
        return EMBEDDING_PATHS if self.optimizer == "Adam" else PATHS


EMBEDDING_CASES = (
    EmbeddingCase(1_000_000, 32, 26, 1024, 256, "SGD", rounds=20, target={FUSED: 10.0}),
    EmbeddingCase(1_000_000, 32, 26, 1024, 256, "Adagrad", rounds=20, target={FUSED: 17.0}),
    EmbeddingCase(1_000_000, 32, 26, 1024, 256, "Adam", rounds=12, target={FUSED: 5.0, LAZY: 15.0}),
)
QUICK_EMBEDDING_CASES = (
    EmbeddingCase(50, 3, 4, 8, 5, "Adagrad", rounds=3),
    EmbeddingCase(50, 3, 4, 8, 5, "Adam", rounds=3),
)


@dataclasses.dataclass(frozen=True)
class ModelCase:
    """A second part of `benchmarks.second_parts`, float32, Adam.

    Attributes:
        name: The function that describes the second part.
        sizes: Its arguments.
        batch: Samples.
        rounds: Steps of each path that are timed.
        agreement: How far a path's rounding may take a weight from the fused path's, as a share of
            the longest step that Adam takes.
        xla_agreement: The same for XLA's.
    """

    name: str
    sizes: dict[str, Any] = dataclasses.field(hash=False)
    batch: int
    rounds: int
    agreement: float = 1e-4
    xla_agreement: float = 1e-2


MODEL_CASES = (
    ModelCase("mlp", dict(features=256, units=(1024, 512, 256)), batch=128, rounds=50),
    ModelCase(
        "dlrm",
        dict(tables=8, rows=100_000, width=16, features=13, units=256),
        batch=256,
        rounds=15,
    ),
    # The fused path adds products and norms up in another order, and switches a relu now and then.
    ModelCase(
        "transformer",
        dict(tokens=8000, length=32, width=128, heads=4),
        batch=32,
        rounds=20,
        agreement=5e-3,
    ),
    # Adam makes a hundred times as much of the rounding of a bias' gradient near zero, the sum of
    # 28,800 terms.
    ModelCase("cnn", dict(side=32, filters=32, units=128), batch=32, rounds=30, agreement=5e-4),
    # In float32 every path's step, Keras' own too, is a third of the longest away from float64's.
    ModelCase(
        "mobilenet",
        dict(side=96, alpha=1.0),
        batch=8,
        rounds=10,
        agreement=5e-2,
        xla_agreement=0.5,
    ),
    ModelCase("lstm", dict(tokens=8000, length=32, width=64, units=128), batch=32, rounds=20),
    ModelCase("tied", dict(tokens=8000, length=8, width=128), batch=64, rounds=30),
)
# Without MobileNetV2: that has one size, in layers, and takes minutes to build.
QUICK_MODEL_CASES = (
    ModelCase("mlp", dict(features=5, units=(7, 3)), batch=8, rounds=3),
    ModelCase("dlrm", dict(tables=2, rows=9, width=3, features=4, units=6), batch=8, rounds=3),
    ModelCase("transformer", dict(tokens=9, length=3, width=4, heads=2), batch=8, rounds=3),
    ModelCase("cnn", dict(side=8, filters=2, units=4), batch=8, rounds=3),
    ModelCase("lstm", dict(tokens=9, length=3, width=4, units=4), batch=8, rounds=3),
    ModelCase("tied", dict(tokens=9, length=3, width=4), batch=8, rounds=3),
)


@dataclasses.dataclass(frozen=True)
class TwoRunCase:
    """Both parts of a model: a `Case` as the second part, a dense layer and softmax as the first.

    Attributes:
        second: The second part.
        classes: Units of the first part.
        target: For each path, how many times as fast as the joint training it is to be.
    """

    second: Case
    classes: int
    target: dict[str, float] = dataclasses.field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        return f"two parts, {self.second.name}"

    @property
    def rounds(self) -> int:
        return self.second.rounds


TWO_RUN_CASES = (
    TwoRunCase(Case(4, 1024, 128, rounds=40), classes=10, target={STASH: 1.0}),
    TwoRunCase(Case(3, 256, 64, rounds=200), classes=10),
)
QUICK_TWO_RUN_CASES = (TwoRunCase(Case(2, 33, 8, rounds=3), classes=3),)


AnyCase = TypeVar("AnyCase", Case, TableCase, EmbeddingCase, ModelCase, TwoRunCase)


def select(quick: bool, names: Sequence[str] | None) -> list[Case]:
    """The cases with these names, or all of them.

    Raises:
        ValueError: A name that no case has, here or in `select_tables`.
    """
    return _select(QUICK_CASES if quick else CASES, quick, names)


def select_tables(quick: bool, names: Sequence[str] | None) -> list[TableCase]:
    """As `select`, for the embedding tables."""
    return _select(QUICK_TABLE_CASES if quick else TABLE_CASES, quick, names)


def select_embeddings(quick: bool, names: Sequence[str] | None) -> list[EmbeddingCase]:
    """As `select`, for embedding tables with a dense layer."""
    return _select(QUICK_EMBEDDING_CASES if quick else EMBEDDING_CASES, quick, names)


def select_models(quick: bool, names: Sequence[str] | None) -> list[ModelCase]:
    """As `select`, for models of several kinds."""
    return _select(QUICK_MODEL_CASES if quick else MODEL_CASES, quick, names)


def select_two_runs(quick: bool, names: Sequence[str] | None) -> list[TwoRunCase]:
    """As `select`, for models in two parts."""
    return _select(QUICK_TWO_RUN_CASES if quick else TWO_RUN_CASES, quick, names)


def _select(cases: Sequence[AnyCase], quick: bool, names: Sequence[str] | None) -> list[AnyCase]:
    full = [*CASES, *TABLE_CASES, *EMBEDDING_CASES, *MODEL_CASES, *TWO_RUN_CASES]
    tiny = [
        *QUICK_CASES,
        *QUICK_TABLE_CASES,
        *QUICK_EMBEDDING_CASES,
        *QUICK_MODEL_CASES,
        *QUICK_TWO_RUN_CASES,
    ]
    known = [case.name for case in (tiny if quick else full)]
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise ValueError(f"--case must be one of {known}. Received: {unknown}.")
    return [case for case in cases if not names or case.name in names]
