"""The README's examples run as they stand there."""

from __future__ import annotations

import pathlib
import re

import pytest

README = pathlib.Path(__file__).parents[2] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_there_is_an_example_of_each_call_and_of_tables() -> None:
    assert len(EXAMPLES) == 4


@pytest.mark.parametrize("number", range(4))
def test_example(number: int) -> None:
    # From a file: TensorFlow reads the source of what it traces.
    exec(compile(EXAMPLES[number], f"README example {number + 1}", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README.read_text()))))
def test_link(target: str) -> None:
    assert (README.parent / target).exists()
