"""The update rules and their hyperparameters, the same for everybody who is compared."""

from __future__ import annotations

import dataclasses

MOMENTUM = 0.9
BETA1 = 0.9
BETA2 = 0.999
# So large that a weight's first steps, too, are smooth in its gradient: with a small epsilon they
# are the gradient's sign, and rounding near zero would turn them round.
EPSILON = 0.1
# So large that a decay that is left out shows.
WEIGHT_DECAY = 10.0

CHECKED_RATE = 1e-2
# The work is the same and the weights stay as they are, however long it is measured.
TIMED_RATE = 1e-12


@dataclasses.dataclass(frozen=True)
class Rule:
    """An update rule as splitop's kernels know it."""

    kernel_rule: str
    slots: int
    decayed: bool = False


RULES = {
    "sgd": Rule("sgd", 0),
    "momentum": Rule("momentum", 1),
    "adam": Rule("adam", 2),
    "adamw": Rule("adam", 2, decayed=True),
}


def hyper(rule: str, rate: float, step: int = 1) -> list[float]:
    """What csrc/include/splitop/update_rule.h asks for.

    Momentum is TF1's and torch's; Adam is torch's, whose epsilon is added to the corrected
    root.
    """
    decay = rate * WEIGHT_DECAY if RULES[rule].decayed else 0.0
    if rule == "sgd":
        return [decay, rate]
    if rule == "momentum":
        return [decay, MOMENTUM, 1.0, -rate, 0.0]
    correction = (1 - BETA2**step) ** 0.5
    step_size = rate * correction / (1 - BETA1**step)
    return [decay, step_size, 1 - BETA1, 1 - BETA2, EPSILON * correction]
