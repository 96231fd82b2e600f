"""The multi-tensor update's CPU kernel against the float64 oracle, through the C ABI."""

from __future__ import annotations

import dataclasses
import re

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitop.lib import _kernels
from tests import oracle
from tests.accuracy import PRECISIONS
from tests.kernels.collisions import COLLISIONS, placed
from tests.kernels.updates import (
    STEPS,
    State,
    assert_update_accurate,
    make_update,
    run_in_place,
    run_on_cpu,
)

SHAPES = [(), (0,), (1,), (3, 0, 2), (7,), (16,), (65, 3), (2, 3, 4, 5), (1000,), (1, 70_001)]


def assert_steps_accurate(dtype: str, shapes, rule: str, random_seed: int = 0, **options) -> None:
    update, state = make_update(PRECISIONS[dtype], shapes, rule, random_seed)
    for _ in range(STEPS):
        after = run_on_cpu(update, state, **options)
        assert_update_accurate(update, state, after)
        state = after


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", oracle.ALL_RULES)
@pytest.mark.parametrize("num_threads", [1, 3])
def test_every_rule(dtype: str, rule: str, num_threads: int) -> None:
    assert_steps_accurate(dtype, SHAPES, rule, num_threads=num_threads)


@settings(deadline=None, max_examples=40)
@given(
    dtype=st.sampled_from(["float32", "float64"]),
    shapes=st.lists(st.lists(st.integers(0, 40), max_size=3).map(tuple), max_size=30),
    rule=st.sampled_from(list(oracle.ALL_RULES)),
    random_seed=st.integers(0, 2**16),
)
def test_any_tensors(dtype: str, shapes, rule: str, random_seed: int) -> None:
    assert_steps_accurate(dtype, shapes, rule, random_seed, num_threads=2)


@pytest.mark.parametrize("rule", oracle.ALL_RULES)
def test_same_bits_whatever_the_thread_count(rule: str) -> None:
    update, state = make_update(PRECISIONS["float32"], [*SHAPES, (513, 700)], rule)
    once = run_on_cpu(update, state, num_threads=1).named()
    for num_threads in (2, 3, 7):
        again = run_on_cpu(update, state, num_threads=num_threads).named()
        for name, value in once.items():
            assert value.tobytes() == again[name].tobytes(), f"{name}, {num_threads} threads"


