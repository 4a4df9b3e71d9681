"""Check everything, on any machine, with one command: ``python3 tests/run.py``.

It makes the environment ``.venv``, starts private servers of PostgreSQL, MySQL and MariaDB, and runs
the linter, the type checkers, the import contracts and the tests. Then it runs those tests that
storage decides once more, on the oldest PostgreSQL and the oldest SQLite that are supported. An
engine that the machine lacks is installed into ``.cache``.

One test on one database: ``python3 tests/run.py --on postgresql -- -k name`` starts that server, needs no
other, and runs nothing else. Arguments after ``--`` go to pytest; ``--on`` names the databases, and the
tests of other servers are left out; ``--only lint,tests`` runs some of the groups and says which it left out.
On SQLite nothing needs to be started: ``pytest tests/… -k sqlite`` is enough.

Started by the Python of a virtual environment that has the tools, it uses that instead of making ``.venv``.

A database that runs already is used when its URL is in ``AIOTASKSTORE_TEST_POSTGRESQL``,
``AIOTASKSTORE_TEST_MYSQL``, ``AIOTASKSTORE_TEST_MARIADB``, ``AIOTASKSTORE_TEST_SQLITE`` or
``AIOTASKSTORE_TEST_POSTGRESQL_OLDEST``; ``AIOTASKSTORE_TEST_SQLITE_OLDEST`` is the path of a library.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import platform
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.servers import EngineMissingError, MariaDB, MySQL, PostgreSQL, PostgreSQL14, Server, ServerError, sqlite

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("ruff", "mypy", "pyright", "lint-imports", "pytest")
OWN = ROOT / ".venv"


def environment() -> Path:
    """Return the virtual environment to use: the one that runs this if it has the tools, else our own."""
    ours = Path(sys.prefix)
    usable = sys.prefix != sys.base_prefix and all((ours / "bin" / tool).exists() for tool in TOOLS)
    return ours if usable else OWN


VENV = environment()
STAMP = OWN / "aiotaskstore.stamp"
INTERRUPT_LIMIT = 30.0

CHECKS = {
    "lint": ("ruff check .", "ruff format --check ."),
    "types": ("mypy", "pyright --verifytypes aiotaskstore --ignoreexternal"),
    "contracts": ("lint-imports",),
}
GROUPS = (*CHECKS, "tests", "oldest")

ENGINES: dict[str, type[Server]] = {
    "AIOTASKSTORE_TEST_POSTGRESQL": PostgreSQL,
    "AIOTASKSTORE_TEST_MYSQL": MySQL,
    "AIOTASKSTORE_TEST_MARIADB": MariaDB,
}
OLDEST_POSTGRESQL = "AIOTASKSTORE_TEST_POSTGRESQL_OLDEST"
SQLITE = "AIOTASKSTORE_TEST_SQLITE"
ON = "AIOTASKSTORE_TEST_ON"
"""Tells tests/conftest.py on which databases to run; without it, on all."""
DATABASES = (*(variable.rpartition("_")[2].lower() for variable in ENGINES), "sqlite")

ON_THE_OLDEST = (
    *("tests/storage", "tests/postgresql"),
    *(f"tests/public_api/test_{name}.py" for name in ("enqueuing", "transactions", "payloads", "opening", "managing")),
    *(f"tests/public_api/test_{name}.py" for name in ("dispatching", "outcomes")),
    *("-k", "(postgresql or sqlite) and not mysql and not mariadb"),
)
"""What is run once more: statements, plans and the face, without what is about processes and their life."""

AT_ONCE = ("-n", "3")
"""Most tests wait for databases more than they compute, so three run at once on two cores."""
GROUPED = ("tests/crash", "tests/frameworks")
"""Folders whose tests share servers of their own: those of one server run in one process."""
SUITE = (
    (*AT_ONCE, *(part for folder in GROUPED for part in ("--ignore", folder))),
    (*AT_ONCE, "--dist", "loadgroup", *GROUPED),
)
"""The tests of dying processes and servers run by themselves, when the machine is calmer."""

VERSION_PROBE = """
import asyncio, sys
from urllib.parse import unquote, urlsplit

async def main(url):
    parts = urlsplit(url)
    if parts.scheme.startswith("postgres"):
        import asyncpg
        connection = await asyncpg.connect(url.replace("+asyncpg", ""), timeout=20)
        print("PostgreSQL", (await connection.fetchval("SHOW server_version")).split()[0])
        return
    import aiomysql
    connection = await aiomysql.connect(
        host=parts.hostname, port=parts.port or 3306, user=unquote(parts.username or "root"),
        password=unquote(parts.password or ""), db=parts.path[1:] or None, connect_timeout=20)
    cursor = await connection.cursor()
    await cursor.execute("SELECT VERSION()")
    version, = await cursor.fetchone()
    print("MariaDB" if "MariaDB" in version else "MySQL", version.split("-")[0])
    connection.close()

asyncio.run(main(sys.argv[1]))
"""
"""Asks a database that was already there for its version, with the drivers that the tests use."""


class Step(NamedTuple):
    """One step that was run."""

    name: str
    passed: bool
    seconds: float

    def __str__(self) -> str:
        """Return the step's line."""
        return f"{'✓' if self.passed else '✗'} {self.name}  {self.seconds:.1f} s"


