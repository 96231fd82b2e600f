"""Prints the build requirements and those of the named extras, from pyproject.toml.

pip can't install the requirements of a package without building it, and splitop can only
be built once TensorFlow is there.
"""

from __future__ import annotations

import pathlib
import sys

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib


def main(extras: list[str]) -> None:
    """Prints one requirement a line."""
    path = pathlib.Path(__file__).parents[1] / "pyproject.toml"
    config = tomllib.loads(path.read_text())
    print(*config["build-system"]["requires"], sep="\n")
    print(*config["project"]["dependencies"], sep="\n")
    for extra in extras:
        print(*config["project"]["optional-dependencies"][extra], sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
