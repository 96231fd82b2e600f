"""What the tests run in the process with two CPUs, besides training."""

from __future__ import annotations

import contextlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import splitop
from tests.distribute.replicas import CPUS, strategy_of

tf1 = tf.compat.v1

WIDTH = 40
X = np.random.default_rng(0).normal(size=(2, 6, WIDTH))


def _layer(inside: bool = True) -> Any:
    """A dense layer, built in the scope of the strategy or outside of it."""
    with strategy_of().scope() if inside else contextlib.nullcontext():
        layer = keras.layers.Dense(WIDTH, "tanh", dtype="float64")
        layer.build((None, WIDTH))
        return layer


def _momentum(layer: Any, inside: bool = True) -> Any:
    with strategy_of().scope() if inside else contextlib.nullcontext():
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        if inside:
            optimizer.build(layer.trainable_variables)
        return optimizer


def _plan(layer: Any, optimizer: Any, x: Any = X[0], **options: Any) -> splitop.Plan:
    iv = layer(tf.constant(x))
    return splitop.plan(optimizer, iv, layer.trainable_variables, tf.sin(iv), **options)


def _on_replicas(build: Any) -> list[Any]:
    """What `build` returns on each replica of a tf.function's step, which runs once."""
    results: list[Any] = []
    function = tf.function(
        lambda: strategy_of().run(lambda: results.append(build())), autograph=False
    )
    function()
    return results


def outside_of_run() -> None:
    layer = _layer()
    with strategy_of().scope():
        tf.function(lambda: _plan(layer, _momentum(layer)) and None, autograph=False)()


def in_a_branch() -> None:
    layer = _layer()
    optimizer = _momentum(layer)

    def branch() -> tf.Tensor:
        _plan(layer, optimizer).apply()
        return tf.constant(True)

    no = tf.constant(False)
    _on_replicas(lambda: tf.cond(tf.reduce_all(layer.bias.value >= 0), branch, lambda: no))


def variable_from_outside() -> None:
    layer = _layer()
    optimizer, other = _momentum(layer), _layer(inside=False)
    _on_replicas(lambda: _plan(other, optimizer))


def optimizer_from_outside() -> None:
    layer = _layer()
    optimizer = _momentum(layer, inside=False)
    _on_replicas(lambda: _plan(layer, optimizer).apply() and None)


def global_step_from_outside() -> None:
    layer = _layer()
    optimizer, counter = _momentum(layer), tf.Variable(0, name="counter")
    _on_replicas(lambda: _plan(layer, optimizer).apply(global_step=counter) and None)


def outside_of_the_strategy() -> dict[str, str]:
    """The reasons of a plan for the variables of a strategy, where there are no replicas."""
    layer = _layer()
    optimizer = _momentum(layer)
    plans: list[splitop.Plan] = []
    tf.function(lambda: plans.append(_plan(layer, optimizer)), autograph=False)()
    return plans[0].declined


def backend_around_run(backend: str) -> list[tuple[str, ...]]:
    """What is fused on each replica if the backend is set by a `with` block around all."""
    layer = _layer()
    optimizer = _momentum(layer)
    with splitop.backend(backend):
        return [plan.fused for plan in _on_replicas(lambda: _plan(layer, optimizer))]


def unlike_replicas() -> tuple[dict[str, str], float]:
    """The reasons where one replica computes with Wᵀ; how far its step is from SGD's."""
    with strategy_of().scope():
        w = tf.Variable(np.eye(WIDTH), name="w")
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build([w])
    before = w.numpy()

    def build() -> splitop.Plan:
        first = tf.distribute.get_replica_context().replica_id_in_sync_group
        transposed = bool(tf.get_static_value(first) == 1)
        iv = tf.matmul(tf.constant(X[0]), w, transpose_b=transposed)
        plan = splitop.plan(optimizer, iv, [w], tf.constant(X[1]))
        plan.apply()
        return plan

    plan, _ = _on_replicas(build)
    gradient = X[0].T @ X[1]
    return plan.declined, float(abs(w.numpy() - before + 0.1 * (gradient + gradient.T)).max())


