"""OpenTelemetry: spans for what is enqueued, claimed and run, by the conventions for messaging.

`instrument(store)` is all there is to call. Only the API is needed; without an SDK nothing is recorded.
"""

from __future__ import annotations

import time
from asyncio import CancelledError
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID
from weakref import WeakKeyDictionary

from aiotaskstore.carrier import OutgoingTask
from aiotaskstore.context import TaskContext, running_context
from aiotaskstore.definition import Draft
from aiotaskstore.directives import Cancel, Snooze, is_retryable
from aiotaskstore.enqueue_middleware import StoreDrafts
from aiotaskstore.errors import ConfigurationError
from aiotaskstore.events import TasksClaimed
from aiotaskstore.integrations.required_package import required_package
from aiotaskstore.mechanics.library_version import library_version
from aiotaskstore.middleware import CallNext
from aiotaskstore.taskstore import TaskStore

with required_package("OpenTelemetry's API", "otel"):
    from opentelemetry import context as otel_context
    from opentelemetry import propagate, trace
    from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer, TracerProvider
    from opentelemetry.util.types import AttributeValue

_SYSTEM = "aiotaskstore"
_STOPPED = {"cancel": "cancelled", "shutdown": "released", "lost": "lost"}
"""The outcome of a run that was asked to end, by the reason, where that is no error of the handler."""

_sending: ContextVar[_Sending | None] = ContextVar("aiotaskstore_sending", default=None)
_created_in: ContextVar[otel_context.Context | None] = ContextVar("aiotaskstore_created_in", default=None)
"""In a run: the context in which its task was enqueued."""


class _Sending(NamedTuple):
    """An enqueue under way: its span, and whether that is the span of its only task."""

    span: Span
    alone: bool


def instrument(
    store: TaskStore, *, tracer_provider: TracerProvider | None = None, parent: bool = False, claims: bool = False
) -> None:
    """Make spans for a store; call it once, before other middleware is added, in every process that enqueues or runs.

    - `send {queue}`, a producer, for each `enqueue()`; for `enqueue_many()` a client `send`, and in it a producer
      `create {queue}` for each task. `enqueue_soon` and schedules make only the latter.
    - `process {queue}`, a consumer, for each attempt: a trace of its own that links to the producer; with `parent=True`
      a child of it. It is the current span in middleware, hooks and handler, also in a thread.
    - `before {hook}` and `after {hook}` for each call of a hook.
    - with `claims=True` a client `receive` for each claim that returned tasks.

    Trace context and baggage travel with each task, apart from its metadata. `Retry`, `Snooze`, `Cancel`, a cancel
    request and a shutdown are no errors. `tracer_provider` is the global one by default. Raises `ConfigurationError`
    for a store that is instrumented already.
    """
    if not isinstance(store, TaskStore):
        raise ConfigurationError(f"instrument() takes a TaskStore, not {store!r:.100}.")
    tracer = trace.get_tracer("aiotaskstore", library_version(), tracer_provider)
    tracing = _Tracing(tracer, _server_of(store), parent=parent)
    store.carry(tracing)
    store.enqueue_middleware(tracing.send)
    store.middleware(tracing.process)
    store.around_hooks(tracing.around_hook)
    if claims:
        store.on(TasksClaimed, tracing.receive)


