"""What a diagnosis found: a value for people and for monitoring."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"
    """It works, but slower or less safely than it could, or not for long."""
    PROBLEM = "problem"
    """Tasks do not run, or may be lost, until somebody acts."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that `store.diagnose()` has found out."""

    check: str
    """What was looked at: one of the names in docs/guide/operating.md. A check may have several findings."""
    severity: Severity
    found: str
    """A sentence that says what was found."""
    advice: str = ""
    """What to do; empty where nothing is to be done."""


def ok(check: str, found: str, advice: str = "") -> Finding:
    """Return the finding that something is as it should be."""
    return Finding(check, Severity.OK, found, advice)


def warning(check: str, found: str, advice: str) -> Finding:
    """Return the finding that something could be better."""
    return Finding(check, Severity.WARNING, found, advice)


def problem(check: str, found: str, advice: str) -> Finding:
    """Return the finding that something must be done."""
    return Finding(check, Severity.PROBLEM, found, advice)
