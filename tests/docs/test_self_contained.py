"""The project speaks for itself: nothing in it refers to a ticket, a plan or a folder that a reader does not have.

The words that give such a reference away are put together from parts here, so that this file has none of them either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = ("aiotaskstore", "tests", "benchmarks", "docs", ".ci")
PAGES = ("README.md", "CHANGELOG.md", "pyproject.toml")
KINDS = {".py", ".md", ".sql", ".toml", ".sh", ""}

TICKET, FOLDER, PLAN = "iss" + "ue", "sha" + "red/", "the bri" + "ef"
ASKED = r"as (asked|ordered|requested) (by|in)|we were (asked|told)"

ELSEWHERE = {
    "a ticket": rf"\b{TICKET}s?\s*#?\d|\b(later|earlier|this|next|coming|previous|that|an?) {TICKET}s?\b",
    "a folder that is not here": rf"\b{FOLDER}",
    "whoever asked": rf"\b({ASKED}|{PLAN})\b",
}
"""What a sentence may refer to that its reader cannot look up, and by which words it is known."""
DOCUMENT = re.compile(r"[\w-]+\.md\b")
DOCUMENTS = {
    file.name for file in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
}


def texts() -> Iterator[Path]:
    """Yield every file that people read."""
    for place in PLACES:
        for file in (ROOT / place).rglob("*"):
            if file.is_file() and file.suffix in KINDS and "__pycache__" not in file.parts:
                yield file
    yield from (ROOT / page for page in PAGES)


def referring(text: str) -> list[str]:
    """Return the passages that refer to something elsewhere."""
    absent = [f"a document that is not here: {name}" for name in DOCUMENT.findall(text) if name not in DOCUMENTS]
    return absent + [
        f"{what}: {match[0]}" for what, words in ELSEWHERE.items() for match in re.finditer(words, text, re.IGNORECASE)
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"what {TICKET} 2 asks for", True), (f"statuses that only later {TICKET}s reach", True),
        (f"see {TICKET} #14", True), (f"({FOLDER}research/performance)", True), ("as the notes" + ".md say", True),
        ("as asked" + f" by {PLAN}", True),
        ("issubclass(kind, Event)", False), ("a shared lock", False), ("the project's storage study", False),
        ("the database was asked to stop", False), ("docs/reference/index.md", False),
    ],
)  # fmt: skip
def test_a_reference_to_something_elsewhere_is_known_by_its_words(text: str, found: bool):
    assert bool(referring(text)) is found


def test_nothing_refers_to_what_a_reader_does_not_have():
    found = [f"{file.relative_to(ROOT)}: {one}" for file in texts() for one in referring(file.read_text("utf-8"))]
    assert sorted(found) == []
