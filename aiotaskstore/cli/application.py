"""Imports the TaskStore that `--app` names; whatever it is instead is said in a sentence."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import site
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from aiotaskstore import ConfigurationError, TaskStore
from aiotaskstore.mechanics.text import printable

_FORM = "--app takes module:attribute, such as myproject.tasks:store"
_EXPECTED = "--app takes a TaskStore, or a function without arguments that returns one"


def load(app: str) -> TaskStore:
    """Import `module:attribute`; a function without parameters is called. Raises `ConfigurationError`."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    name, colon, attribute = app.partition(":")
    if not (colon and _is_dotted(name) and _is_dotted(attribute)) or name.endswith(".py"):
        raise ConfigurationError(f'{_FORM}, not "{app}".{_meant(name, attribute)}')
    module = _import(name)
    found = _attribute(module, attribute)
    if isinstance(found, TaskStore):
        return found
    if not (inspect.isroutine(found) or isinstance(found, partial)):
        what = f"the class {found.__name__}" if isinstance(found, type) else _a(found)
        raise ConfigurationError(f'"{app}" is {what}, and {_EXPECTED}.{_stores_of(module)}')
    return _made_by(found, app, attribute)


def _made_by(function: Any, app: str, name: str) -> TaskStore:
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(
            f'"{app}" is an async function, and {_EXPECTED}. Write it without async: making a TaskStore touches no '
            "event loop and no database."
        )
    _check_needs_no_arguments(function, name)
    try:
        made = function()
    except Exception as error:
        raise ConfigurationError(f"Calling {name}() of --app {app} raised {_described(error)}") from error
    if isinstance(made, TaskStore):
        return made
    if inspect.iscoroutine(made):
        made.close()
    raise ConfigurationError(f'{name}() returned {"None" if made is None else _a(made)}, and {_EXPECTED} ("{app}").')


def _check_needs_no_arguments(function: Any, name: str) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # one written in C
        return
    try:
        signature.bind()
    except TypeError:
        raise ConfigurationError(
            f"{name}{signature} is called without arguments by --app, and needs some. Give them defaults, or name a "
            "function without arguments that calls it."
        ) from None


# ── the module ────────────────────────────────────────────────────────────────────────────────────────────────


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not (name == missing or name.startswith(f"{missing}.")):
            raise ConfigurationError(f'Importing "{name}" raised {_described(error)}') from error
        raise ConfigurationError(
            f'There is no module "{missing}" here. --app is looked for in {Path.cwd()} and among installed packages; '
            f"its dots follow the folders.{_near(missing, _modules_here())}"
        ) from error
    except SystemExit as error:
        raise ConfigurationError(f'Importing "{name}" called sys.exit({error.code!r}).') from error
    except Exception as error:
        raise ConfigurationError(f'Importing "{name}" raised {_described(error)}') from error


def _attribute(module: ModuleType, dotted: str) -> Any:
    found: Any = module
    try:
        for part in dotted.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        near = _near(dotted, (one for one in vars(module) if not one.startswith("_")))
        raise ConfigurationError(
            f'The module "{module.__name__}" has no "{dotted}".{near or _stores_of(module)}'
        ) from error
    return found


def _stores_of(module: ModuleType) -> str:
    """Return a sentence that lists the TaskStores of a module."""
    named = [f"--app {module.__name__}:{name}" for name, value in vars(module).items() if isinstance(value, TaskStore)]
    if not named:
        return f' The module "{module.__name__}" holds no TaskStore at its top level.'
    return f" The module holds {'one' if len(named) == 1 else 'these'}: {', '.join(named)}."


def _modules_here() -> list[str]:
    files = [*Path.cwd().glob("*.py"), *(one.parent for one in Path.cwd().glob("*/__init__.py"))]
    return [file.stem for file in files]


# ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _described(error: Exception) -> str:
    """Describe an error of the app's own code: its type and message, and the last line of the app that it passed."""
    what = f"{type(error).__name__}: {printable(error, limit=500).rstrip('.')}"
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}, at {_shown(error.filename)}:{error.lineno}: {_line(error.text)}"
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith("<") and not _is_installed(frame.filename)]
    if not theirs:
        return f"{what}."
    last = theirs[-1]
    return f"{what}, at {_shown(last.filename)}:{last.lineno}: {_line(last.line)}"


def _is_installed(file: str) -> bool:
    """Return whether a file is part of Python, of an installed package or of this library, not of the app."""
    folders = [sysconfig.get_path("stdlib"), *site.getsitepackages(), str(Path(__file__).parents[1])]
    return any(file.startswith(f"{folder}/") for folder in folders)


def _shown(file: str | None) -> str:
    path = Path(file or "?")
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _line(text: str | None) -> str:
    return (text or "").strip()


def _a(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f' Did you mean "{near[0]}"?' if near else ""


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _meant(name: str, attribute: str) -> str:
    """Guess at what a file's path, or a module alone, was meant to say."""
    dotted = re.sub(r"\.py$", "", name.strip("./")).replace("/", ".")
    if not _is_dotted(dotted):
        return ""
    if attribute and _is_dotted(attribute):
        return f" Write --app {dotted}:{attribute}."
    try:
        module = importlib.import_module(dotted)
    except Exception:  # noqa: BLE001 - it is only a guess
        return ""
    return _stores_of(module)
