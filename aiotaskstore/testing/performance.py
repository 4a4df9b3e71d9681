"""One run of a handler without a task: what it was given, what it reported, what it returned."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import anyio

from aiotaskstore.context import TaskContext, running_context
from aiotaskstore.definition import AnyDefinition, Draft
from aiotaskstore.direct import DirectRun
from aiotaskstore.options import dump_metadata
from aiotaskstore.task import Progress

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Performed(Generic[R]):
    """What `tester.perform()` did last."""

    context: TaskContext
    """The context that the handler had."""
    progress: Progress | None
    """What it reported last."""
    details: list[str]
    """The lines that it appended."""
    result: R | None = None
    """What it returned, as a caller would read it; `None` if it raised."""


async def perform(definition: AnyDefinition, draft: Draft[R], store: Any, attempt: int) -> Performed[R]:
    """Run a handler with the arguments of a draft, read back from JSON; the error that it raises has the run as note.

    The result is written as JSON and read back, too.
    """
    metadata = dump_metadata(draft.options.get("metadata") or {})
    run = DirectRun(
        definition.alias,
        definition.defaults,
        lambda: json.loads(draft.payload),
        store=store,
        attempt=attempt,
        state=lambda: store.state,
        metadata=metadata,
    )
    context = TaskContext(run, store)
    arguments = definition.payload.decode(draft.payload)
    token = running_context.set(context)
    try:
        async with run:
            value = await definition.invoke(context, arguments, anyio.CapacityLimiter(math.inf))
            text = definition.result.encode_returned(value, context.output, store.payload_limit)
    finally:
        running_context.reset(token)
    return Performed(context, run.progress, run.details, definition.result.decode(text))
