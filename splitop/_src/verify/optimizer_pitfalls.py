"""What the two optimizers' options mean for training in two parts."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from splitop._src.names import describe
from splitop._src.optimizers import adapter_for
from splitop._src.verify.report import ERROR, NOTE, WARNING, Finding

PAIR = "first_optimizer, second_optimizer"


def findings(first: Any, second: Any) -> list[Finding]:
    """The pitfalls of a pair of optimizers.

    Raises:
        SplitError: One of them is no optimizer.
    """
    if first is second:
        adapter_for(first)
        return [
            Finding(
                ERROR,
                "one optimizer for both parts",
                describe(first),
                "One object has one iteration counter and one set of variables: it would count "
                "every step twice, and a Keras optimizer refuses the other part's variables. The "
                "updates were not compared.",
                "Give each part an optimizer of its own.",
            )
        ]
    return [
        *_clipping(first, second),
        *_accumulation(first, second),
        *_loss_scale(first, second),
        *_counters(first, second),
    ]


def _clipping(first: Any, second: Any) -> list[Finding]:
    clipped = [
        name
        for name, optimizer in (("first_optimizer", first), ("second_optimizer", second))
        if adapter_for(optimizer).gradient_options().clip == "global_norm"
    ]
    if not clipped:
        return []
    return [
        Finding(
            WARNING,
            "clipping by the global norm",
            ", ".join(clipped),
            "The norm is that of one part's gradients. One optimizer for the whole model would "
            "clip by the norm of all.",
            "Choose the bounds for the parts, or clip each gradient by itself (clipnorm, "
            "clipvalue). The joint training here clips in parts, too.",
        )
    ]


def _accumulation(first: Any, second: Any) -> list[Finding]:
    steps = []
    for optimizer in (first, second):
        accumulation = adapter_for(optimizer).accumulation()
        steps.append(1 if accumulation is None else accumulation.steps)
    if steps == [1, 1]:
        return []
    if steps[0] != steps[1]:
        return [
            Finding(
                WARNING,
                "gradient accumulation",
                PAIR,
                f"The first part is updated every {steps[0]} steps, the second one every "
                f"{steps[1]}: in between, seeds come from a first part of another age.",
                "Set the same gradient_accumulation_steps in both, unless that is meant.",
            )
        ]
    return [
        Finding(
            NOTE,
            "gradient accumulation",
            PAIR,
            f"Variables are updated every {steps[0]} steps, with the mean of the gradients: what "
            "was compared in between are the accumulators.",
            f"Verify with at least steps={steps[0]} to compare an update.",
        )
    ]


def _loss_scale(first: Any, second: Any) -> list[Finding]:
    scales = [_scale(first), _scale(second)]
    if scales == [None, None]:
        return []
    if scales[0] != scales[1]:
        return [
            Finding(
                WARNING,
                "loss scale",
                PAIR,
                f"The first optimizer undoes a loss scale of {_text(scales[0])}, the second one of "
                f"{_text(scales[1])}: a seed of the loss as the first part scales it is undone by "
                "another factor, or not at all.",
                "Give both the same scale, or take the second part's seed from "
                "second_optimizer.scale_loss(loss), as it is done here.",
            )
        ]
    return [
        Finding(
            NOTE,
            "loss scale",
            PAIR,
            f"Both optimizers undo a loss scale of {_text(scales[0])}. A dynamic scale moves in "
            "each of them by itself: after an overflow in one part they differ.",
            "Take the seed from the scaled loss, optimizer.scale_loss(loss), and give it to the "
            "second part as it is.",
        )
    ]


def _scale(optimizer: Any) -> float | None:
    """The loss scale that an optimizer undoes; None: it undoes none."""
    dynamic = getattr(optimizer, "initial_scale", None)
    if dynamic is not None:
        built = getattr(optimizer, "built", False) and tf.executing_eagerly()
        return float(optimizer.dynamic_scale.numpy() if built else dynamic)
    factor = getattr(optimizer, "loss_scale_factor", None)
    return None if factor is None else float(factor)


def _text(scale: float | None) -> str:
    return "1 (none)" if scale is None else f"{scale:g}"


def _counters(first: Any, second: Any) -> list[Finding]:
    counts = []
    for optimizer in (first, second):
        value = getattr(getattr(optimizer, "iterations", None), "value", None)
        if not isinstance(value, tf.Variable) or tf.is_symbolic_tensor(value.handle):
            return []
        counts.append(int(value.numpy()))
    if counts[0] == counts[1]:
        return []
    return [
        Finding(
            WARNING,
            "parts of different age",
            PAIR,
            f"The first part's optimizer has counted {counts[0]} steps, the second one's "
            f"{counts[1]}: they were restored from checkpoints of different steps, or are trained "
            "at different frequencies. Schedules and bias corrections are apart, too.",
            "Restore both parts from one step, unless that is meant.",
        )
    ]
