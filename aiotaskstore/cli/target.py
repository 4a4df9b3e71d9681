"""Which store a command works on: an app's, or the one of a bare URL."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import unquote

import click

from aiotaskstore import ConfigurationError, TaskStore
from aiotaskstore.cli.application import load
from aiotaskstore.cli.console import Console
from aiotaskstore.cli.exit_code import Failure
from aiotaskstore.cli.project_file import app_of_project

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])

APP, URL, ANY_URL = "AIOTASKSTORE_APP", "AIOTASKSTORE_URL", "DATABASE_URL"
_DEFAULT_PREFIX = inspect.signature(TaskStore).parameters["prefix"].default
_WHICH_APP = (
    f"Name the app whose tasks it is about: --app module:attribute, {APP}, or app under [tool.aiotaskstore] in "
    "the pyproject.toml of this folder. "
    "Example: --app myproject.tasks:store, where `store = TaskStore(…)`."
)
_WHICH_DATABASE = (
    f"Name a database: --url sqlite:///tasks.db (or {URL}, or {ANY_URL}), or the app that knows it: "
    f"--app module:attribute (or {APP})."
)


@dataclass
class Target:
    """The values of `--app`, `--url`, `--json` and the like, whether they stand before or after the command's name."""

    given_app: str | None = None
    given_url: str | None = None
    given_prefix: str | None = None
    given_schema: str | None = None
    prints_json: bool = False
    guesses_tables: bool = False
    """Whether only a URL was known, so that prefix and schema are what the command line said or the usual ones."""

    @cached_property
    def console(self) -> Console:
        """The console that this command prints on, the same at each access."""
        return Console(prints_json=self.prints_json)

    @property
    def app(self) -> str | None:
        """The app, from the command line, the environment, or the project's file."""
        return self.given_app or os.environ.get(APP) or app_of_project()

    @property
    def url(self) -> str | None:
        """The database's URL, from the command line or the environment."""
        return self.given_url or os.environ.get(URL) or os.environ.get(ANY_URL) or None

    def check_app_named(self) -> str:
        """Return the app; a usage error where none is named."""
        if self.app is None:
            raise click.UsageError(_WHICH_APP)
        return self.app

    def app_store(self) -> TaskStore:
        """Import the app's store, for commands that need to know its tasks."""
        app = self.check_app_named()
        if self.given_url:
            given = TaskStore(self.given_url).url
            os.environ[URL] = self.given_url  # where an app's TaskStore.from_env() looks
        store = load(app)
        if self.given_url and store.url != given:
            raise ConfigurationError(
                f"The store of --app {self.app} is on {shown(store)}, not on what --url says. Make it with "
                "TaskStore.from_env() so that --url decides, or leave --url out."
            )
        self._check_naming(store)
        return store

    def store(self, *, creates: bool = False) -> TaskStore:
        """Return an unopened store for commands that need only the database.

        An app that is named wins over a URL in the environment, since it knows its tables' prefix and schema; a URL
        on the command line needs no app. Raises `Failure` if the SQLite file is missing, unless the command `creates`
        it.
        """
        if (self.given_app or not self.given_url) and self.app:
            store = self.app_store()
        elif self.url:
            self.guesses_tables = True
            prefix = self.given_prefix or _DEFAULT_PREFIX
            store = TaskStore(self.url, prefix=prefix, schema=self.given_schema, migrate=False)
        else:
            raise click.UsageError(_WHICH_DATABASE)
        if not creates:
            _check_file(store)
        return store

    def enqueuing_store(self) -> TaskStore:
        """Return the app's store if there is an app, since it checks payloads by their signatures; else a bare one."""
        return self.app_store() if self.app else self.store()

    def _check_naming(self, store: TaskStore) -> None:
        for option, given, found in (
            ("--prefix", self.given_prefix, store.prefix), ("--schema", self.given_schema, store.schema),
        ):  # fmt: skip
            if given is not None and given != found:
                schema = f', schema "{store.schema}"' if store.schema else ""
                raise ConfigurationError(
                    f'The store of --app {self.app} has the tables\' prefix "{store.prefix}"{schema}, so '
                    f"{option} {given} cannot be meant. Leave {option} out, or change the app; without an app it goes "
                    "with --url."
                )


