"""Where gradients stop on their way, and what the loss does to their size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from splitop._src.graph import reach
from splitop._src.names import tensor_name
from splitop._src.validate import Trainable
from splitop._src.verify.report import ERROR, NOTE, WARNING, Finding
from splitop._src.verify.split import Split


def reached(graph: Any, split: Split) -> tuple[list[bool], list[Finding]]:
    """Which of the variables have a gradient in the model in one piece, and why others don't.

    Raises:
        LookupError: TensorFlow has no gradient for an operation.
    """
    total = split.joint_total()
    gradients = tf.gradients(total, [item.variable for item in split.variables])
    known = [gradient is not None for gradient in gradients]
    found = [
        Finding(ERROR, "no gradient", item.name, *_why_none(graph, item, total))
        for item, is_known in zip(split.variables, known, strict=True)
        if not is_known
    ]
    seeds = tf.gradients(split.first_total(), list(split.ivs))
    for iv, seed in zip(split.ivs, seeds, strict=True):
        if seed is None:
            found.append(
                Finding(
                    ERROR,
                    "no seed",
                    tensor_name(iv),
                    f'No gradient flows from the loss "{tensor_name(split.loss)}" to it: '
                    + _blocked([iv], total),
                    "Remove what blocks the gradient between iv and the loss, or take this tensor "
                    "out of iv. Here its seed is taken to be zero.",
                )
            )
    ys = [*split.ivs, *(split.second_penalties if split.keeps_penalties else ())]
    by_seed = tf.gradients(
        ys, [item.variable for item in split.second], [tf.ones_like(y) for y in ys]
    )
    for item, gradient, is_known in zip(split.second, by_seed, known, strict=False):
        if gradient is None and is_known:
            found.append(
                Finding(
                    ERROR,
                    "no gradient by the seed",
                    item.name,
                    "In one piece the model trains it, but iv is not computed from it.",
                    "Train it with the first part, or make what is computed from it a part of iv.",
                )
            )
    return known, found


def _why_none(graph: Any, item: Trainable, total: Any) -> tuple[str, str]:
    handle = reach.handle(graph, item.variable)
    return (
        "The loss has no gradient for it: " + _blocked([handle], total),
        "Take it out of the list, or remove what blocks its gradient. No gradient is not a zero "
        "gradient: an optimizer's averages stand still.",
    )


def _blocked(sources: Sequence[Any], target: Any) -> str:
    block = reach.blocking_op(sources, target)
    if block is None:
        return "nothing that the loss is computed from uses it."
    outputs = ", ".join(tensor.dtype.name for tensor in block.outputs)
    return f'{block.type} "{block.name}" ({outputs}) lets none through.'


def kind_of_loss(loss: Any) -> list[Finding]:
    """Whether the loss is a sum over the batch."""
    if loss.shape.rank != 0:
        return [
            Finding(
                WARNING,
                "mean against sum",
                tensor_name(loss),
                f"The loss has the shape {loss.shape}: what is differentiated is its sum, which "
                "grows with the batch.",
                "Reduce it to a scalar, by tf.reduce_mean if the learning rate is not to depend on "
                "the batch size.",
            )
        ]
    op = loss.op
    while len([i for i in op.inputs if i.dtype.is_floating]) == 1 and op.outputs[0].shape.rank == 0:
        if op.type == "Sum" and op.inputs[0].shape.rank:
            return [
                Finding(
                    NOTE,
                    "mean against sum",
                    tensor_name(loss),
                    "The loss is a sum over the batch, so that the seed grows with the batch.",
                    "If the batch is cut into micro-batches, add their seeds up; with a mean, "
                    "weight them by their sizes.",
                )
            ]
        op = next(i for i in op.inputs if i.dtype.is_floating).op
    return []
