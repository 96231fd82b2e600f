"""Models of several kinds: their plans, and twenty steps as the reference takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import splitop
from splitop._src import library
from tests.accuracy import assert_as_close_as_orders, rounded_otherwise
from tests.models.parts import PARTS, Expected
from tests.models.runs import RUNS, Arrays, FunctionRun, GraphRun, State
from tests.optimizers.test_numerics import KERAS_OPTIMIZERS, TF1_OPTIMIZERS
from tests.planner.training import kernels_of, plain_names
from tests.plans import fusing

STEPS, BATCH, OTHERS = 20, 6, 8
ROUNDED = 4  # steps, whose roundings of half an ulp each add up to about one ulp
RATE = 0.02
# What Ftrl's own options do is tests/optimizers' business.
OPTIMIZERS = {
    flavour: {
        name: make for name, make in made.items() if name not in ("ftrl strong", "ftrl shrinking")
    }
    for flavour, made in (("keras", KERAS_OPTIMIZERS), ("tf1", TF1_OPTIMIZERS))
}

Batches = list[tuple[Arrays, np.ndarray]]

# Building it takes ten times as long as building all others, and one op updates all of its
# variables: the rule with most slots; all others are the small CNN's.
MOBILENET = ("amsgrad",)
# Slices of an id that is repeated are taken one by one, which no fused step does for these.
ONE_BY_ONE = ("adadelta", "adamax")
# Its rule is for tables, and not fused with the backward pass of dense layers.
ROWWISE = "rowwise adagrad"
KERAS_CASES = [
    pytest.param("keras", part, name, marks=pytest.mark.slow if part == "mobilenet" else ())
    for part in PARTS
    for name in OPTIMIZERS["keras"]
    if (part != "mobilenet" or name in MOBILENET) and (part == "dlrm" or name != ROWWISE)
]
TF1_CASES = [("tf1", part, name) for part in ("dlrm", "tied") for name in OPTIMIZERS["tf1"]]


@pytest.mark.parametrize(("flavour", "part", "name"), [*KERAS_CASES, *TF1_CASES])
def test_twenty_steps(flavour: str, part: str, name: str) -> None:
    expected, make = PARTS[part], _maker(flavour, name)
    fused, plain = (RUNS[flavour](expected.part, make, path) for path in ("auto", "reference"))
    try:
        # Of a row's slices, Keras' centered RMSprop takes the squares and subtracts the square of
        # the sum, which is a root of less than 0 where an id is repeated.
        batches = _batches(expected, plain.model, repeated="centered" not in name)
        if part == "mobilenet":
            _assert_same_steps(expected, fused, plain, batches)
        else:
            start = plain.state()
            _assert_same_states(expected, fused, plain, batches)
            _assert_trained(expected, start, fused.state())
    finally:
        fused.close()
        plain.close()
    assert plain.plan.fused == ()
    _assert_tables_as_planned(fused.plan, expected, flavour == "keras" and name in ONE_BY_ONE)
    if name == ROWWISE:
        assert fused.plan.chains == ()
    else:
        _assert_dense_as_planned(fused.plan, expected, fused.model)


# Of the rules, whose steps inside XLA tests/xla compares one by one: the one that everybody takes.
@pytest.mark.parametrize(
    "part", [pytest.param(p, marks=pytest.mark.slow if p == "mobilenet" else ()) for p in PARTS]
)
def test_twenty_steps_inside_xla(part: str) -> None:
    """As outside of it, each step from where the one before has led outside."""
    if library.xla_reason() is not None:
        pytest.skip(str(library.xla_reason()))
    expected, make = PARTS[part], _maker("keras", "sgd" if part == "mobilenet" else "adam")
    inside, outside = (FunctionRun(expected.part, make, "fused", jit) for jit in (True, False))
    batches = _batches(expected, outside.model, repeated=True)
    _assert_same_steps(expected, inside, outside, batches)
    assert fusing(inside.plan) == fusing(outside.plan)


def _assert_same_steps(
    expected: Expected,
    run: FunctionRun | GraphRun,
    reference: FunctionRun | GraphRun,
    batches: Batches,
) -> None:
    """After each step from where the one before has led the reference.

    Not from one start: what rounding does to MobileNetV2 grows a thousandfold every few steps. Nor
    is the moving mean of what has just been normalised compared: it is zero but for rounding, and
    the sums of the convolution before it are in an order of their own.
    """
    start = reference.state()
    for batch in batches:
        _assert_same_states(expected, run, reference, [batch], without="moving_mean")
    _assert_trained(expected, start, run.state())


def _assert_same_states(
    expected: Expected,
    run: FunctionRun | GraphRun,
    reference: FunctionRun | GraphRun,
    batches: Batches,
    without: str | None = None,
) -> None:
    """After a step on each batch from where the reference is, and leaves that where it has led.

    `without`: a word in the names of what is not compared.
    """
    start = reference.state()
    received = _train(run, start, batches)
    others = [
        _train(reference, start, batches, np.random.default_rng(number)) for number in range(OTHERS)
    ]
    result = _train(reference, start, batches)
    received, result, start, *others = (
        {
            name: value
            for name, value in state.items()
            if expected.has_gradient(name) and (without is None or without not in name)
        }
        for state in (received, result, start, *others)
    )
    assert_as_close_as_orders(received, result, others, start)


def _assert_trained(expected: Expected, start: State, end: State) -> None:
    """That each weight and slot has changed."""
    assert all(
        np.any(value != start[name])
        for name, value in end.items()
        if expected.has_gradient(name) and _is_trained(value)
    )


def _maker(flavour: str, name: str) -> Callable[[], Any]:
    return lambda: OPTIMIZERS[flavour][name](RATE)


def _batches(expected: Expected, model: Any, repeated: bool) -> Batches:
    """`repeated`: whether an id may be looked up twice in a batch."""
    random = np.random.default_rng(1)
    batches = []
    for _ in range(STEPS):
        inputs = expected.part.inputs(model, BATCH, random)
        if not repeated:
            inputs = [_distinct(x, expected.part.ids, random) for x in inputs]
        (iv,) = model.outputs
        batches.append((inputs, 0.1 * random.normal(size=(BATCH, *iv.shape[1:]))))
    return batches


def _distinct(x: np.ndarray, ids: int | None, random: np.random.Generator) -> np.ndarray:
    """Other ids, none of them twice; or `x` if it does not hold ids."""
    if ids is None or x.dtype.kind != "i":
        return x
    return random.permutation(ids)[: x.size].reshape(x.shape).astype(x.dtype)


def _train(
    run: FunctionRun | GraphRun,
    start: State,
    batches: Batches,
    otherwise: np.random.Generator | None = None,
) -> State:
    """The state after a step on each batch; `otherwise`: had everything been rounded otherwise."""
    run.set_state(start)
    for number, (inputs, seed) in enumerate(batches):
        if otherwise is None:
            run.step(inputs, seed)
            continue
        if number % ROUNDED == 0:
            run.set_state(_rounded_otherwise(run.state(), otherwise))
        order = otherwise.permutation(BATCH)
        run.step([x[order] for x in inputs], rounded_otherwise(seed[order], otherwise))
    return run.state()


def _is_trained(value: np.ndarray) -> bool:
    """Whether it is a weight or a slot: no counter, no state of a random generator."""
    return value.size > 1 and value.dtype.kind == "f"


def _rounded_otherwise(state: State, random: np.random.Generator) -> State:
    """All weights and slots; hyperparameters and counters stay as they are."""
    return {
        name: rounded_otherwise(value, random) if _is_trained(value) else value
        for name, value in state.items()
    }


def _assert_tables_as_planned(
    plan: splitop.Plan, expected: Expected, declines_tables: bool
) -> None:
    tables = [f"{table}/embeddings" for table in expected.tables]
    declined = plain_names(plan.declined)
    if declines_tables:
        assert list(declined) == tables
        assert all("looked up twice one by one" in why for why in declined.values())
    else:
        assert declined == {}
        assert [each.table.removesuffix(":0") for each in plan.tables] == tables


def _assert_dense_as_planned(plan: splitop.Plan, expected: Expected, model: Any) -> None:
    chains = {tuple(f"{layer}/kernel" for layer in chain) for chain in expected.chains}
    assert kernels_of(plan) == chains
    layers = [layer for chain in plan.chains for layer in chain.layers]
    assert all(layer.bias == layer.kernel.replace("kernel", "bias") for layer in layers)
    reasons, updated = plain_names(plan.updated), expected.updated(model)
    assert reasons.keys() == updated.keys()
    for variable, words in updated.items():
        assert words in reasons[variable], variable
