"""Time limits that users give."""

from __future__ import annotations

from typing import Any

from splitop._src.errors import SplitError

# Those who wait in milliseconds, or nanoseconds, count in 64 bits.
LONGEST = 1e9


def check_seconds(name: str, value: Any, *, error: type[SplitError] = SplitError) -> float:
    """A time limit, as a float.

    Args:
        name: What the argument is called.
        value: What was given.
        error: What is raised.

    Raises:
        SplitError: It is no positive number, or more than `LONGEST`.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 < value <= LONGEST:
        raise error(
            f"{name} must be a number of seconds above 0, at most {LONGEST:g}. Received: {value!r}."
        )
    return float(value)
