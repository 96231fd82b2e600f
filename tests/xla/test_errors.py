"""Inside jit_compile=True: bad input gets the errors that it gets outside, and writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from tests.planner.models import DTYPE, Weights, dense
from tests.planner.training import name_of

BATCH = 4
UNFIT = tf.errors.InvalidArgumentError


class Part:
    """x -> relu -> iv [batch, 2], with a seed and ids of a table; `build` computes iv."""

    def __init__(self, build: Callable[..., Any], seed_shape: Any = (None, 2), **options: Any):
        self.weights = Weights()
        self.inputs = {
            "x": np.random.default_rng(0).normal(size=(BATCH, 3)),
            "ids": np.array([1, 0, 2, 1]),
            "seed": np.ones([BATCH, 2]),
        }
        build(self.weights, tf.constant(self.inputs["x"]), tf.constant(self.inputs["ids"]))
        optimizer = keras.optimizers.Adam(0.1)
        optimizer.build(self.weights.variables)
        self.variables = [*self.weights.variables, *optimizer.variables]
        specs = [
            tf.TensorSpec([None, 3], DTYPE),
            tf.TensorSpec([None], tf.int64),
            tf.TensorSpec(seed_shape, DTYPE),
        ]

        @tf.function(input_signature=specs, autograph=False, jit_compile=True)
        def step(x: Any, ids: Any, seed: Any) -> None:
            iv = build(self.weights, x, ids)
            self.plan = splitop.plan(optimizer, iv, self.weights.variables, seed, **options)
            self.plan.apply()

        self.step = step

    def state(self) -> dict[str, np.ndarray]:
        return {name_of(variable): np.asarray(variable) for variable in self.variables}

    def run(self, **inputs: Any) -> None:
        self.step(*({**self.inputs, **inputs}.values()))

    def fails(self, match: str, **inputs: Any) -> None:
        """Asserts that a step fails, leaves everything as it was, and that the next one trains.

        Where it fails only while it runs, what splitop does not train may have changed.
        """
        before = self.state()
        with pytest.raises(UNFIT, match=match) as error:
            self.run(**inputs)
        late = "counters and variables that are not fused may have changed" in str(error.value)
        for (name, old), new in zip(before.items(), self.state().values(), strict=True):
            if not late or self.is_fused(name):
                np.testing.assert_array_equal(old, new, err_msg=name)
        assert late == ("Received: NaN" in str(error.value) or "ids of" in str(error.value))
        self.run()
        assert any((before[name] != value).any() for name, value in self.state().items())

    def is_fused(self, name: str) -> bool:
        """Whether a variable is fused, or a slot of one that is."""
        fused = [each.removesuffix(":0").replace("/", "_") for each in self.plan.fused]
        return any(each in name.replace("/", "_") for each in fused)


def chain(w: Weights, x: Any, ids: Any) -> Any:
    return dense(w, "top", dense(w, "low", x, 3, "relu"), 2)


def not_a_chain(w: Weights, x: Any, ids: Any) -> Any:
    return tf.matmul(x * w("scale", 3), w("top_k", 3, 2)) * w("gain", 2)


def with_a_table(w: Weights, x: Any, ids: Any) -> Any:
    return chain(w, x + tf.gather(w("table", 5, 3), ids), ids)


def table_alone(w: Weights, x: Any, ids: Any) -> Any:
    return tf.gather(w("table", 5, 2), ids)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("build", [chain, not_a_chain])
class TestTheSeed:
    def test_of_another_batch(self, build: Any, backend: str) -> None:
        part = Part(build, backend=backend)
        part.fails(r"splitop: SeedError: .*seed", seed=np.ones([BATCH - 1, 2]))

    @pytest.mark.parametrize("shape", [(BATCH, 1), (BATCH,), (2, BATCH), (1, BATCH, 2), ()])
    def test_of_unknown_rank(self, build: Any, backend: str, shape: tuple[int, ...]) -> None:
        part = Part(build, None, backend=backend)
        shown = " ".join(map(str, shape))
        part.fails(
            rf"SeedError: the seed seed:0 must have the shape.*Expected: \[4 2\] "
            rf"Received: \[{shown}\]",
            seed=np.ones(shape),
        )

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_that_is_not_finite(self, build: Any, backend: str, value: float) -> None:
        seed = np.ones([BATCH, 2])
        seed[1, 1] = value
        part = Part(build, backend=backend, check_numerics=True)
        part.fails(r"SeedError: the seed seed:0 of .* must be finite", seed=seed)


@pytest.mark.parametrize("ids", [(1, 0, 5, 1), (1, -1, 2, 1)])
class TestIds:
    def test_of_one_of_several_ops(self, ids: tuple[int, ...]) -> None:
        part = Part(with_a_table)
        assert {"table", "low_k"} <= {name.removesuffix(":0") for name in part_names(part)}
        part.fails(
            rf"SplitError: the ids of table:0 must be in \[0, 5\). Received: from {min(ids)} to "
            rf"{max(ids)}",
            ids=np.array(ids),
        )

    def test_of_the_only_op(self, ids: tuple[int, ...]) -> None:
        part = Part(table_alone)
        bad = next(i for i in ids if not 0 <= i < 5)
        part.fails(
            rf'SplitError: the ids of "table:0" must be in \[0, 5\). Received: {bad} at position',
            ids=np.array(ids),
        )

    def test_of_a_step_with_a_declined_variable(self, ids: tuple[int, ...]) -> None:
        def build(w: Weights, x: Any, ids: Any) -> Any:
            bound = w.layer("b", keras.layers.Dense, x, units=3, kernel_constraint="unit_norm")
            return with_a_table(w, bound, ids)

        part = Part(build)
        part.fails("SplitError: the ids of table:0", ids=np.array(ids))
        assert list(part.plan.declined) == ["b/kernel"]


def part_names(part: Part) -> tuple[str, ...]:
    part.run()
    return part.plan.fused


def test_sizes_that_depend_on_values() -> None:
    def build(w: Weights, x: Any, ids: Any) -> Any:
        return dense(w, "top", tf.boolean_mask(x, ids > 0), 2, "relu")

    part = Part(build)
    with pytest.raises(tf.errors.OpError, match=r"splitop: .*known when XLA compiles it"):
        part.run(seed=np.ones([BATCH, 2]))


def test_an_empty_batch() -> None:
    part = Part(chain)
    part.fails(
        "at least one row", x=np.ones([0, 3]), ids=np.zeros([0], np.int64), seed=np.ones([0, 2])
    )
