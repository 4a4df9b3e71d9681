"""A filter that marks the log records of an application with the run that they belong to."""

from __future__ import annotations

import logging

from aiotaskstore.context import running_context

LOG_FIELDS = ("task_id", "alias", "queue", "attempt", "dispatcher")
"""The names of what a record is marked with."""


class TaskLogFilter(logging.Filter):
    """Marks each record with `task_id alias queue attempt dispatcher`, so that a format string may name them.

    Add it to a handler: `handler.addFilter(TaskLogFilter())`. Then it marks whatever is logged inside a run, by any
    logger, also in a `def` handler's thread. Outside a run they are empty texts, and so is what a direct call lacks.
    What a record has already, by `extra=`, stays. It holds no record back.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Mark a record; always true."""
        context = running_context.get()
        known = {} if context is None else context.log_fields
        own = record.__dict__
        for name in LOG_FIELDS:
            if name not in own:
                own[name] = known.get(name, "")
        return True
