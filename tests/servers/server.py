"""What every private server does: start, be killed, restart, stop, and never outlive its caller."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers.account import Account
from tests.servers.errors import ServerError
from tests.servers.processes import alive, family, free_port, wait_until

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

START_LIMIT = 120.0
STOP_LIMIT = 30.0

_WATCHER = """
read -r word && exit
if read -r pid <"$1/pid"; then
    kill -s "$2" "$pid"
    for _ in $(seq 100); do kill -0 "$pid" || break; sleep 0.1; done
    kill -s KILL "$pid"
fi
rm -rf "$1"
"""
"""Waits for its input to end unannounced, as it does when the process that holds it dies."""


class Server(ABC):
    """One private database server."""

    name: str
    """What ``version`` begins with."""
    user: str
    """The system user preferred when the caller is root."""
    halt: signal.Signals
    """The signal for a graceful shutdown that does not wait for clients to leave."""

    def __init__(self) -> None:
        self.version = ""
        """The engine and its version, such as ``PostgreSQL 18.4``; known once started."""
        self.port = 0
        self._account = Account()
        self._home = Path()
        self._libraries = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL at which drivers reach the server."""

    @abstractmethod
    def _find(self) -> None:
        """Find the engine, or install it, and set ``version``."""

    @abstractmethod
    def _initialise(self) -> None:
        """Fill the empty data directory."""

    @abstractmethod
    def _command(self) -> list[str | Path]:
        """Return the command that runs the server in the foreground."""

    @abstractmethod
    def _greets(self, connection: socket.socket) -> bool:
        """Whether the server at the other end takes clients."""

    @property
    def data(self) -> Path:
        """The data directory."""
        return self._home / "data"

    @property
    def log(self) -> Path:
        """What the server and the tools that prepared it printed."""
        return self._home / "log"

    @property
    def running(self) -> bool:
        """Whether the server's main process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Find the engine, make a data directory, and return once the server takes clients."""
        try:
            self._account = Account.find(self.user)
            self._make_home()
            self._find()
            self._initialise()
            self.port = free_port()
            self._launch()
        except BaseException:
            self.kill()
            self._remove_home()
            raise

    def stop(self) -> None:
        """Shut the server down in good order and remove everything it had."""
        self._halt()
        self._remove_home()

    def kill(self) -> None:
        """End every process of the server at once, as a crash would; the data stay."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGSTOP)  # it must not start another one meanwhile
            wait_until(lambda: not alive([self._pid], dead="TtZX"), 5)
            members = family(self._pid)
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
            wait_until(lambda: not alive(members), STOP_LIMIT)
        self._discard()

    def restart(self) -> None:
        """Start again on the same port and data, after ``kill`` or of a server that runs."""
        self._halt()
        self._launch()

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server."""
        self.stop()

    @property
    def _pid(self) -> int:
        return 0 if self._process is None else self._process.pid

    def _make_home(self) -> None:
        """Make the temporary directory where the server's user reaches it; start the watcher."""
        places = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
        place = next((place for place in places if self._account.can_enter(place)), None)
        self._home = Path(tempfile.mkdtemp(prefix="aiotaskstore-", dir=place))
        self._home.chmod(0o755)
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHER, "watcher", str(self._home), self.halt.name[3:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        self.data.mkdir(mode=0o700)
        self._account.own(self.data)

    def _remove_home(self) -> None:
        """Remove the temporary directory and dismiss the watcher."""
        if self._watcher is None:
            return
        shutil.rmtree(self._home, ignore_errors=True)
        with contextlib.suppress(BrokenPipeError):
            self._watcher.communicate(b"dismissed\n")
        self._watcher = None

    def _launch(self) -> None:
        """Run the server and wait until it takes clients."""
        self._spawn(self._command())
        (self._home / "pid").write_text(f"{self._pid}\n")
        if not wait_until(lambda: not self.running or self._ready(), START_LIMIT):
            raise self._failure(f"did not take clients within {START_LIMIT:.0f} s")
        if not self.running:
            raise self._failure("ended at its start")

    def _halt(self) -> None:
        """Shut the server down in good order, or kill it when it takes too long."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self.halt)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_LIMIT)
        self.kill()

    def _discard(self) -> None:
        self._process = None
        (self._home / "pid").unlink(missing_ok=True)

    def _spawn(self, command: Iterable[str | Path]) -> subprocess.Popen[bytes]:
        """Start a command as the server's user; what it prints goes to the log."""
        with self.log.open("ab") as log:
            self._process = self._account.spawn(command, cwd=self.data, output=log.fileno(), libraries=self._libraries)
        return self._process

    def _run(self, *command: str | Path) -> None:
        """Run a command as the server's user to its end."""
        process = self._spawn(command)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(START_LIMIT)
        if process.returncode != 0:
            raise self._failure(f"could not be prepared by {command[0]}")
        self._process = None

    def _ask_version(self, *program: str | Path) -> str:
        """Return what ``program --version`` prints; raise OSError when it can't be run."""
        process = self._account.spawn(
            [*program, "--version"],
            cwd=self.data,
            output=subprocess.PIPE,
            libraries=self._libraries,
        )
        printed, _ = process.communicate(timeout=START_LIMIT)
        text = printed.decode(errors="replace").strip()
        if process.returncode != 0:
            raise OSError(text or f"exit status {process.returncode}")
        return text

    def _within_reach(self, folder: Path) -> Path:
        """Return the directory, or a copy of it where the server's user gets at it."""
        if self._account.can_enter(folder):
            return folder
        copy = self._home / folder.name
        if not copy.exists():
            shutil.copytree(folder, copy, symlinks=True)
            self._account.own(copy)
        return copy

    def _ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                return self._greets(connection)
        except OSError:
            return False

    def _failure(self, what: str) -> ServerError:
        lines = self.log.read_text(errors="replace").splitlines()[-30:]
        return ServerError("\n    ".join([f"{self.version} {what}; its log ends:", *lines]))


def number(text: str) -> str:
    """Return the first version number in a text."""
    found = re.search(r"\d+(\.\d+)*", text)
    return found[0] if found else "?"