@pytest.mark.parametrize(("rule", "distances"), COLLISIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("clips", [None, [[0.5, 0.6]]], ids=["", "clipped"])
def test_same_bits_where_lines_collide(rule: str, dtype: str, clips, distances) -> None:
    precision = PRECISIONS[dtype]
    update, state = make_update(precision, [(20_011,)], rule)
    if clips is not None:
        clips = np.array(clips, precision.variables)
    elsewhere = run_on_cpu(update, state, clips=clips, num_threads=2).named()
    for begin in (0, 64 + 8):
        variable, slots = placed(state.variables[0], state.slots[0], distances, begin)
        there = State((variable,), (slots,))
        run_in_place(update, there, clips=clips, num_threads=2)
        for name, value in there.named().items():
            assert value.tobytes() == elsewhere[name].tobytes(), f"{name}, from byte {begin} on"


@pytest.mark.parametrize("shape", [(5, 700), (300, 3), (4, 1), (7,), ()])
def test_a_rowwise_rule_takes_the_clipped_gradient(shape: tuple[int, ...]) -> None:
    update, state = make_update(PRECISIONS["float32"], [shape], "rowwise_adagrad")
    clips = np.array([[0.5, 0.6]], np.float32)
    after = run_on_cpu(update, state, clips=clips, num_threads=2)
    clipped = np.clip(clips[0, 0] * update.gradients[0], -clips[0, 1], clips[0, 1])
    assert_update_accurate(dataclasses.replace(update, gradients=(clipped,)), state, after)


def test_no_tensors() -> None:
    run_on_cpu(*make_update(PRECISIONS["float32"], [], "adam"))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_gradients_of_16_bits_are_not_supported(dtype) -> None:
    update, state = make_update(PRECISIONS["float32"], [(3,)], "sgd")
    with pytest.raises(NotImplementedError, match="not supported"):
        run_on_cpu(dataclasses.replace(update, gradients=(np.ones(3, dtype),)), state)


def f32(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


BAD_ARGUMENTS = {
    "too few gradients": (
        dict(gradients=[f32(3)]),
        "gradients must have 2 entries, one a variable. Received: 1",
    ),
    "too few decayed": (dict(decayed=[True]), "decayed must have 2 entries"),
    "too many slots": (dict(slots=[[f32(3)]] * 3), "slots must have 2 entries"),
    "a slot too much": (
        dict(slots=[[f32(3)], [f32(2, 2), f32(2, 2)]]),
        "slots[1] must have 1 arrays for the rule. Received: 2",
    ),
    "slot of another shape": (
        dict(slots=[[f32(3)], [f32(4)]]),
        "slots[1][0] must have shape [2, 2]. Received: [4]",
    ),
    "slot of more than an element a row": (
        dict(rule="rowwise_adagrad", hyper=f32(3), slots=[[f32(3)], [f32(2, 2)]]),
        "slots[1][0] must have shape [2]. Received: [2, 2]",
    ),
    "gradient of another shape": (
        dict(gradients=[f32(3), f32(4)]),
        "gradients[1] must have shape [2, 2]. Received: [4]",
    ),
    "gradients of two dtypes": (
        dict(gradients=[f32(3), np.ones((2, 2))]),
        "gradients[1] must have dtype float32. Received: float64",
    ),
    "gradients of float64": (
        dict(gradients=[np.ones(3), np.ones((2, 2))]),
        "gradients[0] must have dtype float32, bfloat16 or float16. Received: float64",
    ),
    "variable of float64": (
        dict(variables=[f32(3), np.ones((2, 2))]),
        "variables[1] must have dtype float32. Received: float64",
    ),
    "variable in column order": (
        dict(variables=[f32(3), np.asfortranarray(f32(2, 2))]),
        "variables[1] must be contiguous in row-major order",
    ),
    "a list": (dict(variables=[f32(3), [1.0]]), "variables[1] must be a NumPy array"),
    "hyper of integers": (
        dict(hyper=np.ones(5, np.int32)),
        "hyper must have dtype float32 or float64. Received: int32",
    ),
    "hyper too short": (dict(hyper=f32(2)), "hyper must have shape [5]. Received: [2]"),
    "unknown rule": (dict(rule="lars"), "rule must be one of sgd, momentum, adam, amsgrad"),
    "no threads": (dict(num_threads=0), "num_threads must be at least 1. Received: 0"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_argument(case: str) -> None:
    replaced, message = BAD_ARGUMENTS[case]
    update, state = make_update(PRECISIONS["float32"], [(3,), (2, 2)], "momentum")
    before = {name: array.tobytes() for name, array in state.named().items()}
    arguments = {
        "gradients": update.gradients,
        "variables": state.variables,
        "slots": state.slots,
        "rule": update.rule,
        "hyper": update.hyper,
        "decayed": update.decayed,
    }
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        _kernels.multi_tensor_update(**{**arguments, **replaced})
    assert {name: array.tobytes() for name, array in state.named().items()} == before


def test_read_only_variable() -> None:
    update, state = make_update(PRECISIONS["float32"], [(3,), (2, 2)], "sgd")
    state.variables[1].flags.writeable = False
    with pytest.raises(ValueError, match=r"variables\[1\] must be writeable"):
        _kernels.multi_tensor_update(
            update.gradients,
            state.variables,
            state.slots,
            rule="sgd",
            hyper=update.hyper,
            decayed=update.decayed,
        )
