"""The dense sweep's kernels against the float64 oracle, through the C ABI."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from splitop.lib import _kernels
from tests import oracle
from tests.accuracy import (
    FEW,
    PRECISIONS,
    assert_accurate,
    few_ulp,
    results,
    update_few_ulp,
)
from tests.kernels import plain
from tests.kernels.problems import Problem, make_problem, problems, run_kernel, to_kernel_layer


def sweep(problem: Problem, **options):
    """dL/dz of each layer, dL/dx, and the squared norms."""
    layers = [to_kernel_layer(layer, kernel_slots=[], bias_slots=[]) for layer in problem.layers]
    return _kernels.dense_sweep(problem.seed, layers, **{"input_gradient": True, **options})


def exact_norms(problem: Problem, gradients) -> np.ndarray:
    """The norms of the gradients of kernels and biases, [2, layers], from dL/dz."""
    norms = []
    for layer, gradient in zip(problem.layers, gradients, strict=True):
        g = gradient.astype(np.longdouble)
        of_kernel = layer.x.astype(np.longdouble).T @ g
        norms.append((np.sqrt((of_kernel**2).sum()), np.sqrt((g.sum(0) ** 2).sum())))
    return np.array(norms).T


def coefficients(norms: np.ndarray, bound: float, dtype) -> np.ndarray:
    """What a gradient is multiplied by so that its norm is no larger than the bound."""
    return (bound / np.maximum(norms, bound)).astype(dtype)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(problem=problems(), norms=st.sampled_from(["none", "bounds", "exact"]))
def test_gradients_are_those_of_the_chain(problem: Problem, norms: str) -> None:
    before = [layer.kernel.tobytes() for layer in problem.layers]
    gradients, below, _ = sweep(problem, norms=norms, num_threads=2)
    assert [layer.kernel.tobytes() for layer in problem.layers] == before
    # Each layer's own step by its gradient gives the bits of the whole chain's step.
    chain, input_gradient = run_kernel(problem)
    np.testing.assert_array_equal(below, input_gradient)
    for layer, gradient, expected in zip(problem.layers, gradients, chain, strict=True):
        linear = dataclasses.replace(layer, activation="linear", reference=None)
        alone = Problem(gradient, (linear,), problem.rule, problem.hyper)
        (after,), _ = run_kernel(alone, input_gradient=False)
        np.testing.assert_array_equal(after.kernel, expected.kernel)
        if layer.bias is not None:
            np.testing.assert_array_equal(after.bias, expected.bias)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [1, 2, 48, 49, 700])
@pytest.mark.parametrize("widths", [(1, 1), (300, 7), (5, 257), (97, 33, 130), (260, 515)])
def test_clip_coefficients(isa: str, dtype, batch: int, widths: tuple[int, ...]) -> None:
    depth = len(widths) - 1
    problem = make_problem(dtype, batch, widths, ["tanh"] * depth, [True] * depth, "sgd")
    gradients, _, squared = sweep(problem, num_threads=2)
    assert_coefficients_exact(problem, gradients, squared)


def assert_coefficients_exact(problem: Problem, gradients, squared: np.ndarray) -> None:
    """The norms are those of the gradients that the sweep gives, to a few ulp of a coefficient."""
    dtype = problem.precision.variables
    exact = exact_norms(problem, gradients)
    # The sums of the biases are in the dtype of G, those of float64 in float64: a few ulp of their
    # terms, which may cancel.
    rounding = np.zeros_like(exact)
    for i, (layer, g) in enumerate(zip(problem.layers, gradients, strict=True)):
        rounding[1, i] = np.linalg.norm(abs(g.astype(np.float64)).sum(0))
        if dtype == np.float64:
            rounding[0, i] = np.linalg.norm(abs(layer.x).T @ abs(g))
    rounding *= FEW * np.finfo(dtype).eps / exact
    for bound in (0.7 * exact.min(), 1.5 * exact.max()):
        received = coefficients(np.sqrt(squared), bound, dtype)
        expected = coefficients(exact, bound, dtype)
        allowed = FEW * np.spacing(expected) + rounding * expected
        assert np.all(abs(received - expected) <= allowed), (received, expected)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("batch", [49, 700])
def test_mixed_precision(isa: str, precision: str, batch: int) -> None:
    problem = make_problem(
        PRECISIONS[precision], batch, (97, 300, 130), ["tanh", "relu"], [True, False], "adam"
    )
    gradients, below, squared = sweep(problem, num_threads=2)
    assert {gradient.dtype for gradient in (*gradients, below)} == {problem.seed.dtype}
    assert_coefficients_exact(problem, gradients, squared)
    for num_threads in (1, 7):
        again = sweep(problem, num_threads=num_threads)
        assert [g.tobytes() for g in again[0]] == [g.tobytes() for g in gradients]
        assert again[2].tobytes() == squared.tobytes()
    after = []
    for layer, gradient in zip(problem.layers, gradients, strict=True):
        linear = dataclasses.replace(layer, activation="linear", reference=None)
        alone = Problem(gradient, (linear,), problem.rule, problem.hyper)
        after += run_kernel(alone, input_gradient=False)[0]
    step = (problem.seed, problem.layers, problem.rule, problem.hyper)
    assert_accurate(
        results(after, below),
        results(*plain.dense_chain(*step)),
        results(*oracle.dense_chain(*step)),
        few_ulp(*step, problem.precision),
    )


@pytest.mark.parametrize("norms", ["bounds", "exact"])
def test_what_is_too_large_for_16_bits_shows(norms: str) -> None:
    problem = make_problem(PRECISIONS["float16"], 5, (4, 3, 2), ["linear"] * 2, [True] * 2, "sgd")
    seed = np.full_like(problem.seed, 60000)
    (top, bottom) = problem.layers
    top = dataclasses.replace(top, kernel_copy=np.full_like(top.kernel_copy, 0.75))
    problem = dataclasses.replace(problem, seed=seed, layers=(top, bottom))
    gradients, _, squared = sweep(problem, norms=norms)
    assert np.isinf(gradients[1]).all()
    np.testing.assert_array_equal(np.isfinite(squared), [[True, False]] * 2)


def test_coefficients_of_a_gradient_that_cancels() -> None:
    # The rows of x and G are such that x^T G is a thousandth of its terms.
    random = np.random.default_rng(0)
    problem = make_problem(np.float32, 64, (128, 96), ["linear"], [False], "sgd")
    (layer,) = problem.layers
    half = layer.x[:32]
    noise = 1e-3 * random.normal(size=half.shape)
    x = np.concatenate([half, half + noise]).astype(np.float32)
    seed = np.concatenate([problem.seed[:32], -problem.seed[:32]])
    problem = dataclasses.replace(problem, seed=seed, layers=(dataclasses.replace(layer, x=x),))
    gradients, _, squared = sweep(problem)
    exact = exact_norms(problem, gradients)[0]
    expected = coefficients(exact, 0.5 * exact[0], np.float32)
    received = coefficients(np.sqrt(squared[0]), 0.5 * exact[0], np.float32)
    assert abs(received - expected) <= FEW * np.spacing(expected)


def kept(problem: Problem, **options):
    """The gradients of all kernels, and their squared norms."""
    dtype = problem.precision.variables
    gradients = [np.full(layer.kernel.shape, np.nan, dtype) for layer in problem.layers]
    swept, _, squared = sweep(problem, kernel_gradients=gradients, **options)
    return gradients, swept, squared


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("batch", [1, 49, 700])
def test_kept_gradients(isa: str, precision: str, batch: int) -> None:
    problem = make_problem(
        PRECISIONS[precision], batch, (97, 300, 130), ["tanh", "relu"], [True, False], "adam"
    )
    gradients, swept, squared = kept(problem, num_threads=2)
    assert_coefficients_exact(problem, swept, squared)
    clips = np.array([[0.5, np.inf], [2.0, 0.75], [0.25, np.inf]], problem.hyper.dtype)
    for position, (layer, g) in enumerate(zip(problem.layers, swept, strict=True)):
        # The update by the kept gradient has the bits of the one that makes it again.
        linear = dataclasses.replace(layer, activation="linear", reference=None)
        alone = Problem(g, (linear,), problem.rule, problem.hyper)
        of_variables = clips[[position] if layer.bias is None else [position, 2]]
        again, below = run_kernel(alone, clips=of_variables, num_threads=2)
        options = {"kernel_gradients": [gradients[position]], "clips": of_variables}
        given, below_given = run_kernel(alone, **options, num_threads=3)
        without, nothing = run_kernel(alone, **options, input_gradient=False)
        assert nothing is None
        assert below_given.tobytes() == below.tobytes()
        for name, value in results(again, below).items():
            assert value.tobytes() == results(given, below)[name].tobytes(), name
            assert value.tobytes() == results(without, below)[name].tobytes(), name


def test_what_is_given_is_what_a_kernel_is_updated_by() -> None:
    problem = make_problem(np.float32, 6, (5, 3), ["linear"], [True], "sgd")
    (layer,) = problem.layers
    gradient = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    ((after,), _) = run_kernel(problem, kernel_gradients=[gradient])
    expected, _ = oracle.update(
        layer.kernel, (), gradient, layer.kernel_decayed, "sgd", problem.hyper
    )
    np.testing.assert_allclose(after.kernel, expected, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_kept_gradient_that_is_not_finite(bad: float) -> None:
    problem = make_problem(np.float32, 50, (30, 20), ["linear"], [True], "sgd")
    seed = problem.seed.copy()
    seed[7, 3] = bad
    (gradient,), _, squared = kept(dataclasses.replace(problem, seed=seed))
    assert not np.isfinite(squared[0, 0])
    np.testing.assert_array_equal(np.isfinite(gradient).all(0), np.arange(20) != 3)


def test_which_gradients_are_kept() -> None:
    keeps = _kernels.keeps_kernel_gradient
    for dtype in ("float32", "float64", "bfloat16", "float16"):
        assert not keeps(dtype, 32, 1024, 1024)  # Gram matrices are cheaper
        assert keeps(dtype, 2048, 256, 1024)
        assert not keeps(dtype, 4, 3, 2)  # not worth it
    # No more memory than x and G take, in mixed precision of half as many bytes.
    assert not keeps("float32", 8, 100_000, 50)
    assert keeps("float32", 50, 100_000, 50)
    assert not keeps("bfloat16", 50, 100_000, 50)
    assert keeps("bfloat16", 100, 100_000, 50)


@pytest.mark.parametrize("batch", [40, 500])
def test_same_bits_whatever_the_thread_count(isa: str, batch: int) -> None:
    problem = make_problem(
        np.float32, batch, (515, 301, 77), ["relu", "sigmoid"], [True] * 2, "sgd"
    )
    gradients, below, norms = sweep(problem, num_threads=1)
    for num_threads in (2, 3, 7):
        again = sweep(problem, num_threads=num_threads)
        assert [g.tobytes() for g in again[0]] == [g.tobytes() for g in gradients]
        assert again[1].tobytes() == below.tobytes()
        assert again[2].tobytes() == norms.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("norms", ["bounds", "exact"])
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("where", ["seed", "x", "reference"])
def test_what_is_not_finite_shows(dtype, norms: str, bad: float, layer: int, where: str) -> None:
    problem = make_problem(dtype, 50, (30, 20, 40, 10), ["tanh"] * 3, [True] * 3, "sgd")
    layers = list(problem.layers)
    if where == "seed":
        seed = problem.seed.copy()
        seed[7, 3] = bad
        problem = dataclasses.replace(problem, seed=seed)
    else:
        values = getattr(layers[layer], where).copy()
        values[7, 3] = bad
        layers[layer] = dataclasses.replace(layers[layer], **{where: values})
        problem = dataclasses.replace(problem, layers=tuple(layers))
    *_, squared = sweep(problem, norms=norms)
    finite = np.isfinite(squared[0])
    first = 0 if where == "seed" else layer
    assert finite[:first].all()
    assert not finite[first]
    # What stands in x goes no further; a bad G does.
    assert finite[first + 1 :].all() == (where == "x") or first == 2


def test_a_product_that_overflows_shows_and_one_that_does_not_is_finite() -> None:
    problem = make_problem(np.float32, 4, (5, 3), ["linear"], [False], "sgd")
    (layer,) = problem.layers
    ones = np.ones_like(layer.x)
    for size, finite in ((1e18, True), (1e20, False)):
        large = dataclasses.replace(
            problem,
            seed=np.full_like(problem.seed, size),
            layers=(dataclasses.replace(layer, x=ones * np.float32(size)),),
        )
        for norms in ("bounds", "exact"):
            *_, squared = sweep(large, norms=norms)
            assert np.isfinite(squared[0, 0]) == finite, (size, norms)


def test_bounds_are_none_below_the_norms() -> None:
    problem = make_problem(np.float32, 50, (30, 20, 40), ["tanh"] * 2, [True] * 2, "sgd")
    *_, bounds = sweep(problem, norms="bounds")
    *_, exact = sweep(problem, norms="exact")
    assert (bounds[0] >= exact[0]).all()
    np.testing.assert_array_equal(bounds[1], exact[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", oracle.RULES)
def test_clipped_chain(isa: str, dtype, rule: str) -> None:
    problem = make_problem(dtype, 37, (61, 300, 19), ["tanh"] * 2, [True] * 2, rule)
    clips = np.array([[0.5, np.inf], [2.0, 0.75], [1.0, 0.01], [0.25, np.inf]], dtype)
    received, _ = run_kernel(problem, clips=clips, num_threads=2)
    gradients, _, _ = sweep(problem)
    for position, (layer, gradient) in enumerate(zip(problem.layers, gradients, strict=True)):
        wide = gradient.astype(np.float64)
        of_kernel, of_bias = clips[position], clips[2 + position]
        for kind, g, clip in (
            ("kernel", layer.x.astype(np.float64).T @ wide, of_kernel),
            ("bias", wide.sum(0), of_bias),
        ):
            scale, bound = clip.astype(np.float64)
            how = (getattr(layer, f"{kind}_decayed"), rule, problem.hyper)
            variable = (getattr(layer, kind), getattr(layer, f"{kind}_slots"))
            value, slots = oracle.update(*variable, np.clip(g * scale, -bound, bound), *how)
            after = getattr(received[position], kind)
            exact = {"value": value} | {f"slot {s}": slot for s, slot in enumerate(slots)}
            got = {"value": after} | {
                f"slot {s}": slot
                for s, slot in enumerate(getattr(received[position], f"{kind}_slots"))
            }
            assert_clipped_accurate(variable, g, scale, bound, how, got, exact, layer, wide)


def assert_clipped_accurate(variable, g, scale, bound, how, got, exact, layer, wide) -> None:
    """The accuracy rule for one variable whose gradient was scaled and clipped."""
    dtype = variable[0].dtype
    terms = abs(layer.x.astype(np.float64)).T @ abs(wide) if g.ndim == 2 else abs(wide).sum(0)
    error = scale * FEW * np.finfo(dtype).eps * terms
    clipped = np.clip(g * scale, -bound, bound)
    few = update_few_ulp("value", *variable, clipped, *how, error)
    few = {name.removeprefix("value "): value for name, value in few.items()}
    value, slots = plain.update(*variable, clipped.astype(dtype), *how)
    expected = {"value": value} | {f"slot {s}": slot for s, slot in enumerate(slots)}
    assert_accurate(got, expected, exact, few)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_squared_norms(isa: str, dtype, num_threads: int) -> None:
    random = np.random.default_rng(0)
    shapes = [(), (0,), (1,), (15,), (16,), (17,), (3, 0, 2), (300, 201), (1 << 14,), (16385, 3)]
    arrays = [random.normal(size=shape).astype(dtype) for shape in shapes]
    received = _kernels.squared_norms(arrays, num_threads=num_threads)
    expected = [np.sum(array.astype(np.float64) ** 2) for array in arrays]
    np.testing.assert_allclose(received, expected, rtol=1e-13)
    assert received.tobytes() == _kernels.squared_norms(arrays, num_threads=7).tobytes()


def test_errors() -> None:
    problem = make_problem(np.float32, 4, (5, 3), ["linear"], [True], "sgd")
    with pytest.raises(ValueError, match="norms"):
        sweep(problem, norms="some")
    with pytest.raises(ValueError, match=r"clips.*\(2, 2\)|clips.*\[2, 2\]"):
        run_kernel(problem, clips=np.ones((1, 2), np.float32))
    with pytest.raises(TypeError, match="clips"):
        run_kernel(problem, clips=np.ones((2, 2)))
    gradient = np.ones((5, 3), np.float32)
    with pytest.raises(ValueError, match=r"one entry a layer, 1\. Received: 2"):
        sweep(problem, kernel_gradients=[gradient, None])
    with pytest.raises(ValueError, match=r"kernel_gradients\[0\] must have shape \[5, 3\]"):
        sweep(problem, kernel_gradients=[gradient.T.copy()])
    with pytest.raises(ValueError, match="argument"):
        sweep(problem, norms="bounds", kernel_gradients=[gradient])
    with pytest.raises(ValueError, match=r"layers\[0\].kernel_gradient must have shape \[5, 3\]"):
        run_kernel(problem, kernel_gradients=[gradient[:4]])
    with pytest.raises((TypeError, ValueError), match=r"tensors\[1\]"):
        _kernels.squared_norms([np.ones(3, np.float32), np.ones(3)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [20, 3000])
def test_an_infinite_input_of_a_row_without_a_gradient_shows(dtype, batch: int) -> None:
    problem = make_problem(dtype, batch, (30, 20), ["linear"], [True], "sgd")
    (layer,) = problem.layers
    x, seed = layer.x.copy(), problem.seed.copy()
    x[3, 5], seed[3] = np.inf, 0
    layers = (dataclasses.replace(layer, x=x),)
    for norms in ("bounds", "exact"):
        *_, squared = sweep(dataclasses.replace(problem, seed=seed, layers=layers), norms=norms)
        assert np.isnan(squared[0, 0])
