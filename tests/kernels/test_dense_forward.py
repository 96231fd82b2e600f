"""The forward pass that the dense chain's kernels run themselves, against the float64 oracle."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests import oracle
from tests.accuracy import FEW, PRECISIONS, assert_accurate, results
from tests.forward_pass import few_ulp_of_both, with_forward
from tests.kernels import plain
from tests.kernels.problems import (
    ALPHA,
    Problem,
    assert_same_bits_whatever_the_thread_count,
    make_problem,
    run_kernel,
)

STEPS = 3


def without_forward(layers) -> list[oracle.Layer]:
    """The layers with nothing but the bottom one's x."""
    bare = [dataclasses.replace(layer, x=None, reference=None) for layer in layers]
    return [*bare[:-1], dataclasses.replace(bare[-1], x=layers[-1].x)]


def run_forward(problem: Problem, layers=None, **options):
    bare = without_forward(layers or problem.layers)
    return run_kernel(problem, bare, forward=True, **options)


def assert_steps_accurate(problem: Problem, steps: int = STEPS, **options) -> None:
    """Several steps in a row, each compared from the state that the kernel's last one left."""
    dtype, layers = problem.precision.variables, problem.layers
    rest = (problem.rule, problem.hyper)
    for _ in range(steps):
        exact = with_forward(layers, np.float64)
        received, gradient = run_forward(problem, layers, **options)
        assert_accurate(
            results(received, gradient),
            results(*plain.dense_chain(problem.seed, with_forward(layers, dtype), *rest)),
            results(*oracle.dense_chain(problem.seed, exact, *rest)),
            few_ulp_of_both(problem.seed, layers, *rest, problem.precision),
        )
        x = problem.layers[-1].x
        layers = [*received[:-1], dataclasses.replace(received[-1], x=x)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", ["sgd", "adam"])
@pytest.mark.parametrize("activation", oracle.ACTIVATIONS)
def test_every_activation(isa: str, dtype, rule: str, activation: str) -> None:
    activations = [activation] * 3
    problem = make_problem(dtype, 37, (61, 50, 33, 19), activations, [True, False, True], rule)
    assert_steps_accurate(problem, num_threads=2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [1, 11, 12, 13, 64, 300])
@pytest.mark.parametrize("widths", [(1, 1), (1, 300), (300, 1), (49, 257), (97, 33, 130)])
def test_odd_sizes(isa: str, dtype, batch: int, widths: tuple[int, ...]) -> None:
    depth = len(widths) - 1
    assert_steps_accurate(
        make_problem(dtype, batch, widths, ["tanh"] * depth, [True] * depth, "adam")
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [23, 1100])
@pytest.mark.parametrize("widths", [(1024, 257), (512, 300, 140)])
@pytest.mark.parametrize("cache_ways", [4, 12], indirect=True)
def test_several_blocks_of_each_size(
    isa: str, cache_ways: int, dtype, batch: int, widths: tuple[int, ...]
) -> None:
    """Rows of x that alias in the cache (1024, and 512 in float64) are copied for 4 ways."""
    depth = len(widths) - 1
    problem = make_problem(dtype, batch, widths, ["relu"] * depth, [True] * depth, "adam")
    assert_steps_accurate(problem, steps=1, num_threads=2)


@pytest.mark.parametrize(("dtype", "outputs"), [(np.float32, 2100), (np.float64, 1050)])
@pytest.mark.parametrize("batch", [5, 17, 127, 130])
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_a_kernel_that_no_cache_holds(
    isa: str, dtype, outputs: int, batch: int, activation: str
) -> None:
    """From 8 MB on, W is streamed through for batches of fewer than 128 rows.

    With many threads a task has so few columns that a tile asks for several rows of W.
    """
    problem = make_problem(dtype, batch, (1030, outputs), [activation], [True], "sgd")
    assert_steps_accurate(problem, steps=1)
    assert_same_bits_whatever_the_thread_count(problem, run_forward, counts=[3, 70])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cache_ways", [4, 12], indirect=True)
@pytest.mark.parametrize(
    ("batch", "widths"),
    [
        (256, (2048, 2)),
        (37, (2500, 19, 5)),
        (64, (4099, 130)),
        (256, (3072, 256)),
        (47, (8, 2300, 10)),
        (9, (40_003, 3)),
        (1, (2048, 500)),
    ],
)
def test_deep_layers(isa: str, cache_ways: int, dtype, batch: int, widths: tuple[int, ...]) -> None:
    """From 2048 inputs on, of up to 256 rows and units, W is cut into parts of its rows."""
    depth = len(widths) - 1
    for activation, use_bias in (("silu", True), ("relu", False)):
        activations, biases = [activation] * depth, [use_bias] * depth
        problem = make_problem(dtype, batch, widths, activations, biases, "adam")
        assert_steps_accurate(problem, steps=1, num_threads=2)
        assert_same_bits_whatever_the_thread_count(problem, run_forward, counts=[3, 70])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [130, 800])
