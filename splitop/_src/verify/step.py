"""One training step of a split model, built in one of three ways."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from splitop._src import backend
from splitop._src.loss_scaling import loss_scale, scaled
from splitop._src.optimizers import adapter_for
from splitop._src.planner import Plan, make_plan
from splitop._src.validate import Trainable, check_call
from splitop._src.verify.split import Split

JOINT = "joint"
REFERENCE = backend.REFERENCE
AUTO = backend.AUTO


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A step in the graph.

    Attributes:
        joint: The gradients of the model in one piece, one dense tensor for each variable; none
            with AUTO, whose graph is to be that of a user.
        split: The same by the seed.
        run: The operation that updates all variables; None without optimizers.
        plans: The first part's plan and the second part's; none with JOINT.
    """

    joint: list[Any]
    split: list[Any]
    run: Any | None
    plans: tuple[Plan, ...] = ()


def build_step(path: str, split: Split, optimizers: tuple[Any, Any] | None) -> Step:
    """Adds a step to the current graph.

    Args:
        path: JOINT: all gradients are those of one loss, and each optimizer applies its own.
            REFERENCE and AUTO: what splitop does with that backend, from the seed.
        split: The forward pass.
        optimizers: The first part's and the second part's; None: only gradients are computed.
    """
    first_scale, second_scale = map(loss_scale, optimizers or (None, None))
    first_loss = scaled(split.first_total(), first_scale)
    seeds = seeds_of(scaled(split.first_total(), second_scale), split.ivs)
    ys, grad_ys = [*split.ivs], [*seeds]
    if split.keeps_penalties:
        ys += split.second_penalties
        grad_ys += [scaled(tf.ones([], p.dtype), second_scale) for p in split.second_penalties]
    joint, parts = [], []
    if path != AUTO:
        total = split.joint_total()
        joint = [
            *_gradients(scaled(total, second_scale), split.second),
            *_gradients(scaled(total, first_scale), split.first),
        ]
        parts = [
            *_gradients(ys, split.second, grad_ys=grad_ys),
            *_gradients(first_loss, split.first, stop_gradients=list(split.ivs)),
        ]
    step = Step(_dense(joint, split.variables), _dense(parts, split.variables), None)
    if optimizers is None:
        return step
    # TF1's reference variables give their memory to who reads them, and a loss that is not waited
    # for may read a bias after its update: the gradient of such a bias needs no forward pass.
    before = [tensor.op for tensor in (split.loss, *seeds, *step.joint, *step.split)]
    if path == JOINT:
        count = len(split.second)
        pairs = list(zip(joint, (item.given for item in split.variables), strict=True))
        with tf.control_dependencies(before):
            updates = [
                _own_step(optimizers[0], pairs[count:]),
                _own_step(optimizers[1], pairs[:count]),
            ]
        return dataclasses.replace(step, run=tf.group(*updates))
    reached = split.first, _reached(ys, split.second)
    first, _ = make_plan(
        optimizers[0],
        check_call(first_loss, [item.given for item in reached[0]], None, "verify"),
        backend=path,
    )
    second, _ = make_plan(
        optimizers[1],
        check_call(ys, [item.given for item in reached[1]], grad_ys, "verify"),
        backend=path,
    )
    with tf.control_dependencies(before):
        updates = [first.apply(), second.apply()]
    return dataclasses.replace(step, run=tf.group(*updates), plans=(first, second))


def seeds_of(loss: Any, ivs: Sequence[Any]) -> list[Any]:
    """dL/dIV of each intermediate vector; zeros for one that the loss does not differentiate to."""
    return [
        tf.zeros_like(iv) if seed is None else tf.convert_to_tensor(seed)
        for seed, iv in zip(tf.gradients(loss, list(ivs)), ivs, strict=True)
    ]


def _gradients(ys: Any, items: Sequence[Trainable], **options: Any) -> list[Any]:
    return list(tf.gradients(ys, [item.variable for item in items], **options))


def _reached(ys: Sequence[Any], items: Sequence[Trainable]) -> list[Trainable]:
    gradients = _gradients(ys, items)
    return [item for item, g in zip(items, gradients, strict=True) if g is not None]


def _own_step(optimizer: Any, pairs: Sequence[tuple[Any, Any]]) -> Any:
    """The optimizer's own apply_gradients."""
    adapter = adapter_for(optimizer)
    adapter.prepare([variable for _, variable in pairs])
    return adapter.finish([], pairs, None)


def _dense(gradients: Sequence[Any], items: Sequence[Trainable]) -> list[Any]:
    """Gradients as tensors of their variables' shapes; no gradient becomes zeros."""
    if not gradients:
        return []
    return [_as_tensor(g, item.variable) for g, item in zip(gradients, items, strict=True)]


def _as_tensor(gradient: Any, variable: Any) -> Any:
    if gradient is None:
        return tf.zeros(variable.shape, variable.dtype.base_dtype)
    if isinstance(gradient, tf.IndexedSlices):
        return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, variable.shape[0])
    return tf.identity(gradient)
