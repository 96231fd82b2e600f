from __future__ import annotations

import subprocess
import sys

import splitop


def test_all_public_names_are_there() -> None:
    for name in splitop.__all__:
        assert getattr(splitop, name) is not None
    assert dir(splitop) == splitop.__all__


def test_importing_it_does_not_import_tensorflow() -> None:
    code = "import sys, splitop; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_errors_are_under_one_class() -> None:
    for name in ("SeedError", "CutError", "VariableListError", "NotFusableError"):
        assert issubclass(getattr(splitop, name), splitop.SplitError)
    assert issubclass(splitop.SplitError, ValueError)
    assert issubclass(splitop.LibraryError, ImportError)
