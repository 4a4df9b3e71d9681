"""Serves a worker's metrics and health over HTTP, from a thread of its own: also while its event loop is blocked."""

from __future__ import annotations

import json
import logging
import socket
import socketserver
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self
from urllib.parse import urlsplit

from aiotaskstore.cli.exit_code import ExitCode, Failure

_log = logging.getLogger("aiotaskstore.worker")

_CLIENT_LIMIT = 5.0
"""Seconds for which a client may keep its thread waiting."""
_LOOK = 0.2
"""Seconds until the thread notices that it shall end."""
_PLACES = "/metrics, /health, /health/live, /health/ready"


class Page(NamedTuple):
    """What a request is answered with."""

    status: int
    content_type: str
    body: bytes


class Watched(Protocol):
    """What is served. Its methods are called from other threads, several at a time."""

    def metrics(self) -> Page:
        """Return the metrics."""

    def health(self) -> Mapping[str, Any]:
        """Return what there is to say, at least `live` and `ready`."""


class MetricsServer:
    """Serves from the construction to the end of its `with` block; then no thread is left."""

    def __init__(self, server: socketserver.BaseServer) -> None:
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, args=(_LOOK,), name="aiotaskstore-metrics", daemon=True
        )
        self._thread.start()

    @classmethod
    def on_port(cls, host: str, port: int, watched: Watched) -> Self:
        """Serve on a port, or on any free one for 0. Raises `Failure` where it cannot be opened."""
        family = _Port6 if ":" in host else _Port4
        try:
            return cls(family((host, port), _handler(watched)))
        except OSError as error:
            raise Failure(
                f"--metrics-port {port} cannot be opened on {host}: {error.strerror or error}. Is another worker "
                "running there? Give another port, or 0 for any that is free.",
                ExitCode.FAILED,
            ) from error

    @classmethod
    def on_socket(cls, path: Path, watched: Watched) -> Self:
        """Serve on a Unix socket, in place of one that an ended process has left."""
        path.unlink(missing_ok=True)
        return cls(_UnixSocket(str(path), _handler(watched)))

    @property
    def address(self) -> str:
        """Where it is reached."""
        address: Any = self._server.server_address
        host, port = address[0], address[1]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def page_at(place: str, watched: Watched) -> Page:
    """Return the page at a place, the path of a URL."""
    match place.rstrip("/"):
        case "/metrics":
            return watched.metrics()
        case "/health":
            return _health_page(watched.health(), "live", "ready")
        case "/health/live":
            return _health_page(watched.health(), "live")
        case "/health/ready":
            return _health_page(watched.health(), "ready")
        case _:
            return text_page(HTTPStatus.NOT_FOUND, f"There is nothing at {place:.200}. Here are: {_PLACES}")


def text_page(status: int, text: str) -> Page:
    """Return a page for people."""
    return Page(status, "text/plain; charset=utf-8", f"{text}\n".encode())


def _health_page(health: Mapping[str, Any], *needed: str) -> Page:
    status = HTTPStatus.OK if all(health[name] for name in needed) else HTTPStatus.SERVICE_UNAVAILABLE
    return Page(status, "application/json", json.dumps(health, default=str).encode())


class _Threads(socketserver.ThreadingMixIn):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 50

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the base class has it
        """Note the error of a connection, such as a client that went away."""
        _log.debug("a request for metrics or health failed (%s)", client_address, exc_info=True)


class _Port4(_Threads, socketserver.TCPServer):
    pass


class _Port6(_Threads, socketserver.TCPServer):
    address_family = socket.AF_INET6


class _UnixSocket(_Threads, socketserver.UnixStreamServer):
    pass


def _handler(served: Watched) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _CLIENT_LIMIT

        def do_GET(self) -> None:
            try:
                page = page_at(urlsplit(self.path).path, served)
            except Exception as error:  # noqa: BLE001 - the next request may be answered better
                _log.exception("metrics or health could not be told")
                page = text_page(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error}")
            self.send_response(page.status)
            self.send_header("Content-Type", page.content_type)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(page.body)

        do_HEAD = do_GET  # noqa: N815 - its name in the base class

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base class
            """Log no request: a probe comes every few seconds."""

    return Handler
