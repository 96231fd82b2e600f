"""Tiny second parts, each with what the planner has to find in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from benchmarks import second_parts
from benchmarks.second_parts import SecondPart

LOOP = "used inside a loop"
NO_BIAS = "not the bias of a fused dense layer"
OF_OP = "dense layer"  # outside XLA its gradient is that of an op
NORM = "computed by Mul"
CONV = "Conv2D"  # outside XLA an op of splitop's, inside TensorFlow's
SHARED = "used in more than one place"


@dataclasses.dataclass(frozen=True)
class Expected:
    """A second part and its plan, with an optimizer that takes repeated ids.

    Attributes:
        part: The second part.
        chains: The layers of each chain, from the top down.
        tables: The embedding tables.
        updated: The variables whose update alone is fused, with words from the reason.
        no_gradient: Words in the names of the variables, and of their slots, whose gradient is
            zero but for rounding: that has no digits to compare.
    """

    part: SecondPart
    chains: tuple[tuple[str, ...], ...]
    tables: tuple[str, ...] = ()
    updated: Callable[[Any], dict[str, str]] = lambda model: {}
    no_gradient: str | None = None

    def has_gradient(self, name: str) -> bool:
        """Whether a variable, or the variable of a slot, has a gradient."""
        return self.no_gradient is None or self.no_gradient not in name.replace("/", "_")


def _reasons(reasons: dict[str, str]) -> Callable[[Any], dict[str, str]]:
    return lambda model: reasons


def _of_mobilenet(model: Any) -> dict[str, str]:
    """All of them: kernels of convolutions, and what normalisations scale by and add."""

    def reason(path: str) -> str:
        if path.endswith("depthwise/kernel"):
            return "computed by DepthwiseConv2dNativeBackpropFilter"
        return {"kernel": CONV, "gamma": NORM, "beta": NO_BIAS}[path.rpartition("/")[2]]

    return {variable.path: reason(variable.path) for variable in model.trainable_variables}


_ATTENTION = tuple(
    (f"attention_{block}/{part}",)
    for block in (1, 2)
    for part in ("query", "key", "value", "attention_output")
)
_NORMS = {
    f"norm_{block}{which}/{name}": OF_OP
    for block in (1, 2)
    for which in "ab"
    for name in ("gamma", "beta")
}
_CONVOLUTIONS = {
    "conv_1/kernel": CONV,
    "conv_1/bias": OF_OP,
    "conv_2/kernel": CONV,
    "norm/gamma": NORM,
    "norm/beta": NO_BIAS,
}

PARTS = {
    "mlp": Expected(second_parts.mlp(9, (11, 7, 5)), (("dense_3", "dense_2", "dense_1"),)),
    "dlrm": Expected(
        second_parts.dlrm(tables=3, rows=20, width=4, features=5, units=8),
        (("top_2", "top_1"), ("bottom_2", "bottom_1")),
        ("table_1", "table_2", "table_3"),
    ),
    "transformer": Expected(
        second_parts.transformer(tokens=20, length=3, width=6, heads=2),
        (*_ATTENTION, ("down_1", "up_1"), ("down_2", "up_2")),
        ("embedding",),
        _reasons(_NORMS),
        # It moves all scores of a query alike, which softmax does not see.
        no_gradient="key_bias",
    ),
    "cnn": Expected(
        second_parts.cnn(side=8, filters=3, units=6),
        (("dense_2", "dense_1"),),
        updated=_reasons(_CONVOLUTIONS),
    ),
    "mobilenet": Expected(
        second_parts.mobilenet(side=32, alpha=0.35),
        (),
        updated=_of_mobilenet,
        # A convolution of 1x1 and another normalisation follow, which takes the mean away.
        no_gradient="project_BN_beta",
    ),
    "lstm": Expected(
        second_parts.lstm(tokens=20, length=3, width=4, units=6),
        (("dense",),),
        ("embedding",),
        _reasons(
            {f"lstm/lstm_cell/{name}": LOOP for name in ("kernel", "recurrent_kernel", "bias")}
        ),
    ),
    "tied": Expected(
        second_parts.tied(tokens=20, length=3, width=5),
        (("dense",), ("shared",)),
        updated=_reasons({"embedding/embeddings": SHARED}),
    ),
}
