"""Random operations of the second part: a second forward pass draws other numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from splitop._src.graph import reach
from splitop._src.graph.nested import Found, operations
from splitop._src.names import tensor_name
from splitop._src.verify.report import NOTE, WARNING, Finding

_RANDOM = re.compile(r"Random|Normal$|Multinomial|^StatefulUniform|^StatefulTruncated")
_STATELESS = re.compile(r"^Stateless(Random|Truncated|Multinomial|Parameterized|Sample)")
# They make or take apart the state of a generator, and draw nothing.
_KEYS = re.compile(r"RandomGet(Key|Alg|KeyCounter)")

PITFALL = "random operations"


def is_random(found: Found) -> bool:
    """Whether an operation draws random numbers."""
    if _KEYS.search(found.type):
        return False
    return bool(_STATELESS.search(found.type) or (found.stateful and _RANDOM.search(found.type)))


def findings(graph: Any, ivs: Sequence[Any]) -> list[Finding]:
    """What the random operations that `ivs` are computed from mean for a second forward pass."""
    moving: list[str] = []
    fixed: list[str] = []
    for found in operations(graph, reach.ancestors(ivs)):
        if is_random(found):
            (moving if _draws_anew(found) else fixed).append(found.name)
    where = ", ".join(tensor_name(iv) for iv in ivs)
    result = []
    if moving:
        result.append(
            Finding(
                WARNING,
                PITFALL,
                ", ".join(sorted(moving)),
                f"{where} is computed with random numbers (dropout, noise), which are others in "
                "every forward pass. splitop's steps keep those that the seed belongs to; a loop "
                "of your own that runs the second part's forward pass again has another mask.",
                "Nothing, if splitop does the steps (SplitStep, SplitModel, split_minimize) or if "
                "both splitop.minimize are in one tf.function, so that there is one forward pass.",
            )
        )
    if fixed:
        result.append(
            Finding(
                NOTE,
                PITFALL,
                ", ".join(sorted(fixed)),
                f"{where} is computed with random numbers from a seed that the forward pass does "
                "not change: a second forward pass has the same mask, and so have all steps unless "
                "something else changes the seed.",
                "Nothing, if the seed is changed between steps, and not between the two runs.",
            )
        )
    return result


def _draws_anew(found: Found) -> bool:
    """Whether the next forward pass draws other numbers."""
    if found.stateful or found.nested:
        return True
    return any(
        reach.writers(tensor)
        for op in reach.ancestors(found.op.inputs)
        for tensor in op.inputs
        if tensor.dtype.name == "resource"
    )
