"""Trains second parts on two replicas, in a process whose TensorFlow has two CPUs."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import splitop

layers, optimizers, tf1 = keras.layers, keras.optimizers, tf.compat.v1

CPUS = ("CPU:0", "CPU:1")
STEPS = 3
WIDTH, ROWS, LENGTH = 40, 30, 3
RATE = 0.01


def start() -> None:
    """Sets the process up."""
    os.environ.pop("SPLITOP_BACKEND", None)
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration() for _ in CPUS]
    )


_strategies: dict[int, Any] = {}


def strategy_of(count: int = 2) -> Any:
    """One object: those of a process share TensorFlow's keys of collective operations."""
    if count not in _strategies:
        _strategies[count] = tf.distribute.MirroredStrategy(CPUS[:count])
    return _strategies[count]


class SparseBags(layers.Layer):
    """tf.nn.embedding_lookup_sparse, which adds up the gradients of an id."""

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=(ROWS, 4), name="table")

    def call(self, ids: Any) -> Any:
        # An id of 0 is none, so that a bag may be empty.
        sparse = tf.sparse.from_dense(tf.cast(ids, tf.int64))
        sparse = tf.sparse.reset_shape(sparse, [tf.shape(ids)[0], LENGTH])
        return tf.nn.embedding_lookup_sparse(self.table.value, sparse, None, combiner="mean")


class RaggedBags(SparseBags):
    """A sum of lookups whose bags are numbered in 32 bits."""

    def call(self, ids: Any) -> Any:
        ragged = tf.RaggedTensor.from_tensor(ids, padding=0, row_splits_dtype=tf.int32)
        return tf.reduce_sum(tf.gather(self.table.value, ragged), 1)


def _part(first: Sequence[int], dtype: str, *rest: Any) -> Any:
    return keras.Sequential([keras.Input(tuple(first), dtype=dtype), *rest])


PARTS: dict[str, Callable[[], Any]] = {
    "wide": lambda: _part([WIDTH], "float64", layers.Dense(WIDTH + 5, "tanh"), layers.Dense(WIDTH)),
    "twice": lambda: _part([WIDTH], "float64", *([layers.Dense(WIDTH, "tanh")] * 2)),
    "narrow": lambda: _part([WIDTH], "float64", layers.Dense(3, "tanh"), layers.Dense(2)),
    "mixed": lambda: _part(
        [WIDTH],
        "float64",
        layers.Dense(WIDTH, "relu"),
        layers.LayerNormalization(),
        layers.Dense(WIDTH, use_bias=False),
        layers.Dense(2),
    ),
    "synchronized": lambda: _part(
        [WIDTH],
        "float64",
        layers.Dense(WIDTH, "tanh"),
        layers.BatchNormalization(synchronized=True),
        layers.Dense(WIDTH),
    ),
    "constraint": lambda: _part(
        [WIDTH],
        "float64",
        layers.Dense(WIDTH, "tanh"),
        layers.Dense(2, bias_constraint=keras.constraints.NonNeg()),
    ),
    "ids": lambda: _part([LENGTH], "int32", layers.Embedding(ROWS, 4), layers.Dense(2)),
    "bags": lambda: _part(
        [LENGTH],
        "int32",
        layers.Embedding(ROWS, 4),
        layers.GlobalAveragePooling1D(),
        layers.Dense(2),
    ),
    "sparse bags": lambda: _part([LENGTH], "int32", SparseBags(), layers.Dense(2)),
    "ragged bags": lambda: _part([LENGTH], "int32", RaggedBags(), layers.Dense(2)),
    **{
        policy: lambda policy=policy: _part(
            [WIDTH],
            "float64",
            layers.Dense(WIDTH, "tanh", dtype=policy),
            layers.Dense(WIDTH, dtype=policy),
        )
        for policy in ("mixed_float16", "mixed_bfloat16")
    },
}

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "Adam": lambda: optimizers.Adam(RATE),
    "AdamW": lambda: optimizers.AdamW(RATE, weight_decay=0.1),
    "SGD": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9),
    "Nadam": lambda: optimizers.Nadam(RATE),
    "schedule": lambda: optimizers.Adam(optimizers.schedules.ExponentialDecay(RATE, 1, 0.5)),
    "EMA": lambda: optimizers.Adam(RATE, use_ema=True, ema_momentum=0.5),
    "clipnorm": lambda: optimizers.Adam(RATE, clipnorm=0.5),
    "global_clipnorm": lambda: optimizers.SGD(0.1, global_clipnorm=0.5),
    "clipvalue": lambda: optimizers.SGD(0.1, momentum=0.9, clipvalue=0.05),
    "loss_scale_factor": lambda: optimizers.SGD(0.1, loss_scale_factor=8.0),
    "LossScaleOptimizer": lambda: optimizers.LossScaleOptimizer(
        optimizers.Adam(RATE, clipnorm=0.5), 8.0, dynamic_growth_steps=2
    ),
    "LossScaleOptimizer, global_clipnorm": lambda: optimizers.LossScaleOptimizer(
        optimizers.Adam(RATE, global_clipnorm=0.5), 8.0, dynamic_growth_steps=2
    ),
    "accumulating": lambda: optimizers.Adam(RATE, gradient_accumulation_steps=2),
    "overwriting": lambda: optimizers.Adam(RATE, use_ema=True, ema_overwrite_frequency=2),
    "Lamb": lambda: optimizers.Lamb(RATE),
    "tf1 Adam": lambda: tf1.train.AdamOptimizer(RATE),
    "tf1 Momentum": lambda: tf1.train.MomentumOptimizer(0.1, 0.9),
    "tf1 GradientDescent": lambda: tf1.train.GradientDescentOptimizer(0.1),
}


