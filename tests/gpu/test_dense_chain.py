"""The dense chain's CUDA kernels against the float64 oracle, through the C ABI."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests import oracle
from tests.accuracy import PRECISIONS, results
from tests.gpu.chains import (
    CHAIN_RULES,
    STRATEGIES,
    assert_steps_accurate,
    options_for,
    rule_for,
    run_chain,
    supported,
)
from tests.gpu.devices import Device
from tests.gpu.kernels import EMULATED, kernels
from tests.kernels import plain
from tests.kernels.problems import Problem, make_problem

LARGEST = 70 if EMULATED else 300


@pytest.fixture(scope="session", autouse=True)
def cublas(device: Device) -> None:
    """Without cuBLAS half of the strategies would not be tested."""
    assert kernels.has_cublas()


def chain(
    precision: str,
    batch: int,
    widths: Sequence[int],
    activations: str | Sequence[str],
    rule: str,
    random_seed: int = 0,
) -> Problem:
    depth = len(widths) - 1
    names = [activations] * depth if isinstance(activations, str) else activations
    biases = [layer % 3 != 1 for layer in range(depth)]
    of_precision = PRECISIONS[precision]
    problem = make_problem(of_precision, batch, widths, names, biases, rule, random_seed)
    # Gradients of about one, or float16 would overflow after some steps.
    seed = (problem.seed.astype(of_precision.variables) / np.sqrt(batch)).astype(problem.seed.dtype)
    return dataclasses.replace(problem, seed=seed)


def assert_not_supported(device: Device, problem: Problem, **options: Any) -> None:
    with pytest.raises(NotImplementedError, match="not supported"):
        run_chain(device, problem, **options)


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, Problem, dict[str, Any]]:
    """A precision, a chain and options, of sizes that tiles and vectors stumble over."""
    precision = draw(st.sampled_from(list(PRECISIONS)))
    strategy = draw(st.sampled_from(list(STRATEGIES)))
    rule = "sgd" if strategy == "accumulate" else draw(st.sampled_from(CHAIN_RULES))
    depth = draw(st.integers(1, 3))
    edges = [1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 129, 256, 257]
    size = st.one_of(
        st.sampled_from([edge for edge in edges if edge <= LARGEST]), st.integers(1, LARGEST)
    )
    problem = chain(
        precision,
        draw(size),
        draw(st.lists(size, min_size=depth + 1, max_size=depth + 1)),
        draw(st.lists(st.sampled_from(list(oracle.ACTIVATIONS)), min_size=depth, max_size=depth)),
        rule,
        draw(st.integers(0, 2**16)),
    )
    assume(supported(strategy, problem))
    offsets = draw(st.lists(st.integers(0, 4), min_size=1, max_size=7))
    return precision, problem, {**options_for(precision, strategy), "offsets": offsets}


@settings(
    deadline=None,
    max_examples=60 if EMULATED else 200,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(call=calls())
def test_any_chain(device: Device, call: tuple[str, Problem, dict[str, Any]]) -> None:
    precision, problem, options = call
    assume(precision != "bfloat16" or device.has_bfloat16)
    assert_steps_accurate(device, problem, precision, steps=2, **options)


def test_other_rules_are_not_supported(device: Device) -> None:
    for rule in sorted(oracle.ALL_RULES.keys() - set(CHAIN_RULES)):
        assert_not_supported(device, chain("float32", 3, (4, 5), "relu", rule))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("activation", oracle.ACTIVATIONS)
@pytest.mark.parametrize("offset", [0, 1])
def test_every_activation(device: Device, precision: str, activation: str, offset: int) -> None:
    problem = chain(precision, 37, (64, 48, 16), activation, "momentum")
    options = options_for(precision, "tiles")
    assert_steps_accurate(device, problem, precision, offsets=[offset], **options)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("rule", CHAIN_RULES)
@pytest.mark.parametrize("offset", [0, 1])
def test_every_strategy_and_rule(
    device: Device, precision: str, strategy: str, rule: str, offset: int
) -> None:
    problem = chain(precision, 37, (61, 52, 19), ["tanh", "relu"], rule)
    options = options_for(precision, strategy)
    if supported(strategy, problem):
        assert_steps_accurate(device, problem, precision, offsets=[offset], **options)
    else:
        assert_not_supported(device, problem, **options)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("batch", "widths"),
    [
        (1, (1, 1)),
        (1, (48, 136)),
        (15, (1, 140)),
        (16, (140, 1)),
        (17, (97, 33, 66)),
        (64, (128, 64)),
        (65, (129, 63)),
        (130, (40, 24)),
        (257, (8, 8)),
    ],
)
def test_odd_sizes(
    device: Device, precision: str, strategy: str, batch: int, widths: tuple[int, ...]
) -> None:
    problem = chain(precision, batch, widths, "tanh", rule_for(strategy))
    options = options_for(precision, strategy)
    if supported(strategy, problem):
        assert_steps_accurate(device, problem, precision, steps=1, **options)
    else:
        assert_not_supported(device, problem, **options)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("widths", [(320, 704), (300, 701)])
def test_many_tiles_and_chunks(
    device: Device, precision: str, strategy: str, widths: tuple[int, ...]
) -> None:
    """The emulated device's L2 cache, of 1 MB, holds only a part of the kernel."""
    problem = chain(precision, 40, widths, "relu", rule_for(strategy))
    options = options_for(precision, strategy)
    assert_steps_accurate(device, problem, precision, steps=1, **options)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
