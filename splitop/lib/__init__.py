"""The compiled libraries: installed here by CMake, beside `build_config.json`.

`SPLITOP_LIBRARY_DIR` names another directory to take all of them from.
"""

from __future__ import annotations

import os

DIRECTORY = "SPLITOP_LIBRARY_DIR"

_directory = os.environ.get(DIRECTORY)
is_named = bool(_directory)
if _directory:
    __path__ = [_directory]
