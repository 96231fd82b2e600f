"""Random chains of dense layers in a non-zero optimizer state, and how to run them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from splitop.lib import _kernels
from tests import oracle
from tests.accuracy import PRECISIONS, Precision, results
from tests.state import HYPER, make_slots

ALPHA = 0.2


@dataclasses.dataclass(frozen=True)
class Problem:
    """What one call of the kernel is given, and how the call is made."""

    seed: np.ndarray
    layers: tuple[oracle.Layer, ...]
    rule: str
    hyper: np.ndarray

    @property
    def precision(self) -> Precision:
        """The dtypes of its arrays."""
        return Precision(self.hyper.dtype.type, self.seed.dtype.type)


def make_problem(
    precision: Any,
    batch: int,
    widths: Sequence[int],
    activations: Sequence[str],
    biases: Sequence[bool],
    rule: str,
    random_seed: int = 0,
) -> Problem:
    """A chain from `widths[0]` inputs up to `widths[-1]` units.

    `precision` is a Precision, or the dtype of everything.
    """
    if not isinstance(precision, Precision):
        precision = Precision.of(precision)
    dtype, tensors = precision.variables, precision.tensors
    random = np.random.default_rng(random_seed)

    def slots(*shape: int) -> tuple[np.ndarray, ...]:
        return make_slots(random, rule, shape, dtype)

    layers: list[oracle.Layer] = []
    x = random.normal(size=(batch, widths[0])).astype(tensors)
    for inputs, units, name, use_bias in zip(widths, widths[1:], activations, biases, strict=False):
        kernel = (random.normal(size=(inputs, units)) / np.sqrt(inputs)).astype(dtype)
        bias = random.normal(size=units).astype(dtype) if use_bias else None
        kernel_copy = kernel.astype(tensors) if precision.mixed else None
        read = kernel if kernel_copy is None else kernel_copy.astype(dtype)
        z = x.astype(dtype) @ read + (0 if bias is None else bias)
        reference = oracle.ACTIVATIONS[name].reference(z, ALPHA)
        layers.insert(
            0,
            oracle.Layer(
                x=x,
                reference=None if reference is None else reference.astype(tensors),
                activation=name,
                kernel=kernel,
                bias=bias,
                alpha=ALPHA,
                kernel_slots=slots(inputs, units),
                bias_slots=slots(units) if use_bias else (),
                kernel_decayed=bool(random.random() < 0.5),
                bias_decayed=bool(random.random() < 0.5),
                kernel_copy=kernel_copy,
            ),
        )
        x = oracle.ACTIVATIONS[name].forward(z, ALPHA).astype(tensors)
    seed = random.normal(size=(batch, widths[-1])).astype(tensors)
    return Problem(seed, tuple(layers), rule, np.array(HYPER[rule], dtype))


@st.composite
def problems(draw: st.DrawFn, precisions: Sequence[str] = ("float32", "float64")) -> Problem:
    """Chains of one to four layers, with the sizes that tiles and vectors stumble over."""
    depth = draw(st.integers(1, 4))
    size = st.one_of(
        st.sampled_from([1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 47, 48, 49, 96, 97, 127, 129, 257]),
        st.integers(1, 300),
    )
    return make_problem(
        PRECISIONS[draw(st.sampled_from(precisions))],
        draw(size),
        draw(st.lists(size, min_size=depth + 1, max_size=depth + 1)),
        draw(st.lists(st.sampled_from(list(oracle.ACTIVATIONS)), min_size=depth, max_size=depth)),
        draw(st.lists(st.booleans(), min_size=depth, max_size=depth)),
        draw(st.sampled_from(list(oracle.RULES))),
        draw(st.integers(0, 2**16)),
    )


def run_kernel(
    problem: Problem,
    layers: Sequence[oracle.Layer] | None = None,
    *,
    kernel_gradients: Sequence[np.ndarray] | None = None,
    **options: Any,
) -> tuple[list[oracle.Layer], np.ndarray]:
    """The kernel's result on copies of the arrays, as the oracle returns it."""
    after = [_copy(layer) for layer in layers or problem.layers]
    return after, run_in_place(problem, after, kernel_gradients=kernel_gradients, **options)


def run_in_place(
    problem: Problem,
    layers: Sequence[oracle.Layer],
    *,
    kernel_gradients: Sequence[np.ndarray] | None = None,
    **options: Any,
) -> np.ndarray:
    """A call of the kernel, which updates the layers' arrays; returns dL/dx."""
    given = kernel_gradients or [None] * len(layers)
    return _kernels.dense_chain(
        problem.seed,
        [to_kernel_layer(layer, kernel_gradient=g) for layer, g in zip(layers, given, strict=True)],
        rule=problem.rule,
        hyper=problem.hyper,
        **{"input_gradient": True, **options},
    )


def to_kernel_layer(layer: oracle.Layer, **changes: Any) -> _kernels.Layer:
    """The layer as the compiled module takes it; its arrays are shared."""
    fields = {f.name: getattr(layer, f.name) for f in dataclasses.fields(layer)}
    return _kernels.Layer(**{**fields, **changes})


def _copy(layer: oracle.Layer) -> oracle.Layer:
    return dataclasses.replace(
        layer,
        kernel=layer.kernel.copy(),
        bias=None if layer.bias is None else layer.bias.copy(),
        kernel_slots=tuple(slot.copy() for slot in layer.kernel_slots),
        bias_slots=tuple(slot.copy() for slot in layer.bias_slots),
    )


def assert_same_bits_whatever_the_thread_count(
    problem: Problem,
    run: Callable[..., Any] = run_kernel,
    counts: Sequence[int] = (1, 2, 3, 7, 16),
) -> None:
    """Compares all results of `run(problem, num_threads=...)` with those of one thread."""
    once = results(*run(problem, num_threads=1))
    for num_threads in counts:
        again = results(*run(problem, num_threads=num_threads))
        for name, value in once.items():
            assert value.tobytes() == again[name].tobytes(), f"{name}, {num_threads} threads"
