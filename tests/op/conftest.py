"""Fixtures of the op tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tensorflow as tf

from tests.isas import isa as isa
from tests.op import chains
from tests.op.gpu import on_gpu

Program = chains.SessionProgram | chains.FunctionProgram


@pytest.fixture(autouse=True)
def _full_precision() -> Iterator[None]:
    """TensorFlow's default lets a GPU round to TF32."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    yield
    tf.config.experimental.enable_tensor_float_32_execution(before)


@pytest.fixture(params=[pytest.param(chains.CPU, id="cpu"), on_gpu("/GPU:0", id="gpu")])
def device(request: pytest.FixtureRequest) -> str:
    """Where the variables, and so the op, are."""
    return request.param


@pytest.fixture(params=["session", "function"])
def program(request: pytest.FixtureRequest, device: str) -> Iterator[Callable[..., Program]]:
    """Makes programs that run a chain in a TF1 session or in a tf.function."""
    made: list[Program] = []

    def make(chain: chains.Chain, **options: Any) -> Program:
        made.append(chains.PROGRAMS[request.param](chain, device=device, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()
