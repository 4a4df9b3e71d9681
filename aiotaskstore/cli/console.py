"""Output: messages on stderr, data on stdout; colours and progress bars only on a terminal that has them."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import click

from aiotaskstore.cli.exit_code import ExitCode, Failure, plain
from aiotaskstore.cli.formatting import as_json, number
from aiotaskstore.cli.streams import discard
from aiotaskstore.cli.text_width import cut, padded, width_of

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress as RichProgress

_LINE_EVERY = 1.0
"""Seconds between lines of progress where nobody watches."""
_BAR = 30
_NARROWEST_COLUMN = 8
_NARROWEST = 30
"""Columns that a text gets, however narrow the terminal."""
_COLOURS = {"succeeded": "green", "failed": "red", "interrupted": "red", "running": "cyan", "cancelled": "yellow"}


class Display(Protocol):
    """Shows how far something is."""

    def show(self, doing: str, done: int, total: int | None, rest: str) -> None:
        """Show `doing`, then `done` of `total`, then the rest of the line."""


class Console:
    """What a command says and what it prints."""

    def __init__(self, *, prints_json: bool = False) -> None:
        self.prints_json = prints_json
        self._say: Callable[[str], None] = _to_stderr

    def say(self, text: str = "") -> None:
        """Print a message on stderr; it is never part of the data."""
        self._say(text)

    def say_with(self, say: Callable[[str], None]) -> None:
        """Give every message to this function instead."""
        self._say = say

    def print(self, text: str = "") -> None:
        """Print a line of data."""
        with delivering():
            click.echo(text)

    def print_fact(self, name: str, value: str, width: int, *, colour: str | None = None) -> None:
        """Print a named value, the names in a column of their own; further lines are printed under the first."""
        first, *more = value.splitlines() or [""]
        self.print(f"{_styled(f'{name:<{width}}', dim=True)} {_styled(first, fg=colour) if colour else first}")
        for line in more:
            self.print(f"{'':<{width}} {line}")

    @property
    def on_terminal(self) -> bool:
        """Whether data goes to a terminal, where people read it, and not to a pipe or a file."""
        return _is_terminal(sys.stdout)

    def print_paragraph(self, label: str, text: str, *, colour: str | None = None) -> None:
        """Print a label and a text that is broken into lines beside it."""
        width = max(_NARROWEST, self.width - len(label) - 1)
        first, *more = textwrap.wrap(text, width, break_on_hyphens=False) or [""]
        self.print(f"{_styled(label, fg=colour) if colour else label}{first}")
        for line in more:
            self.print(f"{'':<{len(label)}}{line}")

    def json(self, value: Any) -> None:
        """Print a value as JSON: an object, or a list with an item a line."""
        self.print(as_json(value))

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return shutil.get_terminal_size().columns

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        right: Sequence[str] = (),
        paths: Sequence[str] = (),
        whole: Sequence[str] = ("id",),
        colours: Mapping[str, str] = _COLOURS,
    ) -> None:
        """Print rows under their columns.

        `right` names those that hold numbers, `paths` those cut at the front, `whole` those never cut; `colours` has
        those of cells. On a terminal the widest columns are shortened so that lines fit; in a pipe nothing is cut.
        """
        widths = [max(map(width_of, (column, *(row[at] for row in rows)))) for at, column in enumerate(columns)]
        if self.on_terminal:
            _fit(widths, [column not in whole for column in columns], self.width)

        def line(cells: Sequence[str]) -> str:
            placed = []
            for column, cell, width in zip(columns, cells, widths, strict=True):
                text = padded(cut(cell, width, at_front=column in paths), width, right=column in right)
                placed.append(click.style(text, fg=colours[cell]) if cell in colours else text)
            return "  ".join(placed).rstrip()

        self.print(_styled(line([column.upper() for column in columns]), dim=True))
        for row in rows:
            self.print(_styled(line(row)))

    @contextmanager
    def display(self, noun: str, *, every: float = _LINE_EVERY) -> Iterator[Display]:
        """Show progress on stderr while the block runs; messages printed meanwhile appear above it.

        On no terminal that is a line, `every` so many seconds at most.
        """
        draws = _is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"
        if draws and importlib.util.find_spec("rich"):
            with _rich_display(noun) as (display, say):
                yield from self._saying(say, display)
        elif draws:
            display = OneLine(noun, sys.stderr)
            yield from self._saying(display.say, display)
            display.end()
        else:
            yield ManyLines(noun, self.say, every)

    def _saying(self, say: Callable[[str], None], display: Display) -> Iterator[Display]:
        before, self._say = self._say, say
        try:
            yield display
        finally:
            self._say = before


class ManyLines:
    """Progress for a log file: a line when what is done changes, and now and then in between."""

    def __init__(self, noun: str, say: Callable[[str], None], every: float) -> None:
        self._noun, self._say, self._every = noun, say, every
        self._doing, self._at, self._last = "", 0.0, ""

    def show(self, doing: str, done: int, total: int | None, rest: str) -> None:
        """Say it, unless something like it was said just now."""
        now = time.monotonic()
        line = f"{doing}: {_how_far(done, total, self._noun)}{' · ' if rest else ''}{rest}"
        if (doing == self._doing and now - self._at < self._every) or line == self._last:
            return
        self._doing, self._at, self._last = doing, now, line
        self._say(line)


class OneLine:
    """Progress on a terminal without rich: one line, written over and over."""

    def __init__(self, noun: str, stream: TextIO) -> None:
        self._noun, self._stream, self._line = noun, stream, ""

    def show(self, doing: str, done: int, total: int | None, rest: str) -> None:
        """Write it over what was there."""
        filled = int(_BAR * done / total) if total else 0
        bar = "█" * filled + "░" * (_BAR - filled)
        line = f"{doing} {bar} {_how_far(done, total, self._noun)}{' · ' if rest else ''}{rest}"
        self._line = line[: shutil.get_terminal_size().columns - 1]
        self._stream.write(f"\r\x1b[K{self._line}")
        self._stream.flush()

    def say(self, text: str) -> None:
        """Say something above the line."""
        self._stream.write(f"\r\x1b[K{text}\n{self._line}")
        self._stream.flush()

    def end(self) -> None:
        """Leave nothing behind."""
        self._stream.write("\r\x1b[K")
        self._stream.flush()


@contextmanager
def _rich_display(noun: str) -> Iterator[tuple[Display, Callable[[str], None]]]:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
    from rich.text import Text

    console = RichConsole(stderr=True, highlight=False)
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=_BAR), TextColumn("{task.fields[rest]}"),
    )  # fmt: skip
    progress = Progress(*columns, console=console, transient=True, refresh_per_second=12)
    bar = progress.add_task("", total=None, rest="")

    def say(text: str) -> None:
        line: RenderableType = Text(text)
        console.print(line, soft_wrap=True)

    with progress:
        console.show_cursor(show=True)  # a kill -9 could not bring it back
        yield _Rich(progress, bar, noun), say


class _Rich:
    def __init__(self, progress: RichProgress, bar: Any, noun: str) -> None:
        self._progress, self._bar, self._noun = progress, bar, noun

    def show(self, doing: str, done: int, total: int | None, rest: str) -> None:
        line = f"{_how_far(done, total, self._noun)}{' · ' if rest else ''}{rest}"
        self._progress.update(self._bar, description=doing, completed=done, total=total, rest=line)


def _how_far(done: int, total: int | None, noun: str) -> str:
    return f"{number(done)} {noun}" if total is None else f"{number(done)} of {number(total)} {noun}"


@contextmanager
def delivering() -> Iterator[None]:
    """Write data inside the block; end the command where it does not arrive.

    A reader who has gone (`| head`) has had enough: that is no failure. A full disk is one.
    """
    try:
        yield
    except OSError as error:
        discard(sys.stdout)
        if error.errno == errno.EPIPE:
            raise click.exceptions.Exit(ExitCode.DONE) from error
        raise Failure(f"The output could not be written: {error.strerror}.") from error


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()  # a stream that was closed before we started is None


def _to_stderr(text: str) -> None:
    try:
        click.echo(text, err=True)
    except OSError:  # what was said to nobody changes nothing
        discard(sys.stderr)


def _styled(line: str, **style: Any) -> str:
    """Style a line, unless there are to be no colours."""
    return click.unstyle(line) if plain() else click.style(line, **style) if style else line


def _fit(widths: list[int], may_shrink: Sequence[bool], columns: int) -> None:
    """Make the widest columns narrower until a line fits, each of them no narrower than it needs to be read."""
    over = sum(widths) + 2 * (len(widths) - 1) - columns
    while over > 0:
        at = max(range(len(widths)), key=lambda one: widths[one] if may_shrink[one] else 0)
        if not may_shrink[at] or widths[at] <= _NARROWEST_COLUMN:
            return
        widths[at] -= 1
        over -= 1
