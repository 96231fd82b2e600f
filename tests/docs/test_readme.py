"""The examples of the README and of the guide run as they stand there."""

from __future__ import annotations

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGES = {"README.md": 4, "docs/guide.md": 7}  # and how many examples they have
EXAMPLES = [
    pytest.param(page, example, id=f"{page}-{number}")
    for page in PAGES
    for number, example in enumerate(
        re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL), 1
    )
]
LINKS = sorted(
    (page, target)
    for page in ["README.md", *(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md"))]
    for target in set(re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text()))
)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == sum(PAGES.values())


@pytest.mark.parametrize(("page", "example"), EXAMPLES)
def test_example(page: str, example: str) -> None:
    # From a file: TensorFlow reads the source of what it traces.
    exec(compile(example, f"an example of {page}", "exec"), {"__name__": "example"})


@pytest.mark.parametrize(("page", "target"), LINKS)
def test_link(page: str, target: str) -> None:
    assert ((ROOT / page).parent / target).exists()