class _Tracing:
    """The spans of one store, and the carrier that takes their context to its runs."""

    name = "otel"

    def __init__(self, tracer: Tracer, server: dict[str, AttributeValue], *, parent: bool) -> None:
        self._tracer, self._server, self._parent = tracer, server, parent
        self._processing: WeakKeyDictionary[TaskContext, otel_context.Context] = WeakKeyDictionary()
        """The context of each run's span, for the hooks after it."""

    # ── enqueuing ─────────────────────────────────────────────────────────────────────────────────────────

    async def send(self, drafts: Sequence[Draft[Any]], call_next: StoreDrafts) -> list[UUID]:
        """Store drafts inside a span."""
        alone = len(drafts) == 1
        attributes = _operation("send", "send") | self._server
        if not alone:
            attributes["messaging.batch.message_count"] = len(drafts)
        kind = SpanKind.PRODUCER if alone else SpanKind.CLIENT
        span = self._tracer.start_span("send", kind=kind, attributes=attributes)
        sending = _sending.set(_Sending(span, alone))
        try:
            if not span.get_span_context().is_valid:  # there is no SDK
                return await call_next(drafts)
            with _current(span):
                return await call_next(drafts)
        finally:
            _sending.reset(sending)

    def capture(self, task: OutgoingTask) -> Mapping[str, Any] | None:
        """Return the trace context of a task's producer, and the baggage."""
        headers: dict[str, str] = {}
        sending = _sending.get()
        if sending is not None and sending.alone:
            if sending.span.is_recording():
                sending.span.update_name(f"send {task.queue}")
                sending.span.set_attributes(_message(task))
            propagate.inject(headers)
            return headers or None
        attributes = _operation("create", "create") | self._server | _message(task)
        span = self._tracer.start_span(f"create {task.queue}", kind=SpanKind.PRODUCER, attributes=attributes)
        propagate.inject(headers, trace.set_span_in_context(span))
        span.end()
        return headers or None

    # ── running ───────────────────────────────────────────────────────────────────────────────────────────

    def restore(self, values: Mapping[str, Any], context: TaskContext) -> None:  # noqa: ARG002 - a carrier's method
        """Take the context of the producer to the run."""
        _created_in.set(propagate.extract(values, otel_context.Context()))

    async def process(self, context: TaskContext, call_next: CallNext) -> Any:
        """Go on with a run inside a span."""
        created_in = _created_in.get() or otel_context.Context()
        origin = trace.get_current_span(created_in).get_span_context()
        outer = created_in if self._parent else trace.set_span_in_context(trace.INVALID_SPAN, created_in)
        fields = context.log_fields
        span = self._tracer.start_span(
            f"process {fields['queue']}",
            outer,
            kind=SpanKind.CONSUMER,
            attributes=self._of_run(fields),
            links=[Link(origin)] if origin.is_valid and not self._parent else [],
        )
        within = trace.set_span_in_context(span, outer)
        if span.get_span_context().is_valid:
            self._processing[context] = within
        token = otel_context.attach(within)
        try:
            value = await call_next(context)
        except BaseException as error:
            _end_with(span, error, context)
            raise
        else:
            span.set_attribute("aiotaskstore.task.outcome", "succeeded")
            return value
        finally:
            otel_context.detach(token)
            span.end()

    @contextmanager
    def around_hook(self, name: str, context: TaskContext) -> Iterator[None]:
        """Call a hook inside a span, a child of its run's."""
        before = running_context.get() is context
        parent = otel_context.get_current() if before else self._processing.get(context)
        span = self._tracer.start_span(f"{'before' if before else 'after'} {name}", parent)
        with _current(span, parent):
            yield

    def receive(self, event: TasksClaimed) -> None:
        """Make a span for a claim that has ended."""
        now = time.time_ns()
        attributes = _operation("receive", "receive") | self._server
        attributes["messaging.batch.message_count"] = event.count
        attributes["messaging.client.id"] = str(event.dispatcher_id)
        if len(event.queues) == 1:
            attributes["messaging.destination.name"] = event.queues[0]
        began = now - int(event.took * 1_000_000_000)
        name = f"receive {event.queues[0]}" if len(event.queues) == 1 else "receive"
        self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes, start_time=began).end(now)

    def _of_run(self, fields: Mapping[str, Any]) -> dict[str, AttributeValue]:
        return {
            **_operation("process", "process"),
            **self._server,
            "messaging.destination.name": fields["queue"],
            "messaging.message.id": fields["task_id"],
            "messaging.client.id": fields["dispatcher"],
            "aiotaskstore.task.alias": fields["alias"],
            "aiotaskstore.task.attempt": fields["attempt"],
        }


@contextmanager
def _current(span: Span, outer: otel_context.Context | None = None) -> Iterator[None]:
    """Have a span be the current one inside the block, and end with it; an error that passes is recorded."""
    token = otel_context.attach(trace.set_span_in_context(span, outer))
    try:
        yield
    except BaseException as error:
        _record(span, error)
        raise
    finally:
        otel_context.detach(token)
        span.end()


def _end_with(span: Span, error: BaseException, context: TaskContext) -> None:
    """Record how a run ended that did not return."""
    reason = context.stop_reason
    outcome = _STOPPED.get(reason or "")
    if outcome is None:
        match error:
            case Snooze():
                outcome = "snoozed"
            case Cancel():
                outcome = "cancelled"
            case _ if is_retryable(error) and not _is_last(context):
                outcome = "retry"
            case _:
                outcome = "failed"
                late = reason == "transaction_timeout" or (reason is not None and isinstance(error, CancelledError))
                _record(span, error, "TimeoutError" if late else None)
    span.set_attribute("aiotaskstore.task.outcome", outcome)


def _is_last(context: TaskContext) -> bool:
    """Return whether no attempt can follow this one."""
    try:
        return context.attempt >= context.task.max_attempts
    except ValueError:  # its payload is no JSON, whoever has written it
        return True


def _record(span: Span, error: BaseException, error_type: str | None = None) -> None:
    """Record an error. `error_type` is for one that stands for another, as a `CancelledError` for a timeout."""
    kind = type(error)
    own = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    span.record_exception(error)
    span.set_attribute("error.type", error_type or own)
    span.set_status(Status(StatusCode.ERROR, f"{error_type or kind.__name__}: {error}"))


def _operation(name: str, kind: str) -> dict[str, AttributeValue]:
    return {"messaging.system": _SYSTEM, "messaging.operation.name": name, "messaging.operation.type": kind}


def _message(task: OutgoingTask) -> dict[str, AttributeValue]:
    return {
        "messaging.destination.name": task.queue,
        "messaging.message.id": str(task.id),
        "aiotaskstore.task.alias": task.alias,
    }


def _server_of(store: TaskStore) -> dict[str, AttributeValue]:
    """Return where the database is, if it is a server that a URL names."""
    parts = urlsplit(store.url or "")
    with suppress(ValueError):  # a port that is none
        if parts.hostname:
            return {"server.address": parts.hostname} | ({"server.port": parts.port} if parts.port else {})
    return {}
