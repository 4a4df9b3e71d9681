"""Which store a command works on: an app's, or the one of a bare URL."""

from __future__ import annotations

import asyncio
import os
import pkgutil
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from aiotaskstore.cli.console import Console
from aiotaskstore.cli.exit_code import ExitCode, Failure
from aiotaskstore.errors import ConfigurationError, SchemaOutdatedError
from aiotaskstore.storage.migrations import LATEST
from aiotaskstore.storage.url import parse_url
from aiotaskstore.taskstore import TaskStore

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])

APP, URL = "AIOTASKSTORE_APP", "AIOTASKSTORE_URL"
_WHICH_APP = (
    f"Name the app whose tasks it is about: --app module:attribute, or {APP}. "
    "Example: --app myproject.tasks:store, where `store = TaskStore(…)`."
)
_WHICH_DATABASE = (
    f"Name a database: --url sqlite:///tasks.db (or {URL}), or the app that knows it: --app module:attribute "
    f"(or {APP})."
)


@dataclass
class Target:
    """What `--app`, `--url` and `--json` said, before or after the command's name."""

    given_app: str | None = None
    given_url: str | None = None
    prints_json: bool = False

    @property
    def console(self) -> Console:
        """Where this command's words go."""
        return Console(prints_json=self.prints_json)

    @property
    def app(self) -> str | None:
        """The app, from the command line or the environment."""
        return self.given_app or os.environ.get(APP) or None

    @property
    def url(self) -> str | None:
        """The database's URL, from the command line or the environment."""
        return self.given_url or os.environ.get(URL) or None

    def app_store(self) -> TaskStore:
        """Give the app's store, for commands that need to know its tasks."""
        if self.app is None:
            raise click.UsageError(_WHICH_APP)
        if self.given_url:
            parse_url(self.given_url)
            os.environ[URL] = self.given_url  # where an app's TaskStore.from_env() looks
        store = load(self.app)
        if self.given_url and database_of(store) != self.given_url:
            raise ConfigurationError(
                f"The store of --app {self.app} is on {shown(store)}, not on what --url says. Make it with "
                "TaskStore.from_env() so that --url decides, or leave --url out."
            )
        return store

    def store(self, *, creates: bool = False) -> TaskStore:
        """Give a store for commands that need only the database; the app is imported only if no URL is at hand.

        It leaves the tables as they are when it opens; where even the SQLite file is missing, this raises
        `SchemaOutdatedError`, unless the command `creates` it.
        """
        if self.given_url or (self.url and not self.given_app):
            return _bare_store(self.url or "", creates=creates)
        if self.app:
            return _leaving_tables(load(self.app))
        raise click.UsageError(_WHICH_DATABASE)

    def enqueuing_store(self) -> TaskStore:
        """Give the app's store if there is an app, since it checks payloads by their signatures; else a bare one."""
        return self.app_store() if self.app else self.store()


def targeted(command: Command) -> Command:
    """Add `--app`, `--url` and `--json` to a command, and hand it the `Target` first."""
    app = click.option(
        "--app", "given_app", metavar="MODULE:ATTR", expose_value=False, callback=_keep,
        help=f"The app's TaskStore, or a function that makes it.  [env: {APP}]",
    )  # fmt: skip
    return on_a_database(app(command))


def on_a_database(command: Command) -> Command:
    """Add `--url` and `--json` to a command that has no app, and hand it the `Target` first."""
    url = click.option(
        "--url", "given_url", metavar="URL", expose_value=False, callback=_keep,
        help=f"The database: postgresql://… mysql://… sqlite:///file.  [env: {URL}]",
    )  # fmt: skip
    json = click.option("--json", "prints_json", is_flag=True, expose_value=False, callback=_keep, help="Print JSON.")
    wrapped: Any = url(json(click.pass_obj(command)))
    return cast(Command, wrapped)


def run_with(store: TaskStore, work: Callable[[TaskStore], Awaitable[T]]) -> T:
    """Open the store, do the work, close it."""

    async def main() -> T:
        async with store:
            return await work(store)

    return asyncio.run(main())


def load(app: str) -> TaskStore:
    """Import `module:attribute`; a function without parameters is called."""
    module, colon, attribute = app.partition(":")
    if not (module and colon and attribute):
        raise ConfigurationError(f'--app takes module:attribute, such as myproject.tasks:store, not "{app}".')
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    found = _import(module, attribute)
    if not isinstance(found, TaskStore) and callable(found):
        found = found()
    if not isinstance(found, TaskStore):
        raise ConfigurationError(
            f'"{app}" is {type(found).__name__}, and --app takes a TaskStore or a function that makes one.'
        )
    return found


def _import(module: str, attribute: str) -> Any:
    try:
        return pkgutil.resolve_name(f"{module}:{attribute}")
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise ConfigurationError(
                f'There is no module "{error.name}" here. --app is looked for in {Path.cwd()} and among installed '
                "packages; its dots follow the folders."
            ) from error
        raise _broken(module) from error
    except AttributeError as error:
        known = [name for name, value in vars(sys.modules.get(module, object)).items() if isinstance(value, TaskStore)]
        if module not in sys.modules:
            raise _broken(module) from error
        hint = f" It has {', '.join(known)}." if known else " It holds no TaskStore at its top level."
        raise ConfigurationError(f'The module "{module}" has no "{attribute}".{hint}') from error
    except Exception as error:
        raise _broken(module) from error


def _broken(module: str) -> Failure:
    """Show where the app's own import went wrong."""
    click.echo(traceback.format_exc(), err=True)
    return Failure(f'Importing "{module}" raised the error above.', ExitCode.FAILED)


def _bare_store(url: str, *, creates: bool) -> TaskStore:
    parsed = parse_url(url)
    store = TaskStore(url, migrate=False)
    if not creates and parsed.dialect == "sqlite" and parsed.path != ":memory:" and not Path(parsed.path).exists():
        raise SchemaOutdatedError(None, LATEST)  # to open it would leave an empty file behind
    return store


def _leaving_tables(store: TaskStore) -> TaskStore:
    store._migrates = False  # noqa: SLF001 - no public name yet: whoever only looks must not change the tables
    return store


def database_of(store: TaskStore) -> Any:
    """Give the URL or the pool a store was made with."""
    return store._target  # noqa: SLF001 - no public name yet; the only place that asks


def shown(store: TaskStore) -> str:
    """Name a store's database without its password."""
    target = database_of(store)
    return str(parse_url(target)) if isinstance(target, str) else f"the application's {type(target).__name__}"


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    target = context.find_root().ensure_object(Target)
    if value:
        setattr(target, str(parameter.name), value)
