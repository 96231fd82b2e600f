"""The step from which all parts of a training go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from splitop._src.checkpoint.steps import common_step
from splitop._src.errors import CheckpointError


def step_to_resume(steps: Mapping[str, Sequence[int]], saved: int | None = None) -> int:
    """The last step that all parts have saved; 0 where a training begins.

    All parts have made one save before any of them makes the next. So a part whose last common save
    is older than another one's last but one has lost some.

    Args:
        steps: For each part, the steps that it can go on from, in order; none: it is new.
        saved: The last step that all parts are known to have saved; None: nothing is known.

    Raises:
        CheckpointError: Saves that all parts have made are not there any more.
    """
    if saved is None and not any(step for each in steps.values() for step in each):
        return 0  # A part that has saved step 0 was there when another one failed to start.
    step = common_step(**steps)
    made = max([saved or 0, *(each[-2] for each in steps.values() if len(each) > 1)])
    if step is None or step < made:
        held = "; ".join(
            f'"{name}" of {", ".join(map(str, each)) or "no step"}' for name, each in steps.items()
        )
        raise CheckpointError(
            f"all parts must still have a checkpoint of step {made} or later, as they have all "
            f"saved it. Received: checkpoints of {held}."
        )
    return step
