"""`python -m splitop demo | doctor | verify`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "demo": "train a classifier in two parts and plot it",
    "doctor": "show versions and state, and test the compiled op",
    "verify": "check that a model trains in two parts as it does in one",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; its own module parses its options.

    Returns:
        The exit status.
    """
    width = max(map(len, COMMANDS))
    parser = argparse.ArgumentParser(
        prog="python -m splitop",
        description="Train a TensorFlow model in two parts.",
        epilog="commands:\n"
        + "\n".join(f"  {name:<{width}}  {what}" for name, what in COMMANDS.items())
        + "\n\n`python -m splitop COMMAND --help` shows the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="see below")
    parser.add_argument("options", nargs=argparse.REMAINDER, metavar="...", help="its options")
    arguments = parser.parse_args(argv)
    # Imported here: the commands are heavy, and doctor has to start when demo can't.
    command = importlib.import_module(f"splitop._src.cli.{arguments.command}")
    status: int = command.main(arguments.options)
    return status


if __name__ == "__main__":
    sys.exit(main())
