"""The log of a worker on stderr: what of it is shown, and in which format."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from aiotaskstore import ConfigurationError, TaskLogFilter, TaskStoreError
from aiotaskstore.cli.console import Console
from aiotaskstore.cli.exit_code import ExitCode, code_of, sentence_of

LEVELS = {"errors": logging.ERROR, "warnings": logging.WARNING, "runs": logging.INFO, "debug": logging.DEBUG}
"""What a worker shows of the log, from little to much."""
LOG_FORMATS = ("text", "json")
_CHATTY = ("aiosqlite", "aiomysql", "asyncio", "asyncpg", "aiotaskstore.sql")
"""Loggers that log every statement, or about the event loop: no help in finding out what a task does."""

_log = logging.getLogger("aiotaskstore.worker")


class StderrLog:
    """The log on stderr, as `verbosity` and `log_format` have it."""

    def __init__(self, verbosity: str, log_format: str) -> None:
        self._verbosity, self._format = verbosity, log_format

    def begin(self, console: Console) -> None:
        """Log to stderr. An app that configured logging keeps its handlers, and without an option its levels.

        In JSON, what the console says is a record too, so that every line can be parsed. Raises `ConfigurationError`
        for JSON that is not installed, or where the app has handlers of its own.
        """
        level, ours = LEVELS[self._verbosity], logging.getLogger("aiotaskstore")
        configured = bool(logging.getLogger().handlers)
        if not configured:
            logging.basicConfig(level=level, handlers=[self._handler()])
            ours.setLevel(level)
        elif self._verbosity != "runs":
            ours.setLevel(level)
        if self._format == "json":
            if configured:
                raise ConfigurationError(
                    "--log-format json is for an app that leaves logging alone, and this one has configured handlers "
                    "of its own. Leave the option out, and give those handlers a JSON formatter."
                )
            console.say_with(lambda text: _log.info("%s", text.strip()))
        if self._verbosity != "debug":
            logging.getLogger("aiotaskstore.task").setLevel(logging.WARNING)
        for name in _CHATTY:
            logger = logging.getLogger(name)
            logger.setLevel(logger.level or max(level, logging.INFO))
        logging.getLogger("asyncpg").setLevel(
            logging.CRITICAL
        )  # a database that is away is reported by us, in one line

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Have what ends the worker inside the block written as JSON, where that is the format; the exit code stays."""
        try:
            yield
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if self._format != "json":
                raise
            if isinstance(error, TaskStoreError):
                _log.critical("the worker ends: %s", sentence_of(error))
                raise SystemExit(code_of(error)) from error
            _log.critical("the worker ends: %s", type(error).__name__, exc_info=error)
            raise SystemExit(ExitCode.FAILED) from error

    def _handler(self) -> logging.Handler:
        handler = logging.StreamHandler()
        handler.addFilter(TaskLogFilter())
        handler.setFormatter(_json_formatter() if self._format == "json" else _TEXT)
        return handler


_TEXT = logging.Formatter("%(asctime)s %(process)d %(levelname)-7s %(message)s")


def _json_formatter() -> logging.Formatter:
    """Make the formatter of one JSON object a record: what `extra=` adds to it is part of the object."""
    try:
        from pythonjsonlogger.json import JsonFormatter
    except ImportError as error:
        raise ConfigurationError("--log-format json needs a package: pip install 'aiotaskstore[cli]'.") from error

    class WithoutEmptyFields(JsonFormatter):
        """Leaves out what `TaskLogFilter` had nothing for: an attempt is a number or is not there."""

        def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
            return super().process_log_record({name: one for name, one in log_data.items() if one != ""})

    return WithoutEmptyFields(
        "{levelname}{name}{process}{message}", style="{", timestamp=True,
        rename_fields={"levelname": "level", "name": "logger", "exc_info": "traceback"},
    )  # fmt: skip
