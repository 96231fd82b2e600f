"""The stub of the compiled module has what the module has."""

from __future__ import annotations

import ast
import pathlib

import pytest

import splitop.lib
from splitop.lib import _kernels

Functions = dict[str, list[str]]  # their parameters, with "*" before those by keyword, "=" defaults


def _in_stub() -> tuple[set[str], Functions]:
    tree = ast.parse((pathlib.Path(splitop.lib.__path__[0]) / "_kernels.pyi").read_text())
    names: set[str] = set()
    functions: Functions = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            functions[node.name] = _parameters(node)
        elif isinstance(node, ast.ClassDef):
            (init,) = (item for item in node.body if isinstance(item, ast.FunctionDef))
            functions[node.name] = _parameters(init)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names | functions.keys(), functions


def _in_module() -> tuple[set[str], Functions]:
    names = {name for name in dir(_kernels) if not name.startswith("_")}
    functions: Functions = {}
    for name in names:
        value = getattr(_kernels, name)
        if not callable(value):
            continue
        doc = value.__init__.__doc__ if isinstance(value, type) else value.__doc__
        (node,) = ast.parse(f"def {doc.splitlines()[0]}: ...").body
        assert isinstance(node, ast.FunctionDef)
        functions[name] = _parameters(node)
    return names, functions


def _parameters(node: ast.FunctionDef) -> list[str]:
    """Without `self`."""
    args = node.args
    required = len(args.args) - len(args.defaults)
    positional = [f"{each.arg}{'=' if at >= required else ''}" for at, each in enumerate(args.args)]
    by_keyword = [
        f"*{each.arg}{'=' if default is not None else ''}"
        for each, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)
    ]
    return [name for name in positional if name != "self"] + by_keyword


def test_names() -> None:
    assert _in_stub()[0] == _in_module()[0]


@pytest.mark.parametrize("name", sorted(_in_module()[1]))
def test_parameters(name: str) -> None:
    assert _in_stub()[1][name] == _in_module()[1][name]
