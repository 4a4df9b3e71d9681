"""`doctor`: what is wrong with the database and with what uses it, and what to do."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import click

from aiotaskstore import Finding, Severity
from aiotaskstore.cli.command import Command
from aiotaskstore.cli.console import Console
from aiotaskstore.cli.exit_code import ExitCode
from aiotaskstore.cli.formatting import counted
from aiotaskstore.cli.target import Target, check_pool, shown, targeted

_SIGNS = {Severity.OK: ("✓", "green"), Severity.WARNING: ("!", "yellow"), Severity.PROBLEM: ("✗", "red")}


@click.command(cls=Command, short_help="Look for what is wrong, and say what to do.")
@targeted
def doctor(target: Target) -> None:
    """Look for what is wrong with the database and with what uses it, and say what to do.

    Changes nothing, and works on tables of any version. With --app it also compares what the app declares with what
    is stored. Exits with 0 where there is no problem (warnings may be), with 1 where there is one, with 75 where the
    database cannot be reached.

    \b
    aiotaskstore doctor --app myproject.tasks:store
    aiotaskstore doctor --url postgresql://app@localhost/app
    aiotaskstore doctor --json | jq -r '.[] | select(.severity != "ok") | .found'
    """  # noqa: D301
    store = target.store(creates=True)
    check_pool(store)
    found = asyncio.run(store.diagnose())
    if target.prints_json:
        target.console.json(found)
    else:
        _print(target.console, found)
        counts = Counter(finding.severity for finding in found)
        warnings, problems = counted(counts[Severity.WARNING], "warning"), counted(counts[Severity.PROBLEM], "problem")
        target.console.say(f"{counts[Severity.OK]} ok, {warnings}, {problems}: {shown(store)}")
    if any(finding.severity is Severity.PROBLEM for finding in found):
        raise SystemExit(ExitCode.FAILED)


def _print(console: Console, found: Sequence[Finding]) -> None:
    """Print a paragraph for each finding on a terminal, in a pipe a line with tabs."""
    if not console.on_terminal:
        for finding in found:
            console.print(f"{finding.severity}\t{finding.check}\t{finding.found}\t{finding.advice}")
        return
    width = max(len(finding.check) for finding in found)
    for finding in found:
        sign, colour = _SIGNS[finding.severity]
        console.print_paragraph(f"{sign} {finding.check:<{width}}  ", finding.found, colour=colour)
        if finding.advice:
            console.print_paragraph(" " * (width + 4), f"→ {finding.advice}")
