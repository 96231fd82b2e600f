"""Whole numbers that users give."""

from __future__ import annotations

import operator
from typing import Any

from splitop._src.errors import SplitError
from splitop._src.names import describe


def check_whole(
    name: str,
    value: Any,
    least: int = 1,
    *,
    otherwise: str = "",
    error: type[SplitError] = SplitError,
) -> int:
    """A whole number, of Python's or of NumPy's, as an int.

    Args:
        name: What the argument is called.
        value: What was given.
        least: The smallest one that will do.
        otherwise: What else will do, or what helps; for the message.
        error: What is raised.

    Raises:
        SplitError: It is no whole number from `least`, or True or False.
    """
    try:
        whole = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        whole = None
    if whole is None or whole < least:
        raise error(
            f"{name} must be a whole number from {least}{otherwise}. Received: {describe(value)}."
        )
    return whole
