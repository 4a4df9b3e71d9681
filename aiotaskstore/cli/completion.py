"""What the shell completes that click does not know: the aliases of the app's tasks."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout

import click

from aiotaskstore.cli.target import Target


def aliases(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the app's aliases that begin so; none where the app is not named, or cannot be imported."""
    target = context.find_object(Target) or Target()
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # what it printed would be completed too
            known = [one.alias for one in target.app_store().handlers]
    except Exception:  # noqa: BLE001 - whoever presses a key wants no message in the middle of the line
        return []
    return [alias for alias in known if alias.startswith(incomplete)]
