"""What several worker processes tell, asked of each: live if all are, ready if all are; their metrics added up."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from aiotaskstore import ConfigurationError
from aiotaskstore.cli.metrics_server import Page, text_page

if TYPE_CHECKING:
    from aiotaskstore.integrations.prometheus.exposition import ProcessFolder

_ANSWER_LIMIT = 2.0
"""Seconds within which a worker must answer: a thread of its own does, whatever its event loop does."""
_LONGEST_FOLDER = 70
"""Characters of the path of the folder for temporary files; of a socket's path, systems take about 100."""
_STARTING = 60.0
"""Seconds that a worker may take to import its app and to answer."""

_STOPPING = "it is stopping"


class Started(NamedTuple):
    """A worker process, and since when it runs, on our monotonic clock."""

    pid: int
    since: float


class WatchedWorkers:
    """The workers of a supervisor. Each answers on a Unix socket in a folder of ours, where it also counts."""

    def __init__(self, count: int) -> None:
        self._numbers = range(1, count + 1)
        self._started: dict[int, Started] = {}
        self._finished: set[int] = set()
        self._stopping = False
        self._folder = Path(tempfile.mkdtemp(prefix="aiotaskstore-", dir=_short_folder()))
        self._counts, missing = _folder_for_counts(self._folder)
        self.missing: str = missing
        """Why there are no metrics; empty if there are."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delete the folder; a second call is a no-op."""
        shutil.rmtree(self._folder, ignore_errors=True)

    # ── for the supervisor ────────────────────────────────────────────────────────────────────────────────

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the workers: it names the folder in which they count."""
        if self._counts is None:
            return dict(os.environ)
        from aiotaskstore.integrations.prometheus.exposition import FOLDER_VARIABLE

        return {**os.environ, FOLDER_VARIABLE: str(self._folder)}

    def arguments(self, number: int) -> list[str]:
        """Return the options that tell a worker where to answer."""
        return [f"--metrics-socket={self._socket(number)}"]

    def started(self, number: int, pid: int) -> None:
        """Note that a worker runs."""
        self._started[number] = Started(pid, time.monotonic())

    def ended(self, number: int, pid: int) -> None:
        """Note that a worker has ended: what it has counted stays, its gauges do not."""
        self._started.pop(number, None)
        if self._counts is not None:
            self._counts.ended(pid)

    def finished(self, number: int) -> None:
        """Note that a worker has ended and is not started again."""
        self._finished.add(number)

    def stopping(self) -> None:
        """Note that all workers stop: none is started again, and a slow answer is no sign of a fault any more."""
        self._stopping = True

    # ── for the server ────────────────────────────────────────────────────────────────────────────────────

    def metrics(self) -> Page:
        """Return the metrics of all workers together."""
        if self._counts is None:
            return text_page(HTTPStatus.NOT_IMPLEMENTED, self.missing)
        from aiotaskstore.integrations.prometheus.exposition import CONTENT_TYPE

        self._ask_all("/metrics")  # which brings the gauges in its files up to date
        return Page(HTTPStatus.OK, CONTENT_TYPE, self._counts.text())

    def health(self) -> Mapping[str, Any]:
        """Return the health of all workers, and of each."""
        workers = [self._health_of(number, reply) for number, reply in self._ask_all("/health").items()]
        return {
            "live": all(worker["live"] for worker in workers),
            "ready": all(worker["ready"] for worker in workers),
            "problems": [f"worker {one['number']}: {problem}" for one in workers for problem in one["problems"]],
            "workers": workers,
        }

    def _ask_all(self, place: str) -> dict[int, bytes | Exception]:
        """Ask all workers at the same time, so that several which hang cost no more than one."""
        with ThreadPoolExecutor(len(self._numbers), thread_name_prefix="aiotaskstore-metrics") as threads:
            replies = list(threads.map(lambda number: self._ask(number, place), self._numbers))
        return dict(zip(self._numbers, replies, strict=True))

    def _ask(self, number: int, place: str) -> bytes | Exception:
        connection = _UnixConnection(self._socket(number))
        try:
            connection.request("GET", place)
            return connection.getresponse().read()
        except (OSError, HTTPException) as error:
            return error
        finally:
            connection.close()

    def _health_of(self, number: int, reply: bytes | Exception) -> dict[str, Any]:
        started, stopping = self._started.get(number), self._stopping
        if started is None:
            ended = stopping or number in self._finished
            return _worker(number, None, "it has stopped" if ended else "it is not running; it is started again")
        if isinstance(reply, bytes):
            (worker,) = json.loads(reply)["workers"]
            return {"number": number, **worker, **(_stopping(worker) if stopping else {})}
        if stopping:
            return _worker(number, started.pid, _STOPPING)
        if isinstance(reply, FileNotFoundError | ConnectionRefusedError):
            live = time.monotonic() - started.since < _STARTING
            return _worker(number, started.pid, "it is starting", live=live)
        return _worker(number, started.pid, f"it does not answer within {_ANSWER_LIMIT:g} s", live=False)

    def _socket(self, number: int) -> Path:
        return self._folder / f"{number}.socket"


class _UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("worker", timeout=_ANSWER_LIMIT)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_ANSWER_LIMIT)
        self.sock.connect(str(self._path))


def _short_folder() -> str:
    """Return the folder for temporary files, unless the path of a Unix socket in it were too long for the system."""
    usual = tempfile.gettempdir()
    return usual if len(usual) <= _LONGEST_FOLDER else "/tmp"  # noqa: S108 - ours in it is readable for us alone


def _stopping(worker: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is different of a worker that stops, which it may not know yet, or not any more."""
    problems = [one for one in worker["problems"] if _STOPPING not in one]
    return {"ready": False, "problems": [*problems, _STOPPING]}


def _worker(number: int, pid: int | None, problem: str, *, live: bool = True) -> dict[str, Any]:
    return {"number": number, "pid": pid, "live": live, "ready": False, "problems": [problem], "dispatchers": []}


def _folder_for_counts(path: Path) -> tuple[ProcessFolder | None, str]:
    try:
        from aiotaskstore.integrations.prometheus.exposition import ProcessFolder
    except ConfigurationError as error:
        return None, str(error)
    return ProcessFolder(path), ""
