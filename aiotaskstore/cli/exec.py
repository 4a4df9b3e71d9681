"""`exec`: run a handler here and now, without a queue."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import click

from aiotaskstore import (
    ConfigurationError,
    DatabaseUnavailableError,
    HandlerReturnedFalseError,
    TaskContext,
    TaskStore,
    UnknownAliasError,
)
from aiotaskstore.alias import RESERVED, fold
from aiotaskstore.cli.command import Command
from aiotaskstore.cli.completion import aliases
from aiotaskstore.cli.console import Console
from aiotaskstore.cli.definitions import print_arguments, print_definitions
from aiotaskstore.cli.exit_code import ExitCode, plain, sentence_of
from aiotaskstore.cli.target import Target, check_pool, targeted
from aiotaskstore.definition import AnyDefinition
from aiotaskstore.direct import DirectRun
from aiotaskstore.mechanics.text import printable
from aiotaskstore.mechanics.tracebacks import shortened


def _value_after(word: str, words: deque[str]) -> list[str]:
    """Take the value of `--k v`, if there is one."""
    names = word.startswith("--") and "=" not in word
    return [words.popleft()] if names and words and not words[0].lstrip().startswith("--") else []


def options_of(words: Sequence[str]) -> dict[str, str]:
    """Read `--k=v`, `--k v` and `--k`, which is an empty text; of a repeated option the last one counts."""
    rest = deque(word.strip() for word in words)
    options: dict[str, str] = {}
    while rest:
        word = rest.popleft()
        if word == "--":
            continue
        name, equals, value = word.removeprefix("--").partition("=")
        name = name.strip().replace("-", "_")
        if not word.startswith("--") or not name:
            raise click.UsageError(
                f'"{word}" belongs to no option of the handler. Write --name VALUE or --name=VALUE; a VALUE with '
                "spaces goes in quotes."
            )
        options[name] = value if equals else "".join(_value_after(word, rest))
    return options


_OWN = {"app": "given_app", "url": "given_url", "prefix": "given_prefix", "schema": "given_schema"}
"""The options with a value that the command and a handler may both have, and where the command keeps them."""


def _take_own(target: Target, words: Sequence[str]) -> tuple[list[str], set[str]]:
    """Give `target` the command's own options that stand after ALIAS; return the other words, and what was taken.

    What was given before ALIAS already, or stands after `--`, is left to the handler, and so is a --json with a value.
    """
    rest, left, taken = deque(words), list[str](), set[str]()
    while rest:
        word = rest.popleft()
        name, equals, value = word.strip().removeprefix("--").partition("=")
        if word.strip() == "--":
            return [*left, word, *rest], taken
        if word.strip() == "--json" and not (rest and not rest[0].lstrip().startswith("--")):
            target.prints_json = True
        elif word.strip().startswith("--") and name in _OWN and getattr(target, _OWN[name]) is None:
            given = value if equals else "".join(_value_after(word.strip(), rest))
            if not given:
                raise click.UsageError(f"--{name} has no value. Write --{name} VALUE.")
            setattr(target, _OWN[name], given)
        else:
            left.append(word)
            continue
        taken.add(name)
    return left, taken


@click.command("exec", cls=Command, context_settings={"allow_interspersed_args": False})
@click.argument("alias", shell_complete=aliases)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[--NAME VALUE]...")
@targeted
def execute(target: Target, alias: str, words: tuple[str, ...]) -> None:
    """Run a handler here and now, without a queue, and print its result; exit with 1 if it fails.

    ALIAS may differ in case, "-" and "_". What comes after it are the handler's arguments, --user-id for user_id; a
    function gets them as the types that it declares (JSON for lists and objects), a class handler as text, by
    context.param("name"). ALIAS --help tells which there are. The options of this command may stand there too; what
    comes after a -- is the handler's in any case.

    \b
    aiotaskstore exec hello-world --name "Tom Jones"
    aiotaskstore exec send_welcome --user-id=42 --locale bg --json
    aiotaskstore exec visit -- --url https://example.com
    aiotaskstore exec send_welcome --help

    The database is opened for the handler, and the app's lifespan is entered. Where the database cannot be reached, the
    handler runs all the same, and only what it enqueues, reads or writes there fails; the exit code is then 75.
    """  # noqa: D301
    given, own = _take_own(target, words)
    if fold(alias) in RESERVED:
        if given:
            raise click.UsageError(f'"{alias}" lists the handlers, and takes nothing after it: {" ".join(given)}.')
        print_definitions(target)
        return
    asks_help = "--help" in takewhile(lambda word: word != "--", given) or given[:1] == ["-h"]
    options = {} if given[:1] == ["-h"] else options_of(given)
    store, console = target.app_store(), target.console
    definition = _find(store.handlers, alias)
    declared = {one.name for one in definition.payload.parameters}
    if asks_help and "help" not in declared:
        print_arguments(console, definition)
        return
    for name in sorted(own & declared):
        raise click.UsageError(
            f"--{name} is an option of this command and an argument of {definition.alias}. Write the command's before "
            f"the alias, and the handler's after --: aiotaskstore exec {definition.alias} -- --{name} …"
        )
    payload = definition.payload
    text = payload.encode_values(payload.read_texts(options), store.payload_limit)
    shown = "".join(f" --{name}={json.dumps(value, ensure_ascii=False)}" for name, value in options.items())
    console.say(f"Running {definition.alias}{shown}")
    check_pool(store)
    with _saying(console):
        end = asyncio.run(_run_opened(store, console, definition, text, options))
    _print(console, definition, end)
    if end.error is not None:
        raise SystemExit(end.code)


@dataclass
class _End:
    """How a run ended."""

    run: DirectRun
    result: Any = None
    output: str | None = None
    error: BaseException | None = None
    code: ExitCode = ExitCode.FAILED
    """The exit code, if there is an error."""


def _find(definitions: Sequence[AnyDefinition], alias: str) -> AnyDefinition:
    """Return the definition that is meant; raise `UnknownAliasError`."""
    for exact in (True, False):
        for one in definitions:
            known = (one.alias, *one.defaults.former_aliases)
            if alias in known if exact else fold(alias) in map(fold, known):
                return one
    raise UnknownAliasError(alias, [one.alias for one in definitions])


async def _run_opened(
    store: TaskStore, console: Console, definition: AnyDefinition, text: str, options: dict[str, str]
) -> _End:
    """Run a handler with its store open; on a database that cannot be reached, with its store closed."""
    try:
        await store.open()
    except DatabaseUnavailableError as error:
        console.say(f"{sentence_of(error)} The handler runs without its database.")
        end = await _run(store, definition, text, options)
        if isinstance(end.error, ConfigurationError):
            end.code = ExitCode.UNAVAILABLE
        return end
    async with store:
        return await _run(store, definition, text, options, enter=store.enter_lifespan)


async def _run(
    store: TaskStore,
    definition: AnyDefinition,
    text: str,
    options: dict[str, str],
    *,
    enter: Callable[[], Awaitable[None]] | None = None,
) -> _End:
    """Run a handler; `enter` opens what the app's lifespan has for it."""
    run = DirectRun(definition.alias, definition.defaults, lambda: json.loads(text), state=lambda: store.state)
    context, end = TaskContext(run, store, options), _End(run)
    try:
        if enter is not None:
            await enter()
        arguments = definition.payload.decode(text)
        given = [arguments.pop(name, default) for name, default in definition.payload.positional_only.items()]
        value = await definition(context, *given, **arguments)
        end.result = json.loads(definition.result.encode_returned(value, context.output, store.payload_limit))
    except asyncio.CancelledError as error:
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise
        end.error = error
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is told, not raised
        end.error = error
    end.output = context.output
    return end


