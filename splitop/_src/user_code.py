"""Where the user's own code is, for warnings."""

from __future__ import annotations

import sys
import types

# TensorFlow and Keras call the user's functions, and what those call.
_NOT_THE_USERS = frozenset({"splitop", "tensorflow", "keras"})


def stack_level() -> int:
    """The `stacklevel` by which a warning of the caller's names the user's innermost line."""
    level = 1
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and not _is_the_users(frame):
        level, frame = level + 1, frame.f_back
    return level


def _is_the_users(frame: types.FrameType) -> bool:
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    # AutoGraph has written the user's function anew, in a file that is gone afterwards.
    generated = "__autograph_generated_file" in frame.f_code.co_filename
    return package not in _NOT_THE_USERS and not generated
