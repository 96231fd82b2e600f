"""What SplitStep refuses, and that nothing is written then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from tests.split_step.parts import First, Trained
from tests.two_run.test_flow import PATHS, assert_equal, moved


def ready(**options: Any) -> tuple[Trained, Any]:
    """A model after a step and another forward pass, and the seed of this one."""
    each = Trained(**options)
    each.in_parts(0)
    x, y = each.batch(1)
    return each, each.step.train_first(each.step.forward_second(x), y).seed


def refuses(each: Trained, error: type[Exception], message: str, call: Callable[[], Any]) -> None:
    before = each.state()
    with pytest.raises(error, match=message):
        call()
    assert moved(before, each.state()) == set()


class TestTheStash:
    def test_is_missing(self) -> None:
        each = Trained()
        message = r"call forward_second.*Received: no forward pass"
        refuses(each, splitop.StashError, message, each.step.train_second)

    def test_is_used_up(self) -> None:
        each, seed = ready()
        each.step.train_second(seed)
        message = r"uses it up. Received: no forward pass since"
        refuses(each, splitop.StashError, message, lambda: each.step.train_second(seed))

    def test_is_forgotten_by_step(self) -> None:
        each, seed = ready()
        each.in_one(2)
        message = r"Received: no forward pass since"
        refuses(each, splitop.StashError, message, lambda: each.step.train_second(seed))

    @pytest.mark.parametrize("path", PATHS)
    def test_is_stale(self, path: str) -> None:
        # Pitfall 14.
        each, seed = ready(backend=path)
        kernel = each.second.layers[0].kernel
        kernel.assign(kernel.value * 1.5)
        message = rf'the weights have moved.*Received: a write to "{kernel.path}"'
        refuses(each, splitop.StashError, message, lambda: each.step.train_second(seed))

    def test_can_be_stale_when_it_recomputes(self) -> None:
        """The forward pass is of the new weights then, and so is the gradient."""
        each, seed = ready(forward="recompute")
        kernel = each.second.layers[0].kernel
        kernel.assign(kernel.value * 1.5)
        each.step.train_second(seed)

    def test_is_of_another_batch(self) -> None:
        each, seed = ready()
        each.step.forward_second(each.batch(2)[0])
        message = r"the seed of forward pass 2, where the last one is 3"
        refuses(each, splitop.StashError, message, lambda: each.step.train_second(seed))

    def test_has_no_seed(self) -> None:
        each, _ = ready()
        each.step.forward_second(each.batch(2)[0])
        message = r"given no seed.*Received: None"
        refuses(each, splitop.StashError, message, each.step.train_second)

    def test_is_kept_when_the_seed_does_not_fit(self) -> None:
        each, seed = ready()
        with pytest.raises(splitop.SeedError):
            each.step.train_second(seed[:2])
        before = each.state()
        each.step.train_second(seed)
        assert moved(before, each.state())


class TestTheSeed:
    # Pitfalls 4 to 7.
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda seed: seed[:, :1], r"shape \(6, 4\)\. Received: .*\(6, 1\)"),
            (lambda seed: seed[:5], r"shape \(6, 4\)\. Received: .*\(5, 4\)"),
            (lambda seed: tf.cast(seed, tf.float64), r"float32.*Received: .*float64"),
            (lambda seed: [seed], r"structure of iv\. Expected: .*Received: \["),
            (lambda seed: "seed", r"float32.*Received: 'seed'"),
            (lambda seed: np.ones((6, 4), np.int32), r"float32.*Received: .*int32"),
        ],
    )
    def test_does_not_fit(self, change: Callable[[Any], Any], message: str) -> None:
        each, seed = ready()
        refuses(each, splitop.SeedError, message, lambda: each.step.train_second(change(seed)))

    def test_may_be_an_array(self) -> None:
        arrays, tensors = ready(), ready()
        arrays[0].step.train_second(arrays[1].numpy())
        tensors[0].step.train_second(tensors[1])
        assert_equal(arrays[0].state(), tensors[0].state())

    @pytest.mark.parametrize("path", PATHS)
    def test_is_not_finite(self, path: str) -> None:
        each, seed = ready(backend=path, check_numerics=True)
        message = r"must be finite. Received: NaN or Inf in 24 of its 24 elements"
        refuses(each, splitop.SeedError, message, lambda: each.step.train_second(seed * np.nan))
        each.step.train_second(seed)


class TestTheModel:
    def test_one_optimizer(self) -> None:
        # Pitfall 20.
        adam = keras.optimizers.Adam()
        with pytest.raises(splitop.SplitError, match=r"two objects.*Received: .*Adam"):
            splitop.SplitStep(
                First(), First(), lambda y, z: z, first_optimizer=adam, second_optimizer=adam
            )

    def test_unknown_forward(self) -> None:
        with pytest.raises(splitop.SplitError, match=r'"recompute", "stash"\. Received: \'twice\''):
            Trained(forward="twice")

    @pytest.mark.parametrize(
        ("argument", "value", "received"),
        [
            ("second_optimizer", "adam", "'adam'"),
            ("first_optimizer", None, "None"),
            ("backend", "fussed", "'fussed'"),
            ("sparse", "sparse", "'sparse'"),
        ],
    )
    def test_an_argument_that_does_not_fit(self, argument: str, value: Any, received: str) -> None:
        given = {f"{part}_optimizer": keras.optimizers.Adam() for part in ("first", "second")}
        with pytest.raises(splitop.SplitError, match=f"Received: .*{received}"):
            splitop.SplitStep(First(), First(), lambda y, z: z, **{**given, argument: value})

    def test_no_variables(self) -> None:
        step = splitop.SplitStep(
            lambda x: x * 2.0,
            First(),
            lambda y, z: z,
            first_optimizer=keras.optimizers.SGD(),
            second_optimizer=keras.optimizers.SGD(),
        )
        with pytest.raises(splitop.VariableListError, match=r"second_vars\. Received: .*function"):
            step.forward_second(tf.ones([2, 3]))

    def test_a_shared_variable(self) -> None:
        dense = keras.layers.Dense(3)
        step = splitop.SplitStep(
            keras.Sequential([dense]),
            keras.Sequential([dense]),
            lambda y, z: tf.reduce_sum(z),
            first_optimizer=keras.optimizers.SGD(),
            second_optimizer=keras.optimizers.SGD(),
        )
        with pytest.raises(splitop.VariableListError, match=r"must not share variables.*kernel"):
            step.step(tf.ones([2, 3]), None)

    def test_an_integer_vector(self) -> None:
        # Pitfall 10.
        w = tf.Variable([[1.0]])
        step = splitop.SplitStep(
            lambda x: tf.argmax(x @ w, 1),
            First(),
            lambda y, z: z,
            first_optimizer=keras.optimizers.SGD(),
            second_optimizer=keras.optimizers.SGD(),
            second_vars=[w],
        )
        with pytest.raises(splitop.CutError, match="int64"):
            step.forward_second(tf.ones([2, 1]))

    @pytest.mark.parametrize("name", ["forward_second", "train_first", "train_second"])
    def test_in_a_function(self, name: str) -> None:
        each = Trained()
        arguments = {"forward_second": [1.0], "train_first": [1.0, 1], "train_second": [1.0]}[name]

        @tf.function
        def inside() -> None:
            getattr(each.step, name)(*arguments)

        with pytest.raises(splitop.SplitError, match=rf"{name} is a function call of its own"):
            inside()

    def test_step_in_a_function(self) -> None:
        each, plain = Trained(), Trained()
        inside = tf.function(each.step.step)
        for number in range(2):
            inside(*map(tf.constant, each.batch(number)))
            plain.in_one(number)
        assert_equal(each.state(), plain.state())


@pytest.mark.parametrize("wrong", ["no rows", "width", "no labels"])
def test_a_first_step_that_fails(wrong: str) -> None:
    """The optimizers are not built then."""
    each, untouched = Trained(), Trained()
    x, y = each.batch(0)
    args = {"no rows": (x[:0], y[:0]), "width": (x[:, :3], y), "no labels": (x, None)}[wrong]
    with pytest.raises((ValueError, splitop.CutError)):
        each.step.step(*args)
    for number in range(3):
        assert each.in_one(number) == untouched.in_one(number)
    assert_equal(each.state(), untouched.state())


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")  # Keras' own.
def test_a_mask_that_would_get_lost() -> None:
    second = keras.Sequential(
        [keras.Input((4,), dtype="int32"), keras.layers.Embedding(9, 5, mask_zero=True)]
    )
    first = keras.Sequential(
        [keras.Input((4, 5)), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(3)]
    )
    ids, y = tf.constant([[1, 2, 0, 0], [3, 0, 0, 0]]), tf.constant([0, 1])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    step = splitop.SplitStep(
        second,
        first,
        loss,
        first_optimizer=keras.optimizers.SGD(0.1),
        second_optimizer=keras.optimizers.SGD(0.1),
    )
    with pytest.raises(splitop.CutError, match=r"Keras mask.*SplitStep\.step.*with a mask"):
        step.forward_second(ids)
    expected = loss(y, first(second(ids)))
    np.testing.assert_allclose(step.step(ids, y), expected, 1e-6)


class TestStrategies:
    def test_in_the_scope(self) -> None:
        with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
            each = Trained()
            with pytest.raises(splitop.SplitError, match=r"on one replica.*MirroredStrategy of 2"):
                each.step.forward_second(each.batch(0)[0])

    def test_made_in_the_scope(self) -> None:
        with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
            each = Trained()
        with pytest.raises(splitop.VariableListError, match=r"a copy on each replica.*Received: "):
            each.step.forward_second(each.batch(0)[0])
