"""The dense chain's kernels against the float64 oracle, through the C ABI."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings

from tests import oracle
from tests.accuracy import PRECISIONS, assert_accurate, few_ulp, results
from tests.kernels import plain
from tests.kernels.collisions import COLLISIONS, placed
from tests.kernels.problems import (
    Problem,
    assert_same_bits_whatever_the_thread_count,
    make_problem,
    problems,
    run_in_place,
    run_kernel,
)

STEPS = 5
SHORT = ("bfloat16", "float16")


def assert_steps_accurate(problem: Problem, steps: int = STEPS, **options) -> None:
    """Steps in a row, each compared from the state that the kernel's last one left."""
    layers = problem.layers
    for _ in range(steps):
        step = (problem.seed, layers, problem.rule, problem.hyper)
        received, gradient = run_kernel(problem, layers, **options)
        assert_accurate(
            results(received, gradient),
            results(*plain.dense_chain(*step)),
            results(*oracle.dense_chain(*step)),
            few_ulp(*step, problem.precision),
        )
        layers = received


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(problem=problems(("float32", "float64", *SHORT)))
def test_any_chain(problem: Problem) -> None:
    try:
        assert_steps_accurate(problem, num_threads=2)
    except RuntimeWarning as warning:
        # Of a few chains the weights grow until NumPy's float32 overflows, in the plain path.
        if "overflow encountered in matmul" not in str(warning):
            raise
        reject()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", oracle.RULES)
@pytest.mark.parametrize("activation", oracle.ACTIVATIONS)
def test_every_activation_and_rule(isa: str, dtype, rule: str, activation: str) -> None:
    assert_steps_accurate(
        make_problem(dtype, 37, (61, 50, 19), [activation] * 2, [True, False], rule),
        num_threads=2,
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [1, 15, 16, 17, 64, 600])
@pytest.mark.parametrize("widths", [(1, 1), (1, 300), (300, 1), (49, 257), (97, 33, 130)])
def test_odd_sizes(isa: str, dtype, batch: int, widths: tuple[int, ...]) -> None:
    depth = len(widths) - 1
    assert_steps_accurate(
        make_problem(dtype, batch, widths, ["tanh"] * depth, [True] * depth, "adam")
    )


@pytest.mark.parametrize("rule", ["sgd", "momentum", "amsgrad"])
def test_a_large_layer(isa: str, rule: str) -> None:
    problem = make_problem(np.float32, 67, (1021, 2053), ["relu"], [True], rule)
    assert_steps_accurate(problem, num_threads=2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [255, 256, 301])
def test_rows_that_share_cache_sets(isa: str, dtype, batch: int) -> None:
    """W's rows are 4096 or 8192 bytes apart: long batches work on a copy."""
    problem = make_problem(dtype, batch, (5, 203, 1024), ["relu", "tanh"], [True] * 2, "adam")
    assert_steps_accurate(problem, num_threads=2)
    assert_same_bits_whatever_the_thread_count(problem)


@pytest.mark.parametrize(
    ("precision", "outputs"), [("float32", 2100), ("float64", 1050), ("bfloat16", 2100)]
)
@pytest.mark.parametrize("batch", [17, 130])
def test_a_kernel_that_no_cache_holds(isa: str, precision: str, outputs: int, batch: int) -> None:
    """From 8 MB on and for batches of fewer than 128 rows, AVX-512 goes through it once."""
    problem = make_problem(
        PRECISIONS[precision], batch, (40, 1030, outputs), ["relu"] * 2, [True] * 2, "momentum"
    )
    assert_steps_accurate(problem, steps=2, num_threads=2)
    assert_same_bits_whatever_the_thread_count(problem, counts=[3])


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_rows_longer_than_the_room_for_their_gradient(isa: str, precision: str, rule: str) -> None:
    """Up to a batch of 512, a few rows of W are updated at a time, or a part of them."""
    widths = (50, 4501, 9)
    problem = make_problem(PRECISIONS[precision], 23, widths, ["relu", "tanh"], [True, True], rule)
    assert_steps_accurate(problem, steps=2, num_threads=2)
    assert_same_bits_whatever_the_thread_count(problem, counts=[3])


