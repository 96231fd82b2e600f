"""The update rules of the fused op; `csrc/include/splitop/update_rule.h` has the maths."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class UpdateRule:
    """An update rule of the fused op.

    Attributes:
        name: The op's `rule` attribute.
        hyper: Names of the hyperparameters, in the op's order.
        num_slots: State tensors a variable, each of the variable's shape, or of a row-wise rule one
            element for each row.
        gpu_chains: Whether GPUs, too, fuse it with the backward pass of dense layers.
        sums_squares: Whether the rule can take a sum of squares where it has the square of a
            table's gradient.
        rowwise: Whether the rule is applied to rows as a whole.
    """

    name: str
    hyper: tuple[str, ...]
    num_slots: int
    gpu_chains: bool = False
    sums_squares: bool = True
    rowwise: bool = False


_ADAM = ("decay", "step_size", "one_minus_beta1", "one_minus_beta2", "epsilon")
_RMSPROP = ("decay", "lr", "one_minus_rho", "epsilon")

SGD = UpdateRule("sgd", ("decay", "lr"), 0, gpu_chains=True)
MOMENTUM = UpdateRule(
    "momentum",
    ("decay", "momentum", "gradient_scale", "slot_step", "gradient_step"),
    1,
    gpu_chains=True,
)
ADAM = UpdateRule("adam", _ADAM, 2, gpu_chains=True)
AMSGRAD = UpdateRule("amsgrad", _ADAM, 3)
ADAGRAD = UpdateRule("adagrad", ("decay", "lr", "epsilon"), 1)
RMSPROP = UpdateRule("rmsprop", _RMSPROP, 1)
RMSPROP_MOMENTUM = UpdateRule("rmsprop_momentum", (*_RMSPROP, "momentum"), 2)
RMSPROP_CENTERED = UpdateRule("rmsprop_centered", _RMSPROP, 2)
RMSPROP_CENTERED_MOMENTUM = UpdateRule("rmsprop_centered_momentum", (*_RMSPROP, "momentum"), 3)
ADADELTA = UpdateRule("adadelta", _RMSPROP, 2, sums_squares=False)
ADAMAX = UpdateRule(
    "adamax",
    ("decay", "step_size", "one_minus_beta1", "beta2", "epsilon"),
    2,
    sums_squares=False,
)
NADAM = UpdateRule(
    "nadam",
    (
        "decay",
        "slot_step",
        "gradient_step",
        "one_minus_beta1",
        "one_minus_beta2",
        "v_scale",
        "epsilon",
    ),
    2,
)
FTRL = UpdateRule("ftrl", ("decay", "lr", "power", "l1", "twice_l2", "twice_shrinkage"), 2)
LION = UpdateRule(
    "lion", ("decay", "lr", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2"), 1
)
ROWWISE_ADAGRAD = UpdateRule(
    "rowwise_adagrad", ("decay", "lr", "epsilon"), 1, sums_squares=False, rowwise=True
)

RULES = (
    SGD,
    MOMENTUM,
    ADAM,
    AMSGRAD,
    ADAGRAD,
    RMSPROP,
    RMSPROP_MOMENTUM,
    RMSPROP_CENTERED,
    RMSPROP_CENTERED_MOMENTUM,
    ADADELTA,
    ADAMAX,
    NADAM,
    FTRL,
    LION,
    ROWWISE_ADAGRAD,
)
