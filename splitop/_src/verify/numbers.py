"""What the values of gradients tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from splitop._src.verify.comparison import Arrays
from splitop._src.verify.report import ERROR, WARNING, Finding


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
