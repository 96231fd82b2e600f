"""Plans and trains a model of `models.py`, in a TF1 graph or in a tf.function."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import splitop
from tests.planner.models import BATCH, DTYPE, Model, Weights

MODES = ("graph", "function")


@dataclasses.dataclass
class Trained:
    """What training left behind.

    Attributes:
        plan: The plan it followed.
        weights: Values of the variables by name, and of the optimizer's state.
        devices: Where the fused ops are.
    """

    plan: splitop.Plan
    weights: dict[str, np.ndarray]
    devices: set[str]


def name_of(variable: Any) -> str:
    """The name without TensorFlow's ":0"."""
    return str(getattr(variable, "path", variable.name)).removesuffix(":0")


def kernels_of(plan: splitop.Plan) -> set[tuple[str, ...]]:
    """The kernels of each chain, from the top down."""
    return {
        tuple(layer.kernel.removesuffix(":0") for layer in chain.layers) for chain in plan.chains
    }


def plain_names(reasons: dict[str, str]) -> dict[str, str]:
    """The reasons of a plan by the variables' names without TensorFlow's ":0"."""
    return {name.removesuffix(":0"): why for name, why in reasons.items()}


def inputs(model: Model) -> np.ndarray:
    """A batch."""
    shape = [BATCH, *(3 if extent is None else extent for extent in model.shape[1:])]
    return np.random.default_rng(1).normal(size=shape)


def seed_for(iv: Any) -> Any:
    """A seed for each vector, from its shape alone; None for a scalar loss."""

    def one(tensor: Any) -> Any:
        size = tf.reduce_prod(tf.shape(tensor))
        values = tf.sin(tf.cast(tf.range(size), tensor.dtype) + 1.0)
        return tf.ensure_shape(tf.reshape(values, tf.shape(tensor)), tensor.shape)

    if isinstance(iv, tf.Tensor) and iv.shape.rank == 0:
        return None
    return tf.nest.map_structure(one, iv)


def train(
    model: Model, mode: str, backend: str, steps: int = 3, device: str | None = None
) -> Trained:
    """Trains from the model's fixed start for a few steps, under the given device."""
    run = {"graph": _train_graph, "function": _train_function}[mode]
    return run(model, backend, steps, device)


def _devices_of_fused_ops() -> set[str]:
    operations = tf.compat.v1.get_default_graph().get_operations()
    return {op.device for op in operations if op.type == "Splitop>DenseChain"}


def _train_graph(model: Model, backend: str, steps: int, device: str | None) -> Trained:
    config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
    with (
        tf.Graph().as_default(),
        tf.device(device),
        tf.compat.v1.Session(config=config) as session,
    ):
        x = tf.compat.v1.placeholder(DTYPE, model.shape, "x")
        weights = Weights()
        keras.utils.set_random_seed(0)
        iv = model.build(weights, x)
        optimizer = tf.compat.v1.train.MomentumOptimizer(0.05, 0.9, use_nesterov=True)
        plan = splitop.plan(optimizer, iv, weights.variables, seed_for(iv), backend=backend)
        # A session that ran between planning and applying keeps the graph it has seen.
        session.run(tf.zeros([]))
        step = plan.apply()
        session.run(tf.compat.v1.global_variables_initializer())
        for _ in range(steps):
            session.run(step, {x: inputs(model)})
        variables = tf.compat.v1.global_variables()
        values = dict(zip(map(name_of, variables), session.run(variables), strict=True))
        return Trained(plan, values, _devices_of_fused_ops())


def _train_function(model: Model, backend: str, steps: int, device: str | None) -> Trained:
    weights = Weights()
    keras.utils.set_random_seed(0)
    with tf.device(device):
        model.build(weights, tf.constant(inputs(model)))
        optimizer = keras.optimizers.SGD(0.05, momentum=0.9, name="sgd")
        optimizer.build(weights.variables)
    plans, devices = [], set()

    @tf.function(input_signature=[tf.TensorSpec(model.shape, DTYPE)])
    def step(x: Any) -> None:
        iv = model.build(weights, x)
        plan = splitop.plan(optimizer, iv, weights.variables, seed_for(iv), backend=backend)
        plan.apply()
        plans.append(plan)
        devices.update(_devices_of_fused_ops())

    for _ in range(steps):
        step(inputs(model))
    variables = [*weights.variables, *optimizer.variables]
    values = {name_of(variable): variable.numpy() for variable in variables}
    return Trained(plans[-1], values, devices)
