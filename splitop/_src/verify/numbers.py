"""What the values of gradients tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from splitop._src.verify.comparison import Arrays, Run
from splitop._src.verify.report import ERROR, WARNING, Finding
from splitop._src.verify.rounding import FEW, magnitude, ulp


def findings(names: Sequence[str], gradients: Sequence[Arrays]) -> list[Finding]:
    """NaN, Inf, and gradients that are zero in every step.

    Args:
        names: Names of the variables.
        gradients: In each step, a gradient for each of them.
    """
    result = []
    for index, name in enumerate(names):
        values = [np.asarray(step[index], np.float64) for step in gradients]
        broken = [number for number, value in enumerate(values, 1) if not np.isfinite(value).all()]
        if broken:
            bad = values[broken[0] - 1]
            where = [int(i) for i in np.argwhere(~np.isfinite(bad))[0]]
            count = np.count_nonzero(~np.isfinite(bad))
            result.append(
                Finding(
                    ERROR,
                    "NaN or Inf",
                    name,
                    f"Its gradient is not finite: {count} of {bad.size} elements in "
                    f"step {broken[0]}, the first one at {where}.",
                    "Look for a division by zero, the logarithm of zero or an overflow; a bad "
                    "batch can be left out by skip_nonfinite=True, a bad seed found by "
                    "check_numerics=True.",
                )
            )
        elif not any(value.any() for value in values):
            result.append(
                Finding(
                    WARNING,
                    "zero gradient",
                    name,
                    "Its gradient is zero in every element and step: it does not learn from this "
                    "batch.",
                    "Look for dead units (relu), an input that is zero, or a part whose output "
                    "nothing depends on.",
                )
            )
    return result


def reproducibility(cut: Sequence[str], one: Run, other: Run, error: float) -> list[Finding]:
    """Whether two runs that start from the same state see the same loss in their first step.

    Args:
        cut: Names of the intermediate vectors.
        one: A run.
        other: Another one.
        error: The relative error of a sum.
    """
    losses = [np.asarray(run.losses[0], np.float64) for run in (one, other)]
    bound = 2 * error * magnitude(losses[0]) + FEW * ulp(one.losses[0])
    if magnitude(losses[0] - losses[1]) <= bound:
        return []
    return [
        Finding(
            ERROR,
            "not reproducible",
            ", ".join(cut),
            "The same batch and the same state have given another loss in another run: the forward "
            "pass depends on something that can't be put back, such as random numbers of Python's. "
            "What was compared says little.",
            "Verify without it, or take the random numbers from TensorFlow's or Keras' generators.",
        )
    ]