def targeted(command: Command) -> Command:
    """Add `--app`, `--url`, `--prefix`, `--schema` and `--json` to a command, and pass it the `Target` first."""
    return _with_options(command, _APP_OPTION, _URL_OPTION, _PREFIX_OPTION, _SCHEMA_OPTION, _JSON_OPTION)


def on_a_database(command: Command) -> Command:
    """Add `--url` and `--json` to a command that has no app, and pass it the `Target` first."""
    return _with_options(command, _URL_OPTION, _JSON_OPTION)


def _with_options(command: Command, *options: Callable[[Any], Any]) -> Command:
    wrapped: Any = click.pass_obj(command)
    for option in reversed(options):  # the last one added is the first in the help
        wrapped = option(wrapped)
    return cast(Command, wrapped)


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    target = context.find_root().ensure_object(Target)
    if value:
        setattr(target, str(parameter.name), value)


_APP_OPTION = click.option(
    "--app", "given_app", metavar="MODULE:ATTR", expose_value=False, callback=_keep,
    help=f"The app's TaskStore, or a function that makes it.  [env: {APP}; pyproject.toml]",
)  # fmt: skip
_URL_OPTION = click.option(
    "--url", "given_url", metavar="URL", expose_value=False, callback=_keep,
    help=f"The database: postgresql://… mysql://… sqlite:///file.  [env: {URL}, {ANY_URL}]",
)  # fmt: skip
_PREFIX_OPTION = click.option(
    "--prefix", "given_prefix", metavar="TEXT", expose_value=False, callback=_keep,
    help=f"What the tables' names begin with, where only a URL is given.  [default: {_DEFAULT_PREFIX}]",
)  # fmt: skip
_SCHEMA_OPTION = click.option(
    "--schema", "given_schema", metavar="NAME", expose_value=False, callback=_keep,
    help="The PostgreSQL schema of the tables, where only a URL is given.",
)  # fmt: skip
_JSON_OPTION = click.option(
    "--json", "prints_json", is_flag=True, expose_value=False, callback=_keep, help="Print JSON."
)


def run_with(store: TaskStore, work: Callable[[TaskStore], Awaitable[T]], *, migrate: bool | None = False) -> T:
    """Open the store, do the work, close it. A command that only reads leaves the tables as they are."""

    async def main() -> T:
        await store.open(migrate=migrate)
        async with store:
            return await work(store)

    check_pool(store)
    return asyncio.run(main())


def check_pool(store: TaskStore) -> None:
    """Refuse a store on a pool of the application, which only works on the event loop that it was opened on."""
    if store.pool is not None:
        raise ConfigurationError(
            f"The app's store is on a pool of its own ({type(store.pool).__module__}.{type(store.pool).__name__}), "
            "which a command cannot open. Name with --app a function that returns a store on a URL, or for commands "
            "that only look, name the database with --url and leave --app out."
        )


def sqlite_file(store: TaskStore) -> Path | None:
    """Return the path of a store's SQLite file; `None` on a server, in memory, and on a pool of the application."""
    scheme, _, rest = (store.url or "").partition("://")
    path = unquote(rest.partition("?")[0]).removeprefix("/")
    return Path(path) if scheme == "sqlite" and path not in ("", ":memory:") else None


def shown(store: TaskStore) -> str:
    """Return the name of a store's database, without its password."""
    return store.url or f"the application's {type(store.pool).__name__}"


def _check_file(store: TaskStore) -> None:
    """Refuse to open a SQLite file that does not exist, since that would leave an empty one behind."""
    file = sqlite_file(store)
    if file is not None and file.parent.is_dir() and not file.exists():  # a missing folder is the database's own error
        raise Failure(
            f"There is no SQLite file {file.absolute()}. Run `aiotaskstore migrate` to make it, with its tables, or "
            "name another one."
        )
