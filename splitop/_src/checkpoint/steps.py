"""Steps of a training, and the one from which all parts can go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from splitop._src.errors import CheckpointError
from splitop._src.whole import check_whole


def common_step(**parts: int | Sequence[int] | None) -> int | None:
    """The last step from which all parts of a training can go on.

    Parts that are saved by their owners may have different last steps, if one of these was stopped
    before it saved. Each owner sends its `Checkpoint.steps`, and restores the step returned.

    Args:
        **parts: For each part, by its name, the steps that it has checkpoints of, in the order of
            saving; or the one step that it is at.

    Returns:
        The step; None: no part has a checkpoint.

    Raises:
        CheckpointError: The parts have no step in common.
    """
    steps = {name: _steps(value) for name, value in parts.items()}
    if not any(steps.values()):
        return None
    first, *others = steps.values()
    common = [step for step in first if all(step in other for other in others)]
    if not common:
        raise CheckpointError(
            "all parts must go on from one step, and there is none that they all have. Received: "
            + "; ".join(f'"{name}" of {_listed(value)}' for name, value in steps.items())
            + "."
        )
    return common[-1]


def _steps(value: int | Sequence[int] | None) -> list[int]:
    if value is None:
        return []
    return [whole_step(step) for step in (value if isinstance(value, Sequence) else [value])]


def whole_step(value: Any) -> int:
    """A step as a Python int.

    Raises:
        CheckpointError: It is no whole number from 0.
    """
    return check_whole("step", value, 0, error=CheckpointError)


def _listed(steps: list[int]) -> str:
    return f"step {', '.join(map(str, steps))}" if steps else "no step"