def sum_that_overflows(gathered: bool, skip_nonfinite: bool) -> np.ndarray:
    """A weight of zeros after a step with a gradient that is finite on each replica only."""
    with strategy_of().scope():
        w = tf.Variable(np.zeros((WIDTH, WIDTH), "float32"))
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build([w])

    def build() -> splitop.Plan:
        x = tf.constant(np.full((1, WIDTH), 1e19, "float32"))
        if not gathered:
            x = tf1.placeholder_with_default(x, [None, WIDTH])
        iv = tf.matmul(x, w)
        plan = splitop.plan(optimizer, iv, [w], 2 * x + iv, skip_nonfinite=skip_nonfinite)
        plan.apply()
        assert bool(plan.chains) is gathered
        return plan

    _on_replicas(build)
    return w.numpy()


def seed_that_does_not_fit() -> tuple[str, bool]:
    """The error of a seed that has too many rows on one replica, and whether nothing changed."""
    layer = _layer()
    optimizer = _momentum(layer)

    def state() -> list[bytes]:
        variables = [*layer.variables, *optimizer.variables]
        copies = [strategy_of().experimental_local_results(v.value) for v in variables]
        return [copy.numpy().tobytes() for each in copies for copy in each]

    def in_replica(x: Any, rows: Any) -> None:
        iv, seed = layer(x), tf.ones(tf.stack([rows, WIDTH]), tf.float64)
        splitop.minimize(optimizer, iv, layer.trainable_variables, seed)

    @tf.function(autograph=False)
    def step(x: Any, rows: Any) -> None:
        strategy_of().run(in_replica, (x, rows))

    def rows_of(*rows: int) -> Any:
        return strategy_of().experimental_distribute_values_from_function(
            lambda context: tf.constant(rows[context.replica_id_in_sync_group])
        )

    x = tf.constant(X[0])
    step(x, rows_of(6, 6))
    before = state()
    try:
        step(x, rows_of(6, 7))
    except tf.errors.InvalidArgumentError as error:
        return str(error), state() == before
    return "no error", False


def train_in_graph(optimizer_name: str, backend: str) -> list[np.ndarray]:
    """Trains in a TF1 graph; gives the variables' values, both copies of each."""
    with tf.Graph().as_default():
        strategy = tf1.distribute.MirroredStrategy(CPUS)
        random = np.random.default_rng(1)
        with strategy.scope():
            variables = [
                tf1.get_variable("wide", initializer=random.normal(size=(WIDTH, WIDTH))),
                tf1.get_variable("narrow", initializer=random.normal(size=(WIDTH, 2))),
            ]
            optimizer = getattr(tf1.train, optimizer_name)(0.01)

        def in_replica() -> tf.Operation:
            x = tf.gather(X, tf.distribute.get_replica_context().replica_id_in_sync_group)
            iv = tf.matmul(tf.tanh(tf.matmul(x, variables[0])), variables[1])
            return splitop.minimize(optimizer, iv, variables, tf.sin(iv), backend=backend)

        step = tf.group(*strategy.experimental_local_results(strategy.run(in_replica)))
        with tf1.Session() as session:
            session.run(tf1.global_variables_initializer())
            for _ in range(3):
                session.run(step)
            copies = [strategy.experimental_local_results(variable) for variable in variables]
            return session.run([copy for each in copies for copy in each])


def with_sums_by_merge_call(backend: str) -> list[np.ndarray]:
    """The variables after steps in whose gradients TensorFlow builds the replicas in turns."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    strategy = tf.distribute.MirroredStrategy(
        CPUS, cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    with strategy.scope():
        x = keras.Input((5, 5, 8), dtype="float64")
        h = layers.Conv2D(8, 3, padding="same", dtype="float64")(x)
        h = layers.MaxPooling2D(dtype="float64")(layers.LayerNormalization(dtype="float64")(h))
        h = layers.BatchNormalization(synchronized=True, dtype="float64")(h)
        model = keras.Model(x, layers.Dense(2, dtype="float64")(layers.Flatten()(h)))
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(model.trainable_variables)
    random = np.random.default_rng(0)
    images = [tf.constant(random.normal(size=(3, 5, 5, 8))) for _ in CPUS]
    batch = strategy.experimental_distribute_values_from_function(
        lambda context: images[context.replica_id_in_sync_group]
    )

    def train(x: Any) -> None:
        iv = model(x, training=True)
        splitop.minimize(optimizer, iv, model.trainable_variables, tf.cos(iv), backend=backend)

    step = tf.function(lambda: strategy.run(train, args=(batch,)), autograph=False)
    for _ in range(2):
        step()
    return [variable.numpy() for variable in model.variables]
