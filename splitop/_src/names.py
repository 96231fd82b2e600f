"""How messages and plans name the user's variables and tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np


def variable_name(variable: Any) -> str:
    """What the user calls a variable: a Keras path, or a TensorFlow name."""
    return str(getattr(variable, "path", None) or variable.name)


def unique_variable_names(variables: Sequence[Any]) -> tuple[str, ...]:
    """Names of the variables; equal names (eager variables are all "Variable:0") are numbered."""
    names = [variable_name(variable) for variable in variables]
    total = Counter(names)
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(f"{name} (#{seen[name]})" if total[name] > 1 else name)
    return tuple(unique)


def tensor_name(tensor: Any) -> str:
    """The tensor's name, or what it is if it has none."""
    name = getattr(tensor, "name", None)
    return name if isinstance(name, str) else type(tensor).__name__


def describe(value: Any) -> str:
    """A tensor's name, dtype and shape, or any other value's text and type, cut short."""
    if isinstance(value, np.generic):
        return f"{value.item()!r} ({value.dtype})"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        dtype = getattr(value.dtype, "name", value.dtype)
        name = getattr(value, "path", None) or tensor_name(value)
        return f'"{name}" of {dtype} and shape {value.shape}'
    text = repr(value)
    return f"{text[:80]}{'…' if len(text) > 80 else ''} ({type(value).__name__})"
