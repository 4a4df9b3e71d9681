"""The arguments with which aiomysql connects."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import unquote, urlsplit

from aiotaskstore.errors import ConfigurationError
from aiotaskstore.storage.url import DatabaseURL


def connect_options(url: DatabaseURL) -> dict[str, Any]:
    """Return aiomysql's arguments from a URL: address, credentials, TLS (`ssl=true|verify|/path/ca.pem`)."""
    parts = urlsplit(url.text)
    query = url.query
    options: dict[str, Any] = {
        "host": parts.hostname or "127.0.0.1",
        "port": parts.port or 3306,
        "user": unquote(parts.username or "root"),
        "password": unquote(parts.password or ""),
        "db": unquote(parts.path.removeprefix("/")),
        "autocommit": True,
        "connect_timeout": 10,
    }
    if "unix_socket" in query:
        options["unix_socket"] = query["unix_socket"]
    wanted = query.get("ssl", "false").lower()
    if wanted not in {"false", "0", ""}:
        try:
            context = ssl.create_default_context(cafile=query["ssl"] if "/" in wanted else None)
        except OSError as error:
            raise ConfigurationError(
                f"The certificate that ssl={query['ssl']} names cannot be read: {error}. "
                "Write ssl=true, verify or /path/ca.pem."
            ) from error
        if wanted in {"true", "1"}:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        options["ssl"] = context
    return options
