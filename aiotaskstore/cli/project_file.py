"""`[tool.aiotaskstore]` of the `pyproject.toml` in the current folder."""

from __future__ import annotations

import tomllib
from pathlib import Path

import click


def app_of_project() -> str | None:
    """Return the app that the project names; `None` where there is no file, or it names none.

    Raises a usage error for a file that cannot be read, and for an app that is no text.
    """
    file = Path("pyproject.toml")
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise click.UsageError(
            f"{file.absolute()} is looked at for an app, and cannot be read: {error}. Correct it, or give --app."
        ) from error
    tool = values.get("tool", {})
    ours = tool.get("aiotaskstore", {}) if isinstance(tool, dict) else {}
    app = ours.get("app") if isinstance(ours, dict) else None
    if app is not None and not isinstance(app, str):
        raise click.UsageError(
            f'In {file.absolute()}, [tool.aiotaskstore] app is {app!r:.100}. Write app = "myproject.tasks:store".'
        )
    return app or None