@dataclasses.dataclass
class Trained:
    """What training left behind.

    Attributes:
        values: Those of all variables, and of the optimizer's, by name.
        differing: Names of those whose copies were not the same bits after some step.
        updated: Why the backward pass of a variable was not fused.
        declined: Why a variable was not fused.
        ops: How many of splitop's ops of each type are in the graph.
    """

    values: dict[str, np.ndarray]
    differing: set[str]
    updated: dict[str, str]
    declined: dict[str, str]
    ops: dict[str, int]


def _batches(part: Any, sizes: Sequence[int], replicas: int, steps: int) -> Iterator[list[Any]]:
    """For each step a batch for each replica; a single one gets them all."""
    random = np.random.default_rng(2)
    for _ in range(steps):
        if part.input_dtype.startswith("int"):
            # Few ids, so that each replica looks most of them up more than once.
            own = [random.integers(0, ROWS // 4, (n, LENGTH)).astype("int32") for n in sizes]
        else:
            own = [random.normal(size=(n, WIDTH)) for n in sizes]
        yield own if replicas > 1 else [np.concatenate(own)]


def train(
    part_name: str,
    optimizer_name: str,
    backend: str,
    *,
    sizes: Sequence[int] = (6, 5),
    batch_is_known: bool = True,
    steps: int = STEPS,
    planted: int | None = None,
    global_step: bool = False,
    replicas: int = 2,
    **options: Any,
) -> Trained:
    """Trains one of PARTS by one of OPTIMIZERS, from a fixed start.

    Args:
        part_name: Its name.
        optimizer_name: Its name.
        backend: That of `splitop.plan`.
        sizes: How many rows the batch of each replica has.
        batch_is_known: Whether these are known when the graph is built.
        steps: How many.
        planted: The replica whose last batch has an infinity.
        global_step: Whether there is one.
        replicas: How many there are.
        **options: Those of `splitop.plan`.
    """
    strategy = strategy_of(replicas)
    with strategy.scope():
        keras.utils.set_random_seed(0)
        keras.config.set_floatx("float64")
        part = PARTS[part_name]()
        optimizer = OPTIMIZERS[optimizer_name]()
        variables = part.trainable_variables
        if isinstance(optimizer, keras.optimizers.Optimizer):
            optimizer.build(variables)
        counter = tf.Variable(0, trainable=False, name="global_step") if global_step else None
    plans: list[Any] = []
    ops: collections.Counter[str] = collections.Counter()

    def in_replica(x: Any) -> None:
        if not batch_is_known:
            x = tf1.placeholder_with_default(x, [None, *x.shape[1:]])
        iv = part(x, training=True)
        plan = splitop.plan(optimizer, iv, variables, tf.sin(iv) + iv, backend=backend, **options)
        plan.apply(global_step=counter)
        plans.append(plan)

    @tf.function(autograph=False)
    def step(x: Any) -> None:
        strategy.run(in_replica, (x,))
        ops.clear()  # A function that creates variables is built twice.
        ops.update(_fused_ops())

    differing: set[str] = set()
    for number, own in enumerate(_batches(part, sizes, replicas, steps), 1):
        if planted is not None and number == steps:
            own[planted][0, 0] = np.inf
        step(
            strategy.experimental_distribute_values_from_function(
                lambda context, own=own: tf.constant(own[context.replica_id_in_sync_group])
            )
        )
        state = dict(_state(part, optimizer, counter))
        copies = {name: _copies(strategy, variable) for name, variable in state.items()}
        differing |= {name for name, each in copies.items() if len(set(map(_bits, each))) > 1}
    assert len({str(plan) for plan in plans}) == 1
    return Trained(
        {name: each[0] for name, each in copies.items()},
        differing,
        plans[0].updated,
        plans[0].declined,
        dict(ops),
    )


def _fused_ops() -> collections.Counter[str]:
    """Those of the planner; layer norms have ops of their own."""
    prefix = "Splitop>"
    types = [op.type for op in tf1.get_default_graph().get_operations()]
    found = [t.removeprefix(prefix) for t in types if t.startswith(prefix)]
    return collections.Counter(t for t in found if not t.startswith("LayerNorm"))


def _state(part: Any, optimizer: Any, counter: Any) -> Iterator[tuple[str, Any]]:
    """All variables, by names that start with their number: those of layers are counted up."""
    own = optimizer.variables
    state = [*part.variables, *(own() if callable(own) else own)]
    for number, variable in enumerate(state if counter is None else [*state, counter]):
        yield f"{number} {getattr(variable, 'path', variable.name)}", variable


def _copies(strategy: Any, variable: Any) -> list[np.ndarray]:
    value = variable if isinstance(variable, tf.Variable) else variable.value
    return [copy.numpy() for copy in strategy.experimental_local_results(value)]


def _bits(value: np.ndarray) -> bytes:
    return np.asarray(value).tobytes()
