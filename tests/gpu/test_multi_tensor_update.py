"""The multi-tensor update's CUDA kernels against the float64 oracle, through the C ABI."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests import oracle
from tests.accuracy import PRECISIONS
from tests.gpu.devices import Device
from tests.gpu.kernels import kernels
from tests.gpu.memory import Memory
from tests.kernels.updates import STEPS, State, Update, assert_update_accurate, make_update

SHAPES = [(), (0,), (1,), (3, 0, 2), (7,), (16,), (65, 3), (2, 3, 4, 5), (1000,), (1, 70_001)]
DTYPES = [name for name in PRECISIONS if name != "tf32"]  # there are no products here


def run_on_device(
    device: Device,
    update: Update,
    state: State,
    offsets: Sequence[int] = (0,),
    clips: np.ndarray | None = None,
) -> State:
    """The state after a call on copies of the arrays."""
    memory = Memory(device, offsets)
    with device.stream() as stream:
        gradients = [memory.put(gradient, constant=True) for gradient in update.gradients]
        variables = [memory.put(variable) for variable in state.variables]
        slots = [[memory.put(slot) for slot in of_one] for of_one in state.slots]
        kernels.cuda_multi_tensor_update(
            gradients,
            variables,
            slots,
            rule=update.rule,
            hyper=memory.put(update.hyper, constant=True),
            decayed=update.decayed,
            clips=None if clips is None else memory.put(clips, constant=True),
            stream=stream,
        )
    memory.check()
    return State(
        tuple(map(memory.get, variables, state.variables)),
        tuple(tuple(map(memory.get, *pair)) for pair in zip(slots, state.slots, strict=True)),
    )


def assert_steps_accurate(
    device: Device,
    dtype: str,
    shapes: Sequence[tuple[int, ...]],
    rule: str,
    random_seed: int = 0,
    offsets: Sequence[int] = (0,),
) -> None:
    update, state = make_update(PRECISIONS[dtype], shapes, rule, random_seed)
    for _ in range(STEPS):
        after = run_on_device(device, update, state, offsets)
        assert_update_accurate(update, state, after)
        state = after


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", oracle.RULES)
@pytest.mark.parametrize("offsets", [(0,), (1,), (0, 1, 0, 0, 2, 0, 3)])
def test_every_rule(device: Device, dtype: str, rule: str, offsets: tuple[int, ...]) -> None:
    assert_steps_accurate(device, dtype, SHAPES, rule, offsets=offsets)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    dtype=st.sampled_from(DTYPES),
    shapes=st.lists(st.lists(st.integers(0, 40), max_size=3).map(tuple), max_size=30),
    rule=st.sampled_from(list(oracle.RULES)),
    random_seed=st.integers(0, 2**16),
    offsets=st.lists(st.integers(0, 4), min_size=1, max_size=7),
)
def test_any_tensors(
    device: Device, dtype: str, shapes, rule: str, random_seed: int, offsets: list[int]
) -> None:
    assume(dtype != "bfloat16" or device.has_bfloat16)
    assert_steps_accurate(device, dtype, shapes, rule, random_seed, offsets)


@pytest.mark.parametrize("count", [0, 1, 32, 33, 448, 449, 1500])
def test_any_number_of_tensors(device: Device, count: int) -> None:
    shapes = [(1 + i % 7,) for i in range(count)]
    update, state = make_update(PRECISIONS["float32"], shapes, "adam")
    assert_update_accurate(update, state, run_on_device(device, update, state))


@pytest.mark.parametrize("offsets", [(0,), (1,)])
def test_clips(device: Device, offsets: tuple[int, ...]) -> None:
    update, state = make_update(PRECISIONS["float32"], [(1000,), (33,)], "momentum")
    clips = np.array([[0.5, np.inf], [2, 0.25]], np.float32)
    clipped = tuple(
        np.clip(g * scale, -bound, bound)
        for g, (scale, bound) in zip(update.gradients, clips, strict=True)
    )
    received = run_on_device(device, update, state, offsets, clips=clips)
    expected = run_on_device(device, dataclasses.replace(update, gradients=clipped), state)
    for name, value in expected.named().items():
        np.testing.assert_array_equal(received.named()[name], value, name)


@pytest.mark.parametrize("rule", oracle.ROWWISE_RULES)
def test_rowwise_rules_are_not_supported(device: Device, rule: str) -> None:
    with pytest.raises(NotImplementedError, match="not supported"):
        run_on_device(device, *make_update(PRECISIONS["float32"], [(3, 4), (5,)], rule))


def test_only_empty_tensors(device: Device) -> None:
    run_on_device(device, *make_update(PRECISIONS["float32"], [(0,), (4, 0)], "adam"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_tensors(real_gpu: Device, dtype: str) -> None:
    update, state = make_update(PRECISIONS[dtype], [(5000, 4096), (33_000_001,), (3,)], "adam")
    assert_update_accurate(update, state, run_on_device(real_gpu, update, state))


@pytest.mark.parametrize("rule", oracle.RULES)
def test_same_bits_from_run_to_run(device: Device, rule: str) -> None:
    update, state = make_update(PRECISIONS["float32"], SHAPES, rule)
    once = run_on_device(device, update, state).named()
    for offsets in ((0,), (1,)):  # nor does it matter where the tensors are
        again = run_on_device(device, update, state, offsets).named()
        for name, value in once.items():
            assert value.tobytes() == again[name].tobytes(), name


def test_nan_and_inf_stay_where_they_are(device: Device) -> None:
    update, state = make_update(PRECISIONS["float32"], [(7,), (5,)], "sgd")
    update.gradients[0][3] = np.nan
    update.gradients[0][5] = np.inf
    after = run_on_device(device, update, state)
    assert np.flatnonzero(~np.isfinite(after.variables[0])).tolist() == [3, 5]
    assert np.isfinite(after.variables[1]).all()


def test_decay_applies_to_the_variables_marked(device: Device) -> None:
    update, state = make_update(PRECISIONS["float32"], [(9,), (9,)], "sgd")
    zero = (np.zeros(9, np.float32),) * 2
    update = dataclasses.replace(update, gradients=zero, decayed=(True, False))
    after = run_on_device(device, update, state)
    assert (abs(after.variables[0]) < abs(state.variables[0])).all()
    np.testing.assert_array_equal(after.variables[1], state.variables[1])
