"""XLA updates variables where they are: the compiled program copies no matrix."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop._src.optimizers.base import tf_variable
from tests.op.buffers import address, read
from tests.planner.models import DTYPE, Weights, dense

# Sizes that nothing else in the programs has.
BATCH, INPUTS, HIDDEN, UNITS, ROWS = 6, 23, 29, 31, 37


def _chain(w: Weights, x: Any) -> Any:
    return dense(w, "top", dense(w, "low", x, HIDDEN, "relu"), UNITS, "tanh")


def _two_chains(w: Weights, x: Any) -> Any:
    h = dense(w, "low", x, HIDDEN, "relu")
    return dense(w, "top", w.layer("norm", keras.layers.LayerNormalization, h), UNITS)


def _used_twice(w: Weights, x: Any) -> Any:
    """TensorFlow computes dL/dx of the layer in the middle: W is read after the forward pass."""
    h = dense(w, "low", x, HIDDEN, "relu")
    for _ in range(2):
        h = dense(w, "square", h, HIDDEN, "tanh")
    return dense(w, "top", h, UNITS)


def _read_above(w: Weights, x: Any) -> Any:
    """W is read by the chain's op and by the gradient of a penalty, which is no dense layer."""
    h = dense(w, "low", x, HIDDEN, "relu")
    return dense(w, "top", h, UNITS) + tf.reduce_sum(w("low_k") ** 2)


def _table(w: Weights, x: Any) -> Any:
    ids = tf.cast(tf.abs(x[:, 0]) * 3, tf.int32) % ROWS
    return dense(w, "top", x + tf.gather(w("table", ROWS, INPUTS), ids), UNITS)


PARTS = {
    part.__name__[1:]: part for part in (_chain, _two_chains, _used_twice, _read_above, _table)
}
OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "adam": lambda: keras.optimizers.Adam(0.01),
    "clipped": lambda: keras.optimizers.Adam(0.01, global_clipnorm=1.0),
}


class Step:
    """A fused step in a tf.function of its own."""

    def __init__(self, build: Callable[[Weights, Any], Any], make: Callable[[], Any]) -> None:
        self.x = tf.constant(np.random.default_rng(0).normal(size=(BATCH, INPUTS)), DTYPE)
        weights = Weights()
        build(weights, self.x)
        optimizer = make()
        optimizer.build(weights.variables)
        self.weights = weights.variables
        self.variables = [*map(tf_variable, [*self.weights, *optimizer.variables])]

        @tf.function(autograph=False, jit_compile=True)
        def step(x: Any) -> Any:
            iv = build(weights, x)
            plan = splitop.plan(optimizer, iv, self.weights, iv - 1, backend="fused")
            plan.apply()
            return iv

        self.run = step

    def shapes(self) -> set[tuple[int, ...]]:
        return {tuple(v.shape) for v in self.variables if v.shape.rank and v.dtype == DTYPE}

    def program(self) -> str:
        self.run(self.x)
        return self.run.experimental_get_compiler_ir(self.x)(stage="optimized_hlo")


def _extents(text: str) -> tuple[int, ...]:
    return tuple(int(extent) for extent in text.split(",") if extent)


def _copies(program: str) -> set[tuple[int, ...]]:
    """The shapes of all copies, also of those inside of tuples and fusions."""
    found = re.findall(r"= f64\[([\d,]*)\]\S* copy(?:-start)?\(", program)
    return {_extents(text) for text in found}


def _aliased(program: str) -> set[int]:
    """The parameters whose memory is that of a result."""
    head = program.split("\n", 1)[0]
    aliases = re.search(r"input_output_alias=\{(.*?)\}, \w+=", head)
    assert aliases is not None
    return {int(number) for number in re.findall(r"\}: \((\d+), \{\}", aliases[1])}


def _parameters(program: str) -> dict[int, tuple[int, ...]]:
    entry = program[program.index("ENTRY ") :]
    found = re.findall(r"= f64\[([\d,]*)\]\S* parameter\((\d+)\)", entry)
    return {int(number): _extents(text) for text, number in found}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("part", PARTS)
def test_no_copy_of_a_variable(part: str, optimizer: str) -> None:
    step = Step(PARTS[part], OPTIMIZERS[optimizer])
    program = step.program()
    assert 'custom_call_target="splitop_' in program
    # A vector may be copied: XLA computes what is cheap twice, once after the update.
    assert not {shape for shape in _copies(program) & step.shapes() if len(shape) > 1}
    parameters = _parameters(program)
    of_variables = {number for number, shape in parameters.items() if shape in step.shapes()}
    matrices = [v for v in step.variables if v.shape.rank and v.dtype == DTYPE]
    assert len(of_variables) == len(matrices)
    assert of_variables <= _aliased(program)


def test_copies_are_seen() -> None:
    """What the test above looks for is what XLA writes where it does copy."""
    variable = tf.Variable(np.ones([INPUTS, INPUTS]), dtype=DTYPE)

    @tf.function(jit_compile=True)
    def step() -> Any:
        before = tf.transpose(variable)
        variable.assign_add(variable)
        return variable.read_value(), before

    program = step.experimental_get_compiler_ir()(stage="optimized_hlo")
    assert (INPUTS, INPUTS) in _copies(program)


def test_buffers_stay_where_they_are() -> None:
    step = Step(_chain, OPTIMIZERS["adam"])
    step.run(step.x)
    before = [address(read(v)) for v in step.variables if v.shape.rank]
    for _ in range(3):
        step.run(step.x)
    assert [address(read(v)) for v in step.variables if v.shape.rank] == before


def test_a_tensor_that_somebody_holds_stays_as_it_is() -> None:
    step = Step(_chain, OPTIMIZERS["adam"])
    step.run(step.x)
    held = [read(v) for v in step.variables]
    copies = [tensor.numpy().copy() for tensor in held]
    step.run(step.x)
    for tensor, copy, variable in zip(held, copies, step.variables, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), copy)
        assert (
            (variable.numpy() != copy).any() or variable.dtype != DTYPE or not variable.shape.rank
        )


def test_the_forward_pass_reads_what_was_there_before() -> None:
    """Also where the program returns what it has read."""
    step = Step(_chain, OPTIMIZERS["adam"])
    before = _chain_by_hand(step)
    np.testing.assert_allclose(step.run(step.x).numpy(), before, rtol=1e-12)


def _chain_by_hand(step: Step) -> np.ndarray:
    values = {v.name.removesuffix(":0"): v.numpy() for v in step.weights}
    h = np.maximum(step.x.numpy() @ values["low_k"] + values["low_b"], 0)
    return np.tanh(h @ values["top_k"] + values["top_b"])