def _print(console: Console, definition: AnyDefinition, end: _End) -> None:
    error = end.error
    if console.prints_json:
        console.json(
            {
                "alias": definition.alias,
                "succeeded": error is None,
                "result": end.result,
                "output": end.output,
                "details": end.run.details,
                "progress": end.run.progress,
                "error": None if error is None else _described(error),
            }
        )
    elif error is None and end.result == end.output is not None:
        console.print(end.output)
    elif error is None and end.result is not None:
        console.json(end.result)
    if error is not None:
        trace = "" if isinstance(error, HandlerReturnedFalseError) else shortened(error)
        if trace:
            console.say(trace)
        console.say(f"{definition.alias} failed: {_described(error)}")


def _described(error: BaseException) -> str:
    name, text = type(error).__name__, printable(error)
    return text if isinstance(error, HandlerReturnedFalseError) else f"{name}: {text}" if text else name


@contextmanager
def _saying(console: Console) -> Iterator[None]:
    """Print what a handler says through its context at the moment it says it, whatever the app does with its log."""
    log, teller = logging.getLogger("aiotaskstore.task"), _Teller(console)
    before = log.level, log.propagate
    log.addHandler(teller)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(teller)
        log.level, log.propagate = before


class _Teller(logging.Handler):
    """Passes what is logged to a console."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message, an error in red."""
        text = record.getMessage()
        failed = record.levelno >= logging.ERROR and not plain()
        self._console.say(click.style(text, fg="red") if failed else text)
