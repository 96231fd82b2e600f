"""Time limits that users give."""

from __future__ import annotations

import math
from typing import Any

from splitop._src.errors import SplitError


def check_seconds(name: str, value: Any) -> float:
    """A time limit, as a float.

    Args:
        name: What the argument is called.
        value: What was given.

    Raises:
        SplitError: It is no positive, finite number.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:
        raise SplitError(f"{name} must be a number of seconds above 0. Received: {value!r}.")
    return float(value)