@pytest.mark.parametrize("activation", ["linear", "tanh"])
def test_rounds_no_more_than_the_plain_path(
    device: Device, precision: str, activation: str
) -> None:
    """Without the worst case that the accuracy rule allows: over many elements luck evens out.

    Only of what is computed here: in TF32 cuBLAS may cut off what others round.
    """
    problem = chain(precision, 64, (96, 80, 48), activation, "sgd")
    step = (problem.seed, problem.layers, problem.rule, problem.hyper)
    received = results(*run_chain(device, problem, **options_for(precision, "tiles")))
    expected = results(*plain.dense_chain(*step, tf32=precision == "tf32"))
    for name, exact in results(*oracle.dense_chain(*step)).items():
        if name.startswith("bias"):  # a sum of float32 on both paths
            continue
        error, allowed = (
            np.sqrt(np.mean((of[name].astype(np.float64) - exact) ** 2))
            for of in (received, expected)
        )
        assert error <= 2 * allowed, name


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("batch", "widths"),
    [(67, (1021, 2053)), (512, (2048, 1024, 512)), (32, (8192, 4096)), (4096, (264, 520))],
)
def test_large_layers(
    real_gpu: Device, precision: str, strategy: str, batch: int, widths: tuple[int, ...]
) -> None:
    problem = chain(precision, batch, widths, "relu", rule_for(strategy))
    options = options_for(precision, strategy)
    assert_steps_accurate(real_gpu, problem, precision, steps=2, **options)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_same_bits_from_run_to_run(device: Device, precision: str, strategy: str) -> None:
    problem = chain(precision, 70, (72, 130, 40), ["relu", "sigmoid"], rule_for(strategy))
    options = options_for(precision, strategy)
    once = results(*run_chain(device, problem, **options))
    for scratch_fill in (0xFF, 0x00, 0x3F):  # what was in the scratch before does not matter
        again = results(*run_chain(device, problem, scratch_fill=scratch_fill, **options))
        for name, value in once.items():
            assert value.tobytes() == again[name].tobytes(), name


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_without_the_input_gradient_the_updates_are_the_same(
    device: Device, precision: str, strategy: str
) -> None:
    problem = chain(precision, 20, (30, 40, 50), "relu", rule_for(strategy))
    options = options_for(precision, strategy)
    with_gradient, gradient = run_chain(device, problem, **options)
    without, nothing = run_chain(device, problem, input_gradient=False, **options)
    assert gradient is not None
    assert nothing is None
    for name, value in results(without, None).items():
        np.testing.assert_array_equal(results(with_gradient, None)[name], value, name)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_input_gradient_is_of_the_kernel_that_the_forward_pass_read(
    device: Device, precision: str, strategy: str
) -> None:
    problem = chain(precision, 20, (30, 40, 50), "relu", rule_for(strategy))
    layers = tuple(
        dataclasses.replace(layer, kernel_copy=-layer.kernel_copy) for layer in problem.layers
    )
    problem = dataclasses.replace(problem, layers=layers)
    options = options_for(precision, strategy)
    assert_steps_accurate(device, problem, precision, steps=1, **options)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_without_an_input_gradient_no_copy_of_the_kernel_is_needed(
    device: Device, precision: str
) -> None:
    problem = chain(precision, 20, (30, 40), "relu", "sgd")
    without = (dataclasses.replace(problem.layers[0], kernel_copy=None),)
    expected, _ = run_chain(device, problem, input_gradient=False)
    received, _ = run_chain(device, problem, without, input_gradient=False)
    np.testing.assert_array_equal(received[0].kernel, expected[0].kernel)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_inf_and_nan_reach_the_weights_they_belong_to(
    device: Device, precision: str, strategy: str, bad: float
) -> None:
    problem = chain(precision, 8, (5, 4), "linear", "sgd")
    seed = problem.seed.copy()
    seed[3, 2] = bad
    options = options_for(precision, strategy)
    after, gradient = run_chain(device, dataclasses.replace(problem, seed=seed), **options)
    assert gradient is not None
    assert not np.isfinite(after[0].kernel[:, 2]).any()
    assert np.isfinite(np.delete(after[0].kernel, 2, axis=1)).all()
    assert not np.isfinite(after[0].bias[2])
    assert np.isfinite(np.delete(after[0].bias, 2)).all()
    gradient = gradient.astype(np.float32)
    assert not np.isfinite(gradient[3]).any()
    assert np.isfinite(np.delete(gradient, 3, axis=0)).all()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nan_in_an_input_reaches_its_row(device: Device, precision: str, strategy: str) -> None:
    problem = chain(precision, 8, (5, 4), "linear", "sgd")
    x = problem.layers[0].x.copy()
    x[3, 2] = np.nan
    layers = (dataclasses.replace(problem.layers[0], x=x),)
    options = options_for(precision, strategy)
    after, gradient = run_chain(device, dataclasses.replace(problem, layers=layers), **options)
    assert gradient is not None
    assert np.isnan(after[0].kernel[2]).all()
    assert np.isfinite(np.delete(after[0].kernel, 2, axis=0)).all()
    assert np.isfinite(gradient.astype(np.float32)).all()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_nan_is_seen_behind_an_inactive_unit(
    device: Device, precision: str, activation: str
) -> None:
    problem = chain(precision, 4, (3, 2), activation, "sgd")
    seed = np.full_like(problem.seed, np.nan)
    inactive = dataclasses.replace(
        problem.layers[0], reference=np.full_like(problem.layers[0].reference, -1)
    )
    after, _ = run_chain(device, dataclasses.replace(problem, seed=seed, layers=(inactive,)))
    assert np.isnan(after[0].kernel).all()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_small_updates_are_not_lost_in_the_master_weights(device: Device, precision: str) -> None:
    """An update of 2^-12 of the weight: with 16 bits it would be nothing."""
    problem = chain(precision, 1, (8, 8), "linear", "sgd")
    one = np.ones_like(problem.seed)
    layer = dataclasses.replace(
        problem.layers[0], x=one, kernel=np.ones((8, 8), np.float32), kernel_decayed=False
    )
    hyper = np.array([0, 2.0**-12], np.float32)
    problem = dataclasses.replace(problem, seed=one, layers=(layer,), hyper=hyper)
    after, _ = run_chain(device, problem)
    np.testing.assert_array_equal(after[0].kernel, np.float32(1 - 2.0**-12))
