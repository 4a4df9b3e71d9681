"""Every acceptance case is proven by a test, and every promise names one that there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance import PAGE, ROOT, cases, pending, proofs

PROVING = ("coming-from.md", "guarantees.md")
"""The pages whose rows end with the test that proves them."""


def test_every_case_is_carried_by_a_test():
    assert sorted(cases().keys() - proofs().keys() - pending()) == []


def test_what_is_pending_has_no_test_yet_and_is_a_case():
    assert sorted(pending() & proofs().keys()) == [], "they are proven now: take them out of the page's last section"
    assert sorted(pending() - cases().keys()) == []


def test_no_test_names_a_case_that_is_not_on_the_page():
    assert {id_: tests for id_, tests in proofs().items() if id_ not in cases()} == {}


def test_the_page_names_each_case_once_and_in_order():
    ids = re.findall(r"^\| (A\d+) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert ids == sorted(set(ids), key=lambda id_: int(id_[1:]))
    assert len(ids) > 100


def test_the_listing_shows_each_case_with_its_tests_and_fails_where_there_is_none():
    done = subprocess.run(
        [sys.executable, "-m", "tests.acceptance"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    for id_, case in cases().items():
        assert f"{id_}  {case}\n" in done.stdout
    assert done.returncode == (1 if pending() else 0)
    assert "tests/public_api/test_hooks.py::" in done.stdout


@pytest.mark.parametrize("page", PROVING)
def test_every_test_that_a_page_names_exists(page: str):
    named = set(re.findall(r"`([\w/]+\.py)`::(test_\w+)", (ROOT / "docs" / page).read_text("utf-8")))
    assert len(named) > 30
    sources: dict[Path, str] = {}
    for name, test in sorted(named):
        file = ROOT / "tests" / name
        assert file.exists(), f"{page}: {name}"
        text = sources.setdefault(file, file.read_text("utf-8"))
        assert re.search(rf"^ *(?:async )?def {test}\(", text, re.MULTILINE), f"{page}: {name}::{test}"


@pytest.mark.parametrize("page", PROVING)
def test_every_row_of_a_page_that_proves_names_a_test_or_why_there_is_none(page: str):
    rows = re.findall(r"^\|.+\|$", (ROOT / "docs" / page).read_text("utf-8"), re.MULTILINE)
    reasons = ("::test_", "dropped, because", "| proven by |", "|---|")
    assert [row for row in rows if not any(reason in row for reason in reasons)] == []
