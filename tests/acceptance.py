"""Which tests prove which acceptance case: `python -m tests.acceptance [ID …]`; exits with 1 where a case has none."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "acceptance.md"


def cases() -> dict[str, str]:
    """Return each case on the page, by its id."""
    return dict(re.findall(r"^\| (A\d+) \| ([^|]+?) \| [^|]+ \|$", PAGE.read_text("utf-8"), re.MULTILINE))


def pending() -> set[str]:
    """Return the cases that the page says are not proven yet."""
    return set(re.findall(r"^- (A\d+):", PAGE.read_text("utf-8").partition("\n## Pending")[2], re.MULTILINE))


def proofs() -> dict[str, list[str]]:
    """Return the tests that carry each id, as pytest names them."""
    found: dict[str, list[str]] = {}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for test, ids in _marked(ast.parse(file.read_text("utf-8"))):
            for id_ in ids:
                found.setdefault(id_, []).append(f"{file.relative_to(ROOT)}::{test}")
    return found


def _marked(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            ids = [id_ for decorator in node.decorator_list for id_ in _ids(decorator)]
            if ids:
                yield node.name, ids


def _ids(decorator: ast.expr) -> list[str]:
    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.acceptance":
        return [str(ast.literal_eval(argument)) for argument in decorator.args]
    return []


def main(wanted: Sequence[str]) -> int:
    """Print each case, or those wanted, with its tests."""
    found, missing = proofs(), 0
    for id_, case in cases().items():
        if wanted and id_ not in wanted:
            continue
        tests = found.get(id_, [])
        missing += not tests
        print(f"{id_}  {case}", *(tests or ["no test"]), sep="\n      ")  # noqa: T201 - what it is for
    print(f"{missing} without a test" if missing else "every case has a test")  # noqa: T201
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
