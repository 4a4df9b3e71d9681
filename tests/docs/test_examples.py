"""What the guide shows of the example programs stands in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.programs import ROOT, blocks

EXAMPLES = "\n".join(file.read_text("utf-8") for file in (ROOT / "docs" / "examples").rglob("*.py"))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(block.text, id=block.where)
        for page in sorted(Path(ROOT / "docs" / "guide").glob("*.md"))
        for block in blocks(page)
        if block.language == "py"
    ],
)
def test_an_excerpt_of_an_example_is_what_the_example_says(text: str):
    for part in text.split("\n\n\n"):
        assert part.strip("\n") in EXAMPLES
