"""jit_compile=True as users meet it: batches of any size, Keras' fit, other functions around."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop._src import library
from splitop._src.multi_tensor_update import UpdateArgs, multi_tensor_update
from splitop._src.ops import LayerArgs, dense_chain
from tests.planner.models import dense
from tests.xla.test_models import adam, inside_and_outside


def test_batches_of_any_size() -> None:
    random = np.random.default_rng(0)
    batches = [random.normal(size=(size, 8)) for size in (6, 1, 6, 17, 2)]

    def build(w: Any, x: Any) -> Any:
        return dense(w, "top", dense(w, "low", x, 7, "relu"), 5, "tanh")

    inside, _ = inside_and_outside(build, adam, batches)
    assert inside.fused_ops["DenseChain"] == 1


@pytest.mark.parametrize("workers", ["many layers", "one tensor"])
def test_the_same_bits_as_outside(workers: str) -> None:
    """What the ops compute from the same tensors does not depend on who runs them."""
    random = np.random.default_rng(0)

    def variable(*shape: int) -> tf.Variable:
        return tf.Variable(random.normal(size=shape).astype(np.float32))

    start = [variable(257, 513), variable(513), variable(513, 131), variable(131)]
    x = [random.normal(size=(67, width)).astype(np.float32) for width in (257, 513)]
    seed = random.normal(size=(67, 131)).astype(np.float32)
    hyper = np.array([0.01, 0.01, 0.1, 0.001, 1e-7], np.float32)

    def after(jit: bool) -> list[np.ndarray]:
        weights = [tf.Variable(w) for w in start]
        slots = [(tf.Variable(w * 0.1), tf.Variable(w * w)) for w in weights]
        gradients = [w.numpy() * 0.3 for w in weights]

        @tf.function(jit_compile=jit)
        def chain() -> Any:
            layers = [
                LayerArgs(
                    x=tf.constant(x[layer]),
                    reference=tf.constant(x[layer + 1]) if layer == 0 else None,
                    activation="tanh" if layer == 0 else "linear",
                    alpha=0.0,
                    kernel=weights[2 * layer],
                    bias=weights[2 * layer + 1],
                    kernel_slots=slots[2 * layer],
                    bias_slots=slots[2 * layer + 1],
                    kernel_decayed=True,
                    bias_decayed=False,
                    name=f"layer {layer}",
                )
                for layer in (1, 0)
            ]
            _, gradient = dense_chain(
                tf.constant(seed),
                layers,
                rule="adam",
                hyper=tf.constant(hyper),
                input_gradient=True,
                seed_name="seed",
            )
            return gradient

        @tf.function(jit_compile=jit)
        def update() -> None:
            multi_tensor_update(
                [
                    UpdateArgs(tf.constant(gradient), weight, slots_of_it, True, "w")
                    for gradient, weight, slots_of_it in zip(gradients, weights, slots, strict=True)
                ],
                rule="adam",
                hyper=tf.constant(hyper),
            )

        results = [chain()] if workers == "many layers" else [update()]
        tensors = [t for t in results if t is not None]
        return [t.numpy() for t in [*tensors, *weights, *(s for pair in slots for s in pair)]]

    for inside, outside in zip(after(True), after(False), strict=True):
        np.testing.assert_array_equal(inside, outside)


class Model(keras.Model):
    """A second part with a train_step of its own; its seed is that of a mean squared error."""

    def __init__(self) -> None:
        super().__init__()
        self.low = keras.layers.Dense(16, "relu", dtype="float64")
        self.top = keras.layers.Dense(4, dtype="float64")
        self.plan = None

    def call(self, x: Any) -> Any:
        return self.top(self.low(x))

    def train_step(self, data: Any) -> Any:
        x, y = (tf.cast(each, tf.float64) for each in data)
        iv = self(x, training=True)
        seed = 2 * (iv - y) / tf.cast(tf.size(iv), iv.dtype)
        self.plan = splitop.plan(self.optimizer, iv, self.trainable_variables, grad_ys=seed)
        self.plan.apply()
        return {"loss": tf.reduce_mean((iv - y) ** 2)}


def _fit(jit: bool | str) -> Model:
    keras.utils.set_random_seed(3)
    x = np.random.default_rng(0).normal(size=(50, 8))
    model = Model()
    model(x[:1])
    model.compile(keras.optimizers.Adam(0.01), jit_compile=jit)
    # The last batch has two rows.
    model.fit(x, np.tanh(x[:, :4]), batch_size=16, epochs=2, shuffle=False, verbose=0)
    return model


@pytest.mark.parametrize("jit", [True, "auto"])
def test_fit(jit: bool | str) -> None:
    inside, outside = _fit(jit), _fit(False)
    assert len(inside.plan.fused) == len(outside.plan.fused) == 4
    for one, other in zip(inside.variables, outside.variables, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-9, atol=1e-12)


def test_a_function_inside_a_compiled_one() -> None:
    kernel, optimizer, plans = tf.Variable(tf.ones([3, 2])), keras.optimizers.SGD(0.5), []

    @tf.function
    def step(x: Any) -> None:
        plans.append(splitop.plan(optimizer, tf.matmul(x, kernel), [kernel]))
        plans[-1].apply()

    tf.function(step, jit_compile=True)(tf.ones([4, 3]))
    assert plans[0].fused
    np.testing.assert_array_equal(kernel.numpy(), np.full([3, 2], -1.0))


def test_a_loop_of_steps() -> None:
    """The op in the body of an XLA loop."""

    def after(jit: bool) -> np.ndarray:
        kernel, optimizer = tf.Variable(tf.ones([3, 2])), keras.optimizers.SGD(0.01, momentum=0.9)
        optimizer.build([kernel])

        @tf.function(jit_compile=jit)
        def steps(x: Any) -> None:
            for _ in tf.range(3):
                splitop.minimize(optimizer, tf.tanh(tf.matmul(x, kernel)), [kernel])

        steps(tf.reshape(tf.range(12.0), [4, 3]))
        return kernel.numpy()

    np.testing.assert_allclose(after(True), after(False), rtol=1e-6)


def test_a_step_that_was_traced_outside() -> None:
    """XLA then compiles what the planner asks for outside, too: lookups, the forward pass."""
    library.load_xla()
    random = np.random.default_rng(0)
    ids = tf.constant(random.integers(0, 11, size=(6, 3)), tf.int32)
    seed = tf.constant(random.normal(size=(6, 5)).astype(np.float32))
    after = []
    for jit in (True, False):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((3,), dtype="int32", batch_size=6),
                keras.layers.Embedding(11, 4),
                keras.layers.Flatten(),
                keras.layers.Dense(5, "relu"),
            ]
        )
        step = _step(model)
        types = {op.type for op in step.graph.get_operations()}
        assert {"Splitop>TableLookup", "Splitop>DenseChain"} <= types
        outer = tf.function(step, jit_compile=jit, autograph=False)
        for _ in range(3):
            outer(ids, seed)
        after.append(model.get_weights())
    for inside, outside in zip(*after, strict=True):
        np.testing.assert_allclose(inside, outside, 1e-5, 1e-6)


def _step(model: Any) -> Any:
    variables = model.trainable_variables
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(variables)
    signature = [tf.TensorSpec([6, 3], tf.int32), tf.TensorSpec([6, 5], tf.float32)]

    @tf.function(input_signature=signature, autograph=False)
    def step(ids: Any, seed: Any) -> None:
        splitop.minimize(optimizer, model(ids), variables, seed, backend="fused")

    return step.get_concrete_function()
