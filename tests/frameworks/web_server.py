"""A web server as its own process: started, asked, stopped and killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2

from tests.helpers import LIMIT

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
_TRIES = 5


def sqlalchemy_url(url: str) -> str:
    """Name the async driver, as SQLAlchemy wants it and a store takes it."""
    return url.replace("sqlite://", "sqlite+aiosqlite://", 1).replace("postgresql://", "postgresql+asyncpg://", 1)


def environment(url: str, **options: float) -> dict[str, str]:
    """Return the environment of an example's process."""
    named = {name.upper(): str(value) for name, value in options.items()}
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "DATABASE_URL": sqlalchemy_url(url),
        **named,
    }


def create_tables(framework: str, url: str) -> None:
    """Run the example as its first line says."""
    folder = EXAMPLES / framework
    made = subprocess.run(
        [sys.executable, "-W", "error", "orders.py"], cwd=folder, env=environment(url), capture_output=True, text=True,
        timeout=LIMIT, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr


class WebServer:
    """One server process of an example, ready for requests once it is made."""

    def __init__(
        self, framework: str, url: str, output: Path, *more: str, folder: Path | None = None, **options: float
    ) -> None:
        self._output = output
        for _ in range(_TRIES):
            self.port = _free_port()
            with output.open("wb") as file:
                self.process = subprocess.Popen(
                    [sys.executable, "-X", "faulthandler", *_command(framework, self.port), *more],
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    cwd=folder or EXAMPLES / framework,
                    env=environment(url, **options),
                    start_new_session=True,  # so that what it starts can be ended with it
                )
            if self._ready():
                return
            self.kill()
        raise AssertionError(f"no server: {self.text}")

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def text(self) -> str:
        """What it has logged."""
        return self._output.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def client(self) -> httpx2.AsyncClient:
        """Make a client that waits as long as a slow machine needs."""
        return httpx2.AsyncClient(base_url=self.base, timeout=LIMIT)

    def ask_to_stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def ends(self) -> None:
        """Wait for its end, in good order: a server may end by the signal that it was sent."""
        code = self.process.wait(LIMIT)
        assert code in {0, -signal.SIGTERM}, self.text
        assert "Traceback" not in self.text, self.text

    def kill(self) -> None:
        """End it, and what it has started, for good."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _ready(self) -> bool:
        """Wait until it serves; false if another process has taken its port."""
        until = time.monotonic() + LIMIT
        while time.monotonic() < until:
            if self.process.poll() is not None:
                assert "ddress already in use" in self.text, self.text
                return False
            if "running on" in self.text.lower() and self._healthy():  # so it is not another process on this port
                return True
            time.sleep(0.05)
        raise AssertionError(f"not ready within {LIMIT:g} s: {self.text}")

    def _healthy(self) -> bool:
        try:
            return httpx2.get(f"{self.base}/health", timeout=LIMIT).is_success
        except httpx2.TransportError:
            return False


@contextmanager
def web_server(
    framework: str, url: str, output: Path, *more: str, folder: Path | None = None, **options: float
) -> Iterator[WebServer]:
    """Have a server inside the block; what is left of it afterwards is killed, and its log printed."""
    server = WebServer(framework, url, output, *more, folder=folder, **options)
    try:
        yield server
    finally:
        server.kill()
        sys.stdout.write(server.text[-4000:])


class Fleet:
    """The servers of one example on one database: one serves, until a test starts another in its place."""

    def __init__(self, framework: str, url: str, folder: Path) -> None:
        self._framework, self._url, self._folder = framework, url, folder
        self._servers: list[WebServer] = []

    def serving(self) -> WebServer:
        """Return the server that was started last; another one if it has ended."""
        return self._servers[-1] if self._servers and self._servers[-1].alive else self.start()

    def start(self, *, lease: float = LIMIT) -> WebServer:
        """Start a server. Its lease outlasts any pause of a busy machine, unless a test wants a short one."""
        output = self._folder / f"server-{len(self._servers) + 1}"
        self._servers.append(WebServer(self._framework, self._url, output, grace=1, lease=lease))
        return self._servers[-1]

    def close(self) -> None:
        """Kill those that are left, and print their logs."""
        for server in self._servers:
            server.kill()
            sys.stdout.write(f"\n── {server.text[-4000:]}")


def _command(framework: str, port: int) -> list[str]:
    """Return the command of the example's first lines."""
    if framework == "aiohttp":
        return ["-m", "aiohttp.web", "-H", "127.0.0.1", "-P", str(port), "orders:create_app"]
    return ["-m", "uvicorn", "orders:app", "--port", str(port)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
