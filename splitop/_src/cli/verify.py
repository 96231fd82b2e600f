"""`python -m splitop verify module:function`: the report on the model that a function gives."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class UsageError(Exception):
    """What was asked for can't be verified."""


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the report on what `module:function` gives.

    Returns:
        0 if all is well, 1 if the verification fails. A bad command line exits with 2.
    """
    parser = argparse.ArgumentParser(
        prog="python -m splitop verify",
        description="Check on a batch that a model trains in two parts as it does in one.",
        epilog="The function takes no arguments and returns a dictionary of the arguments of "
        "splitop.verify, or its report.",
    )
    parser.add_argument(
        "target",
        metavar="module:function",
        help="what to verify; modules are also found in the current directory",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    arguments = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        report = _report(_function(arguments.target), arguments.target)
    except UsageError as error:
        parser.error(str(error))
    print(json.dumps(report.to_dict(), indent=2) if arguments.json else report)
    return 0 if report.ok else 1


def _function(target: str) -> Callable[[], Any]:
    name, colon, attribute = target.partition(":")
    if not (name and colon and attribute):
        raise UsageError(f"give a module and a function as module:function. Received: {target!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(name)
    except Exception as error:
        raise UsageError(f"module {name!r} can't be imported. Received: {error!r}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(f"module {name!r} has no function {attribute!r}. Received: {target!r}")
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(f"{target} must be a function. Received: {type(found).__name__}")
    function: Callable[[], Any] = found
    return function


def _report(function: Callable[[], Any], target: str) -> Any:
    import splitop

    try:
        given = function()
    except Exception as error:
        traceback.print_exc()
        raise UsageError(f"{target}() failed. Received: {error!r}") from error
    if isinstance(given, splitop.VerifyReport):
        return given
    if not isinstance(given, Mapping):
        raise UsageError(
            f"{target}() must return a dictionary of arguments for splitop.verify, or its report. "
            f"Received: {type(given).__name__}"
        )
    try:
        return splitop.verify(**given)
    except (TypeError, splitop.SplitError) as error:
        raise UsageError(f"splitop.verify can't take what {target}() gives: {error}") from error
