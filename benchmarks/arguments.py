"""The arguments that several commands have."""

from __future__ import annotations

import argparse
import pathlib


def json_and_png(module: str, description: str | None) -> tuple[pathlib.Path, pathlib.Path]:
    """What a command that plots a run is given: the run, and where the plot goes.

    Args:
        module: The command's, for its help.
        description: Likewise.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("json", type=pathlib.Path)
    parser.add_argument("png", type=pathlib.Path, nargs="?", help="default: beside the JSON")
    given = parser.parse_args()
    return given.json, given.png or given.json.with_suffix(".png")
