"""Which path trains: the fused op or the plain TensorFlow one."""

from __future__ import annotations

import contextlib
import contextvars
import os
import sys
from collections.abc import Iterator

from splitop._src.errors import SplitError

ENVIRONMENT_VARIABLE = "SPLITOP_BACKEND"

AUTO = "auto"
FUSED = "fused"
REFERENCE = "reference"
BACKENDS = (AUTO, FUSED, REFERENCE)

_scoped: contextvars.ContextVar[str | None] = contextvars.ContextVar("splitop_backend")


@contextlib.contextmanager
def backend(name: str) -> Iterator[None]:
    """Sets the backend of every plan made inside a `with` block, in this thread.

    The path is chosen when a plan is made, that is when the graph is built: a tf.function
    that has been traced keeps its path.

    Args:
        name: "auto" (fused where possible), "fused" (raise NotFusableError rather than fall
            back) or "reference" (plain TensorFlow).

    Raises:
        SplitError: An unknown name.
    """
    token = _scoped.set(_checked(name, "backend"))
    try:
        yield
    finally:
        _scoped.reset(token)


def resolve(explicit: str | None) -> str:
    """The backend to use: the argument, the `with` block, the environment, then "auto"."""
    if explicit is not None:
        return _checked(explicit, "backend")
    scoped = _innermost_block()
    if scoped is not None:
        return scoped
    return _checked(os.environ.get(ENVIRONMENT_VARIABLE) or AUTO, ENVIRONMENT_VARIABLE)


def _innermost_block() -> str | None:
    """What the `with` block around the caller says, if there is one."""
    if sys.modules.get("tensorflow") is None:  # which takes seconds to import
        return _scoped.get(None)
    from splitop._src import replicas

    # A replica is built in a thread of its own, where no `with` block is seen.
    return replicas.in_calling_thread(lambda: _scoped.get(None))


def _checked(name: str, source: str) -> str:
    if name not in BACKENDS:
        known = ", ".join(f'"{known}"' for known in BACKENDS)
        raise SplitError(f"{source} must be one of {known}. Received: {name!r}.")
    return name