Prepare: TypeAlias = Callable[[contextlib.ExitStack], tuple[dict[str, str] | None, list[str]]]
"""Starts engines; returns pytest's variables (none if an engine is missing) and the engines' versions."""


def main() -> int:
    """Prepare the environment, then run the steps that the command line asks for."""
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGHUP, _terminate)
    own, to_pytest = _split(sys.argv[1:])
    parser = argparse.ArgumentParser(
        usage="python3 tests/run.py [--only GROUP,...] [--on DATABASE,...] [-- PYTEST ARGUMENTS]",
        description="Check everything, or some of it, in an environment and with servers of its own.",
    )
    parser.add_argument("--only", type=_groups, metavar="GROUP,...", help=f"some of {', '.join(GROUPS)}")
    parser.add_argument("--on", type=_databases, metavar="DATABASE,...", help=f"some of {', '.join(DATABASES)}")
    given = parser.parse_args(own)
    groups: tuple[str, ...] = given.only or (("tests",) if to_pytest else GROUPS[:-1] if given.on else GROUPS)
    os.chdir(ROOT)
    prepare_environment()
    if not _inside():
        python = _program("python")
        os.execv(python, [python, __file__, *sys.argv[1:]])  # the tools and the wheels are there
    return run(groups, to_pytest, given.on or DATABASES)


def prepare_environment() -> None:
    """Make ``.venv``, or bring it up to date, unless its stamp says that it is, or another environment is used."""
    if VENV != OWN:
        return
    wanted = [f"Python {sys.version}", f"packages {_packages()}"]
    found = STAMP.read_text().splitlines() if STAMP.exists() else []
    if found == wanted:
        return
    started = time.monotonic()
    if found[:1] != wanted[:1] and not _inside():
        _make_environment()
    say("Installing into .venv: the project and its development tools")
    STAMP.unlink(missing_ok=True)
    pip = [_program("python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.call([*pip, "--editable", ".[dev,all]"]) != 0:
        sys.exit("pip could not install the project; its message is above.")
    STAMP.write_text("\n".join(wanted))
    say(Step("environment", passed=True, seconds=time.monotonic() - started))


def run(groups: tuple[str, ...], to_pytest: list[str], databases: Sequence[str]) -> int:
    """Run the steps of the groups, the tests on these databases; return the exit status."""
    steps = [check(command) for group, commands in CHECKS.items() if group in groups for command in commands]
    prepare: dict[str, tuple[Prepare, Sequence[Sequence[str]]]] = {
        "tests": (lambda stack: start_engines(stack, databases), [to_pytest] if to_pytest else SUITE),
        "oldest": (start_oldest, [to_pytest or [*AT_ONCE, *ON_THE_OLDEST]]),
    }
    with contextlib.ExitStack() as stack:
        ready: dict[str, dict[str, str] | None] = {}
        for group in [group for group in prepare if group in groups]:
            started = time.monotonic()
            ready[group], versions = prepare[group][0](stack)
            steps.append(Step(f"engines of {group}", ready[group] is not None, time.monotonic() - started))
            say(f"{steps[-1]}  {' · '.join([*versions, f'Python {platform.python_version()}'])}")
        summarise(steps, groups)
        for group, variables in ready.items():
            if variables is None:
                steps.append(Step(f"{group} (not run: engines are missing)", passed=False, seconds=0))
            else:
                for arguments in prepare[group][1]:
                    name = " ".join([group, *arguments])[:40]
                    steps.append(_timed(name, [_program("pytest"), *arguments], env=os.environ | variables))
                    say(steps[-1])
    failed = [step.name for step in steps if not step.passed]
    say(f"✗ failed: {', '.join(failed)}" if failed else f"✓ all {len(steps)} steps passed")
    return 1 if failed else 0


def check(command: str) -> Step:
    """Run one of the static checks; show what it prints only when it fails."""
    name, *words = command.split()
    with tempfile.TemporaryFile() as output:
        step = _timed(command, [_program(name), *words], output=output.fileno())
        if not step.passed:
            output.seek(0)
            say(output.read().decode(errors="replace").rstrip())
    say(step)
    return step


def start_engines(stack: contextlib.ExitStack, databases: Sequence[str]) -> tuple[dict[str, str] | None, list[str]]:
    """Start the servers among these databases that no variable gives; return the variables and the versions.

    There are no variables when an engine is missing.
    """
    engines = {name: kind for name, kind in ENGINES.items() if name.rpartition("_")[2].lower() in databases}
    started = {variable: start_engine(stack, variable, engine) for variable, engine in engines.items()}
    versions = [version for _, version in filter(None, started.values())]
    if "sqlite" in databases:
        versions.append(f"SQLite {sqlite3.sqlite_version}")
    urls = {variable: one[0] for variable, one in started.items() if one is not None}
    if len(urls) < len(engines):
        return None, versions
    return urls | {SQLITE: place_for_sqlite(stack), ON: ",".join(databases)}, versions


def start_oldest(stack: contextlib.ExitStack) -> tuple[dict[str, str] | None, list[str]]:
    """Start the oldest PostgreSQL and make Python load the oldest SQLite; return as ``start_engines`` does."""
    server = start_engine(stack, OLDEST_POSTGRESQL, PostgreSQL14)
    try:
        preload = sqlite.oldest(_program("python"))
    except EngineMissingError as error:
        say(error)
        preload = None
    versions = [*([server[1]] if server else []), *([f"SQLite {sqlite.VERSION}"] if preload else [])]
    if server is None or preload is None:
        return None, versions
    return preload | {"AIOTASKSTORE_TEST_POSTGRESQL": server[0], SQLITE: place_for_sqlite(stack)}, versions


def start_engine(stack: contextlib.ExitStack, variable: str, engine: type[Server]) -> tuple[str, str] | None:
    """Start a server unless the variable names one; return its URL and version, or say what is missing."""
    try:
        if url := os.environ.get(variable):
            return url, _ask_version(url, engine)
        server = stack.enter_context(engine())
    except (EngineMissingError, ServerError) as error:
        say(f"{variable}: {error}")
        return None
    return server.url, server.version


def place_for_sqlite(stack: contextlib.ExitStack) -> str:
    """Return the URL of a SQLite file in a directory of its own, or the one that a variable names."""
    if url := os.environ.get(SQLITE):
        return url
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="aiotaskstore-"))
    return f"sqlite:///{folder}/test.db"