@pytest.mark.parametrize("precision", ["float32", "float64", *SHORT])
@pytest.mark.parametrize("outputs", [1100, 2048])
@pytest.mark.parametrize("batch", [300, 1100])
def test_input_gradients_of_several_blocks(
    isa: str, precision: str, outputs: int, batch: int
) -> None:
    """As wide as the scratch allows, which grows with the batch, and 4096 bytes at most."""
    problem = make_problem(
        PRECISIONS[precision], batch, (20, 50, outputs), ["tanh"] * 2, [True] * 2, "amsgrad"
    )
    assert_steps_accurate(problem, steps=2, num_threads=2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", oracle.RULES)
def test_same_bits_whatever_the_thread_count(isa: str, dtype, rule: str) -> None:
    activations = ["relu", "sigmoid", "linear"]
    problem = make_problem(dtype, 130, (515, 301, 203, 77), activations, [True] * 3, rule)
    assert_same_bits_whatever_the_thread_count(problem)


@pytest.mark.parametrize(("rule", "distances"), COLLISIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_where_lines_collide(isa: str, dtype, rule: str, distances) -> None:
    """Rows of W are long, and are updated a part at a time."""
    problem = make_problem(dtype, 23, (19, 4501), ["relu"], [True], rule)
    (elsewhere,), _ = run_kernel(problem, num_threads=2)
    (layer,) = problem.layers
    for begin in (0, 64 + 8):
        kernel, slots = placed(layer.kernel, layer.kernel_slots, distances, begin)
        there = dataclasses.replace(layer, kernel=kernel, kernel_slots=slots)
        run_in_place(problem, [there], num_threads=2)
        assert kernel.tobytes() == elsewhere.kernel.tobytes(), f"from byte {begin} on"
        for s, slot in enumerate(slots):
            assert slot.tobytes() == elsewhere.kernel_slots[s].tobytes(), f"slot {s}, {begin}"


@pytest.mark.parametrize("precision", SHORT)
@pytest.mark.parametrize("activation", oracle.ACTIVATIONS)
def test_mixed_precision(isa: str, precision: str, activation: str) -> None:
    problem = make_problem(
        PRECISIONS[precision], 37, (61, 300, 19), [activation] * 2, [True, False], "adam"
    )
    assert_steps_accurate(problem, num_threads=2)
    assert_same_bits_whatever_the_thread_count(problem)


@pytest.mark.parametrize("precision", SHORT)
def test_every_number_of_16_bits(isa: str, precision: str) -> None:
    """Products of two of them are exact floats, which are rounded once."""
    dtype = PRECISIONS[precision].tensors
    with np.errstate(all="ignore"):
        seed = np.arange(1 << 16, dtype=np.uint16).view(dtype)[:, np.newaxis]
        copy = np.array([[1], [0.7], [-3], [3e-5], [6e-8]]).astype(dtype)
        expected = (seed.astype(np.float32) * copy[:, 0].astype(np.float32)).astype(dtype)
    layer = oracle.Layer(
        x=np.zeros((1 << 16, 5), dtype),
        reference=None,
        activation="linear",
        kernel=np.ones((5, 1), np.float32),
        bias=None,
        kernel_copy=copy,
    )
    _, gradient = run_kernel(Problem(seed, (layer,), "sgd", np.zeros(2, np.float32)))
    np.testing.assert_array_equal(gradient.astype(np.float32), expected.astype(np.float32))


def test_without_the_input_gradient_the_updates_are_the_same() -> None:
    problem = make_problem(np.float32, 20, (30, 40, 50), ["relu"] * 2, [True] * 2, "adam")
    with_gradient, gradient = run_kernel(problem)
    without, nothing = run_kernel(problem, input_gradient=False)
    assert nothing is None
    for name, value in results(with_gradient, gradient).items():
        if name != "input gradient":
            np.testing.assert_array_equal(results(without, gradient)[name], value, name)


def test_inf_and_nan_reach_the_weights_they_belong_to() -> None:
    problem = make_problem(np.float32, 8, (5, 4), ["linear"], [True], "sgd")
    seed = problem.seed.copy()
    seed[3, 2] = np.nan
    after, gradient = run_kernel(dataclasses.replace(problem, seed=seed))
    assert np.isnan(after[0].kernel[:, 2]).all()
    assert np.isfinite(np.delete(after[0].kernel, 2, axis=1)).all()
    assert np.isnan(after[0].bias[2])
    assert np.isnan(gradient[3]).all()
    assert np.isfinite(np.delete(gradient, 3, axis=0)).all()


def test_an_infinite_gradient_under_momentum(isa: str) -> None:
    # Without Nesterov's look ahead, whose factor is 0 then.
    problem = make_problem(np.float32, 8, (5, 4), ["linear"], [True], "momentum")
    hyper = np.array([0, 0.9, -0.1, 1, 0], np.float32)
    seed = problem.seed.copy()
    seed[:, 2] = np.inf
    (layer,), _ = run_kernel(dataclasses.replace(problem, seed=seed, hyper=hyper))
    assert layer.bias[2] == -np.inf
    assert np.isfinite(np.delete(layer.bias, 2)).all()


@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_nan_is_seen_behind_an_inactive_unit(isa: str, activation: str) -> None:
    problem = make_problem(np.float32, 4, (3, 2), [activation], [False], "sgd")
    seed = np.full_like(problem.seed, np.nan)
    inactive = dataclasses.replace(problem.layers[0], reference=np.full((4, 2), -1, np.float32))
    after, _ = run_kernel(dataclasses.replace(problem, seed=seed, layers=(inactive,)))
    assert np.isnan(after[0].kernel).all()


def test_rowwise_rules_are_not_supported() -> None:
    problem = make_problem(np.float32, 3, (5, 4), ["tanh"], [True], "rowwise_adagrad")
    with pytest.raises(NotImplementedError, match="not supported"):
        run_kernel(problem)
