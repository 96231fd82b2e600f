"""The commit that is measured."""

from __future__ import annotations

import pathlib
import subprocess

ROOT = pathlib.Path(__file__).parents[1]


def commit() -> str | None:
    """Of the sources; None outside a repository."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=10", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