def summarise(steps: list[Step], groups: tuple[str, ...]) -> None:
    """Print the table of the steps so far, and what is left out."""
    say()
    width = max((len(step.name) for step in steps), default=0)
    for name, passed, seconds in steps:
        say(f"  {name:<{width}}  {'passed' if passed else 'FAILED'}  {seconds:6.1f} s")
    if left_out := [group for group in GROUPS if group not in groups]:
        say(f"  not run: {', '.join(left_out)}")
    say()


def say(line: object = "") -> None:
    """Print a line at once, so that it stays in order with what the steps print."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the arguments before and after ``--``."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


def _groups(text: str) -> tuple[str, ...]:
    groups = tuple(text.split(","))
    if unknown := set(groups) - set(GROUPS):
        raise argparse.ArgumentTypeError(f"no such group: {', '.join(unknown)}")
    return groups


def _databases(text: str) -> tuple[str, ...]:
    databases = tuple(text.split(","))
    if unknown := set(databases) - set(DATABASES):
        raise argparse.ArgumentTypeError(f"no such database: {', '.join(unknown)}")
    return databases


def _packages() -> str:
    """Return what changes when other packages are needed, and not with every setting of a tool."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    needed = [project["build-system"], *(project["project"][key] for key in ("dependencies", "optional-dependencies"))]
    return hashlib.sha256(repr([*needed, project["project"]["scripts"]]).encode()).hexdigest()


def _inside() -> bool:
    """Whether this is the environment's own Python."""
    return Path(sys.prefix).resolve() == VENV.resolve()


def _program(name: str) -> str:
    return str(VENV / "bin" / name)


def _make_environment() -> None:
    """Make an empty ``.venv``."""
    say(f"Making .venv with Python {platform.python_version()}")
    if subprocess.call([sys.executable, "-m", "venv", "--clear", VENV]) != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        sys.exit(
            "python3 -m venv failed. On Debian and Ubuntu it needs a package of its own:\n"
            f"    apt-get install python3-venv   (or python3.{sys.version_info.minor}-venv)\n"
            "Or make it by other means, such as uv venv --seed .venv, and use its own Python:\n"
            "    .venv/bin/python tests/run.py"
        )


def _timed(name: str, command: list[str], *, output: int | None = None, env: dict[str, str] | None = None) -> Step:
    """Run a command to its end; pass an interruption on to it and let it clean up."""
    started = time.monotonic()
    path = f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    quiet = {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    env = {**(env or os.environ), **quiet, "PATH": path, "VIRTUAL_ENV": str(VENV)}
    try:
        process = subprocess.Popen(command, stdout=output, stderr=output and subprocess.STDOUT, env=env)
    except FileNotFoundError:
        say(f"{command[0]} is not there: is it in the extra 'dev' of pyproject.toml?")
        return Step(name, passed=False, seconds=0)
    try:
        code = process.wait()
    except BaseException as reason:
        if not isinstance(reason, KeyboardInterrupt):  # which the terminal sent to both
            process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(INTERRUPT_LIMIT)
        process.kill()
        raise
    return Step(name, passed=code == 0, seconds=time.monotonic() - started)


def _ask_version(url: str, engine: type[Server]) -> str:
    """Return the version of the database that a variable gives, which must be of the engine that it is for."""
    command = [_program("python"), "-c", VERSION_PROBE, url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    host = urlsplit(url).netloc.rpartition("@")[2]
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        raise ServerError(f"the database at {host} does not answer: {reason}")
    version = done.stdout.strip()
    if not version.startswith(engine.name):
        raise ServerError(f"the database at {host} is {version}, and this variable is for {engine.name}")
    return version


def _terminate(number: int, _frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
