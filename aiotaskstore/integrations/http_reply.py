"""A reply to an HTTP client, before a framework makes its own response of it; and what our errors reply."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from aiotaskstore.errors import (
    DatabaseUnavailableError,
    DefinitionInactiveError,
    DuplicateTaskError,
    NotCancellableError,
    PayloadError,
    TaskNotFoundError,
    TaskStoreError,
)

JSON = "application/json"
_RETRY_AFTER = "5"


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A status code, JSON, and headers; no intermediary may keep it, since a task changes."""

    status: int
    body: Mapping[str, object] | None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        """The body as JSON text; empty where there is none."""
        return b"" if self.body is None else json.dumps(self.body).encode()

    @property
    def all_headers(self) -> dict[str, str]:
        """The headers, without the content's type and length."""
        return {"Cache-Control": "no-store", **self.headers}


def accepted_reply(task_id: UUID, location: str | None) -> HttpReply:
    """Reply that a task is stored and will run: 202, with the path of its status route if there is one."""
    headers = {} if location is None else {"Location": location}
    return HttpReply(202, {"id": str(task_id), "location": location}, headers)


def busy_reply(detail: str) -> HttpReply:
    """Reply that it may work later."""
    return HttpReply(503, {"detail": detail}, {"Retry-After": _RETRY_AFTER})


def error_reply(error: Exception) -> HttpReply:
    """Reply to what a client or an outage has caused (`CLIENT_ERRORS`); any other error is raised again.

    A message tells the client what it has sent, and nothing of the database or of the application.
    """
    match error:
        case TaskNotFoundError():
            return HttpReply(404, {"detail": "There is no such task."})
        case NotCancellableError():
            return HttpReply(409, {"detail": f"The task has finished: it is {error.status}."})
        case DuplicateTaskError():
            return HttpReply(409, {"detail": "There is such a task already.", "id": str(error.existing_id)})
        case PayloadError():
            return HttpReply(422, {"detail": str(error)})
        case DefinitionInactiveError():
            return busy_reply("Tasks of this kind are switched off for now.")
        case DatabaseUnavailableError():
            return busy_reply("The database cannot be reached for now.")
        case _:
            raise error


CLIENT_ERRORS: tuple[type[TaskStoreError], ...] = (
    TaskNotFoundError, NotCancellableError, DuplicateTaskError, PayloadError, DefinitionInactiveError,
    DatabaseUnavailableError,
)  # fmt: skip
"""The errors for which `error_reply` has a reply. What else is raised is the application's mistake, and a 500."""
