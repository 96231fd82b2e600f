"""Fused training steps against the float64 oracle, through the public API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import oracle
from tests.accuracy import PRECISIONS, assert_accurate, few_ulp, results
from tests.forward_pass import few_ulp_of_both, with_forward
from tests.numerics.optimizers import KERAS, TF1
from tests.numerics.trainers import (
    CPU,
    POLICIES,
    START,
    TRAINERS,
    ChainSpec,
    Path,
    State,
    oracle_layers,
    random_state,
)
from tests.op.gpu import has_kernels_of_tensorflow, on_gpu

STEPS = 5
ALL_OPTIMIZERS = [("tf1", name) for name in TF1] + [("keras", name) for name in KERAS]
# Those whose rules GPUs fuse with dense chains.
OPTIMIZERS = [
    (flavour, name)
    for flavour, name in ALL_OPTIMIZERS
    if (TF1 if flavour == "tf1" else KERAS)[name].rule in ("sgd", "momentum", "adam")
]


@pytest.fixture(autouse=True)
def _full_precision() -> Iterator[None]:
    """TensorFlow's default lets a GPU round to TF32."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    yield
    tf.config.experimental.enable_tensor_float_32_execution(before)


def check_steps(
    flavour: str,
    rule: str,
    specs: Sequence[ChainSpec],
    precision: str,
    batch: int,
    device: str = CPU,
    loss_scale: float | None = None,
    jit: bool = False,
) -> None:
    """Five fused steps; each is compared with the plain path and the oracle from its start.

    `loss_scale`: that of a LossScaleOptimizer around Keras' optimizer, a power of two. `jit`:
    whether XLA compiles the fused steps.
    """
    recipe = (TF1 if flavour == "tf1" else KERAS)[rule]
    dtypes = PRECISIONS[precision]
    state = random_state(specs, recipe, dtypes.variables)
    plain_device = device if has_kernels_of_tensorflow(device) else CPU
    options = {} if loss_scale is None else {"loss_scale": loss_scale}
    fused, plain = (
        TRAINERS[flavour](specs, rule, path, precision, state, **options)
        for path in (Path("fused", device, jit), Path("reference", plain_device))
    )
    try:
        random = np.random.default_rng(9)
        dtype = dtypes.tensors
        for t in range(START + 1, START + 1 + STEPS):
            xs = [random.normal(size=(batch, s.widths[0])).astype(dtype) for s in specs]
            seeds = [random.normal(size=(batch, s.widths[-1])).astype(dtype) for s in specs]
            plain.set_state(state)
            scaled = [(seed * (loss_scale or 1)).astype(dtype) for seed in seeds]
            plain.step(xs, scaled)
            tensors = fused.step(xs, scaled)
            after, after_plain = fused.state(), plain.state()
            for c, spec in enumerate(specs):
                layers = [
                    oracle_layers(c, spec, tensors[c], s, recipe, dtypes)
                    for s in (state, after, after_plain)
                ]
                rest = (recipe.rule, recipe.hyper(t))
                if any(chain.forward for chain in fused.plan.chains):
                    # What the op read of its forward pass no one has seen.
                    layers[0] = with_forward(layers[0], np.float64)
                    few = few_ulp_of_both(seeds[c], layers[0], *rest, dtypes)
                else:
                    few = few_ulp(seeds[c], layers[0], *rest, dtypes)
                exact, _ = oracle.dense_chain(seeds[c], layers[0], *rest)
                del few["input gradient"]
                assert_accurate(
                    results(layers[1], None), results(layers[2], None), results(exact, None), few
                )
            state = after
        assert not fused.plan.declined
        assert not plain.plan.fused
        assert jit or {place[-5:] for place in fused.devices} == {device[-5:]}
        assert_moved(random_state(specs, recipe, dtypes.variables), state, plain.state())
    finally:
        fused.close()
        plain.close()


def assert_moved(before: State, after: State, plain: State) -> None:
    """What a few relus shut off altogether, the plain path does not move either."""
    for name, value in before.items():
        still = np.array_equal(value, after[name])
        assert still == np.array_equal(value, plain[name]), f"{name} was not updated"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize(("flavour", "rule"), OPTIMIZERS)
def test_every_activation(flavour: str, rule: str, shift: int, precision: str) -> None:
    """As many chains in one model as there are activations, of one to four layers."""
    widths = (23, 17, 29, 13, 19)
    specs = [
        ChainSpec(
            widths=tuple(w + c for w in widths[: 2 + (c + 2 * shift) % 4]),
            activation=activation,
            use_bias=(c + shift) % 2 == 0,
        )
        for c, activation in enumerate(oracle.ACTIVATIONS)
    ]
    check_steps(flavour, rule, specs, precision, batch=11)


@pytest.mark.parametrize(
    ("flavour", "name"), [each for each in ALL_OPTIMIZERS if each not in OPTIMIZERS]
)
def test_every_other_optimizer(flavour: str, name: str) -> None:
    check_steps(flavour, name, [ChainSpec((23, 17, 29), "tanh", True)], "float32", batch=11)


@pytest.mark.slow
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_size(data: st.DataObject) -> None:
    flavour, rule = data.draw(st.sampled_from(OPTIMIZERS))
    size = st.one_of(st.sampled_from([1, 2, 3, 31, 97, 769, 2053]), st.integers(1, 300))
    depth = data.draw(st.integers(1, 4))
    widths = tuple(data.draw(st.lists(size, min_size=depth + 1, max_size=depth + 1)))
    spec = ChainSpec(
        widths, data.draw(st.sampled_from(list(oracle.ACTIVATIONS))), data.draw(st.booleans())
    )
    precision = data.draw(st.sampled_from(["float32", "float64"]))
    check_steps(flavour, rule, [spec], precision, data.draw(st.integers(1, 70)))


def test_an_output_near_the_bound_of_its_activation() -> None:
    """One ulp of y is a lot of y + 1, elu's gradient."""
    check_steps("keras", "momentum", [ChainSpec((2053, 769), "elu", False)], "float32", 1)


def test_a_model_of_a_few_thousand_units() -> None:
    check_steps("tf1", "adam", [ChainSpec((1031, 2053, 509), "relu", True)], "float32", 67)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("flavour", "rule", "loss_scale"),
    [("tf1", "momentum", None), ("keras", "adamw", None), ("keras", "adamw", 16.0)],
    ids=["tf1", "keras", "loss scale"],
)
def test_mixed_precision(flavour: str, rule: str, loss_scale: float | None, precision: str) -> None:
    specs = [ChainSpec((23, 17, 29, 13), activation, True) for activation in ("relu", "gelu")]
    check_steps(flavour, rule, specs, precision, 11, loss_scale=loss_scale)


@pytest.mark.parametrize("device", [on_gpu("/GPU:0", id="gpu")])
@pytest.mark.parametrize("precision", POLICIES)
@pytest.mark.parametrize(("flavour", "rule"), OPTIMIZERS)
def test_on_a_gpu(flavour: str, rule: str, precision: str, device: str) -> None:
    specs = [ChainSpec((23, 17, 29, 13), activation, True) for activation in ("relu", "tanh")]
    check_steps(flavour, rule, specs, precision, 11, device)
