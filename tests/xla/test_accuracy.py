"""Fused steps inside jit_compile=True against the float64 oracle, step by step."""

from __future__ import annotations

import pytest

from tests import oracle
from tests.numerics.optimizers import KERAS
from tests.numerics.test_accuracy import check_steps
from tests.numerics.trainers import ChainSpec


def _chains(depth: int, use_bias: bool) -> list[ChainSpec]:
    """A chain for every activation."""
    widths = (23, 17, 29, 13)[: depth + 1]
    return [
        ChainSpec(tuple(width + c for width in widths), activation, use_bias)
        for c, activation in enumerate(oracle.ACTIVATIONS)
    ]


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(("depth", "use_bias"), [(1, False), (3, True)])
def test_every_activation(depth: int, use_bias: bool, precision: str) -> None:
    check_steps("keras", "adam", _chains(depth, use_bias), precision, batch=11, jit=True)


@pytest.mark.parametrize("name", KERAS)
def test_every_optimizer(name: str) -> None:
    spec = ChainSpec((23, 17, 29), "tanh", True)
    check_steps("keras", name, [spec], "float32", batch=11, jit=True)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_mixed_precision(activation: str, precision: str) -> None:
    spec = ChainSpec((23, 17, 29), activation, True)
    check_steps("keras", "adam", [spec], precision, batch=11, jit=True)


def test_loss_scale() -> None:
    spec = ChainSpec((23, 17, 29), "tanh", True)
    check_steps("keras", "momentum", [spec], "float32", batch=11, loss_scale=2.0**9, jit=True)


def test_a_layer_of_a_few_hundred_units() -> None:
    check_steps(
        "keras", "adam", [ChainSpec((257, 513, 131), "relu", True)], "float32", 67, jit=True
    )
