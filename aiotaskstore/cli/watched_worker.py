"""What one worker process tells of itself: its metrics, and the health of its store."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from aiotaskstore import ConfigurationError, TaskStore
from aiotaskstore.cli.metrics_server import Page, text_page


class WatchedWorker:
    """Instruments the store, where the extra `prometheus` is installed; without it, health works all the same."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self._text, self._content_type, self._missing = _instrumented(store)

    @property
    def missing(self) -> str:
        """Why there are no metrics; empty if there are."""
        return self._missing

    def metrics(self) -> Page:
        """Return the metrics of this process."""
        if self._missing:
            return text_page(HTTPStatus.NOT_IMPLEMENTED, self._missing)
        return Page(HTTPStatus.OK, self._content_type, self._text())

    def health(self) -> Mapping[str, Any]:
        """Return the health of this process; callable from any thread.

        A worker whose store is open and whose dispatcher has not started yet, or has stopped, is not ready.
        """
        worker = {"pid": os.getpid(), **asdict(self._store.health())}
        if worker["ready"] and not worker["dispatchers"]:
            worker |= {"ready": False, "problems": ("no dispatcher is running",)}
        return {"live": worker["live"], "ready": worker["ready"], "problems": worker["problems"], "workers": [worker]}


def _instrumented(store: TaskStore) -> tuple[Callable[[], bytes], str, str]:
    try:
        from aiotaskstore.integrations.prometheus import instrument
        from aiotaskstore.integrations.prometheus.exposition import CONTENT_TYPE, process_text
    except ConfigurationError as error:
        return bytes, "", str(error)
    instrument(store)
    return process_text, CONTENT_TYPE, ""