def test_same_bits_whatever_the_thread_count(isa: str, dtype, batch: int) -> None:
    activations = ["relu", "gelu" if dtype is np.float32 else "silu", "linear"]
    problem = make_problem(dtype, batch, (515, 301, 203, 77), activations, [True] * 3, "adam")
    assert_same_bits_whatever_the_thread_count(problem, run_forward)


def values_of(activation: str, z: np.ndarray) -> np.ndarray:
    """The kernel's act(z): a linear layer above it, of weights of 0, becomes y."""
    dtype, count = z.dtype, len(z)
    layer = oracle.Layer(
        x=z[:, np.newaxis],
        reference=None,
        activation=activation,
        alpha=ALPHA,
        kernel=np.ones((1, 1), dtype),
        bias=None,
    )
    above = dataclasses.replace(
        layer, x=None, activation="linear", kernel=np.zeros((1, count), dtype)
    )
    hyper = np.array([0, -1], dtype)  # without decay; W - (-1) y
    problem = Problem(np.eye(count, dtype=dtype), (above, layer), "sgd", hyper)
    after, _ = run_kernel(problem, forward=True, input_gradient=False)
    return after[0].kernel[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", oracle.ACTIVATIONS)
def test_values_of_activations(isa: str, dtype, activation: str) -> None:
    largest, few = (5, 16) if activation == "gelu" else (60, FEW)  # the oracle's rounds its z
    scale = np.logspace(-12, np.log10(largest), 600)
    z = np.concatenate([-scale, [0], scale]).astype(dtype)
    with np.errstate(over="ignore"):
        expected = oracle.ACTIVATIONS[activation].forward(z.astype(np.longdouble), ALPHA)
    info = np.finfo(dtype)
    np.testing.assert_allclose(values_of(activation, z), expected, few * info.eps, info.tiny)


@pytest.mark.parametrize("activation", oracle.ACTIVATIONS)
def test_nan_and_inf_reach_the_activations(isa: str, activation: str) -> None:
    z = np.array([1, np.nan, np.inf, -np.inf, -1], np.float32)
    with np.errstate(all="ignore"):
        z64 = z.astype(np.float64)
        expected = oracle.ACTIVATIONS[activation].forward(z64, ALPHA)
    if activation == "softplus":
        expected[3] = 0  # The oracle has NaN.
    np.testing.assert_allclose(_each_alone(activation, z), expected, 1e-6)


def _each_alone(activation: str, z: np.ndarray) -> np.ndarray:
    """One call for each, as 0 * Inf would reach the others."""
    return np.concatenate([values_of(activation, each) for each in z[:, np.newaxis]])


def test_nothing_but_the_bottom_input_is_read() -> None:
    problem = make_problem(np.float32, 20, (30, 40, 50), ["relu"] * 2, [True] * 2, "adam")
    expected = results(*run_forward(problem))
    wrong = [dataclasses.replace(layer, reference=None) for layer in problem.layers]
    wrong[0] = dataclasses.replace(wrong[0], x=np.zeros((1, 1), np.int8))
    received = results(*run_kernel(problem, wrong, forward=True))
    for name, value in expected.items():
        assert value.tobytes() == received[name].tobytes(), name


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_is_not_supported(precision: str) -> None:
    problem = make_problem(PRECISIONS[precision], 5, (3, 4), ["relu"], [True], "sgd")
    with pytest.raises(NotImplementedError, match="not supported"):
        run_kernel(problem, forward=True)
