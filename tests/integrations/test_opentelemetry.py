"""OpenTelemetry: the spans of an enqueue, a claim, an attempt and its hooks, and how they find each other."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from aiotaskstore import (
    Cancel,
    ConfigurationError,
    DuplicateTaskError,
    Every,
    Fail,
    Retry,
    Snooze,
    Task,
    TaskContext,
    TaskStore,
)
from aiotaskstore.integrations.opentelemetry import instrument
from tests.helpers import LIMIT, ended, eventually


class Traced:
    """A provider, and the spans that have ended."""

    def __init__(self) -> None:
        self.exporter, self.provider = InMemorySpanExporter(), TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("tests")

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [one for one in self.spans if one.name == name]

    def only(self, name: str) -> ReadableSpan:
        found = self.named(name)
        assert len(found) == 1, [one.name for one in self.spans]
        return found[0]


@pytest.fixture
def traced() -> Traced:
    return Traced()


def ids(span: ReadableSpan) -> tuple[int, int]:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


def linked(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(one.context.trace_id, one.context.span_id) for one in span.links]


def of(span: ReadableSpan, *names: str) -> list[Any]:
    assert span.attributes is not None
    return [span.attributes.get(name) for name in names]


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


async def test_each_attempt_is_a_trace_of_its_own_that_links_to_the_producer(store: TaskStore, traced: Traced):
    instrument(store, tracer_provider=traced.provider)
    inside: list[int] = []

    def note() -> None:
        inside.append(trace.get_current_span().get_span_context().span_id)

    @store.task(queue="mails", max_attempts=2, backoff=0)
    async def send(context: TaskContext) -> None:
        note()
        if context.attempt == 1:
            raise ValueError("no luck")
        await thumbnail.enqueue()

    @store.task
    def thumbnail() -> None:
        note()

    with traced.tracer.start_as_current_span("request") as request:
        handle = await send.enqueue()
    async with store.dispatcher():
        await handle.wait(LIMIT)
        await eventually(lambda: traced.named("process default"))
    producer, first, second = traced.only("send mails"), *traced.named("process mails")
    assert parent_of(producer) == request.get_span_context().span_id
    assert producer.kind is SpanKind.PRODUCER
    assert of(producer, "server.address") == [urlsplit(store.url or "").hostname or None]
    names = (
        "messaging.system", "messaging.operation.name", "messaging.operation.type", "messaging.destination.name",
        "messaging.message.id", "aiotaskstore.task.alias",
    )  # fmt: skip
    assert of(producer, *names) == ["aiotaskstore", "send", "send", "mails", str(handle.id), "send"]
    for attempt, span in enumerate((first, second), 1):
        assert span.kind is SpanKind.CONSUMER
        assert of(span, *names) == ["aiotaskstore", "process", "process", "mails", str(handle.id), "send"]
        assert of(span, "aiotaskstore.task.attempt") == [attempt]
        assert of(span, "messaging.client.id")[0]
        assert span.parent is None
        assert linked(span) == [ids(producer)]
    assert of(first, "error.type", "aiotaskstore.task.outcome") == ["ValueError", "failed"]
    assert (first.status.status_code, second.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert [one.name for one in first.events] == ["exception"]
    child = traced.only("send default")
    assert parent_of(child) == ids(second)[1], "what a handler enqueues is part of its trace"
    in_thread = traced.only("process default")
    assert linked(in_thread) == [ids(child)]
    assert inside == [ids(first)[1], ids(second)[1], ids(in_thread)[1]]
    stored = await store.tasks.require(handle.id)
    assert stored.metadata == {}


async def test_many_soon_and_scheduled_tasks_have_a_producer_each(traced: Traced):
    store = TaskStore("sqlite://")
    instrument(store, tracer_provider=traced.provider)

    @store.task
    async def work(n: int = 0) -> None: ...

    work.schedule(Every(seconds=3600), name="hourly", run_on_start=True)
    async with store:
        await store.enqueue_many([work.draft(1), work.draft(2)])
        with traced.tracer.start_as_current_span("request") as request:
            store.enqueue_soon(work.draft(3))
        await store.flush()
        await store.dispatcher().run_once()
    batch = traced.only("send")
    assert (batch.kind, of(batch, "messaging.batch.message_count")) == (SpanKind.CLIENT, [2])
    created, runs = traced.named("create default"), traced.named("process default")
    parents = [parent_of(one) for one in created]
    assert sorted(parents, key=str) == sorted(
        [ids(batch)[1], ids(batch)[1], request.get_span_context().span_id, None], key=str
    )
    assert {one.kind for one in created} == {SpanKind.PRODUCER}
    assert sorted(link for one in runs for link in linked(one)) == sorted(map(ids, created))


@pytest.mark.parametrize(
    ("raised", "outcome", "error"),
    [
        (Retry("later", delay=3600), "retry", None),
        (Snooze(3600), "snoozed", None),
        (Cancel("enough"), "cancelled", None),
        (Fail("never"), "failed", "aiotaskstore.directives.Fail"),
        (LookupError("none"), "failed", "LookupError"),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Exception) else None,
)
async def test_directives_are_no_errors(traced: Traced, raised: Exception, outcome: str, error: str | None):
    store = TaskStore("sqlite://")
    instrument(store, tracer_provider=traced.provider)

    @store.task(max_attempts=2)
    async def work() -> None:
        raise raised

    async with store:
        await work.enqueue()
        await store.dispatcher().run_once()
    span = traced.named("process default")[0]
    assert of(span, "aiotaskstore.task.outcome", "error.type") == [outcome, error]
    assert (span.status.status_code is StatusCode.ERROR) is (error is not None)


async def test_a_timeout_is_an_error_and_a_cancel_request_and_the_last_retry_are_what_they_are(traced: Traced):
    store = TaskStore("sqlite://")
    instrument(store, tracer_provider=traced.provider)
    begun = asyncio.Event()

    @store.task
    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    @store.task
    async def last() -> None:
        raise Retry("again", delay=0)

    async with store:
        late, exhausted = await work.options(timeout=0.05).enqueue(), await last.enqueue()
        await store.dispatcher().run_once()
        begun.clear()
        async with store.dispatcher():
            unwanted = await work.enqueue()
            await begun.wait()
            await unwanted.cancel()
            await ended(store, [unwanted.id])
    spans = {of(one, "messaging.message.id")[0]: one for one in traced.named("process default")}
    seen = [of(spans[str(one.id)], "aiotaskstore.task.outcome", "error.type") for one in (late, exhausted, unwanted)]
    assert seen == [["failed", "TimeoutError"], ["failed", "aiotaskstore.directives.Retry"], ["cancelled", None]]


async def test_hooks_are_children_of_their_run_and_claims_have_spans_where_they_are_wanted(traced: Traced):
    store = TaskStore("sqlite://")
    instrument(store, tracer_provider=traced.provider, claims=True)

    @store.before
    def look(context: TaskContext) -> None:
        with traced.tracer.start_as_current_span("in the hook before"):
            pass

    @store.after
    async def report(context: TaskContext, task: Task, error: BaseException | None) -> None:
        with traced.tracer.start_as_current_span("in the hook after"):
            raise OSError("no line")

    @store.task
    async def work() -> None: ...

    async with store:
        await store.enqueue_many([work.draft()])
        await store.dispatcher().run_once()
    run = traced.only("process default")
    for when in ("before", "after"):
        (hook,) = [one for one in traced.spans if one.name.startswith(f"{when} ")]
        inner = traced.only(f"in the hook {when}")
        assert (parent_of(hook), parent_of(inner)) == (ids(run)[1], ids(hook)[1])
        assert ids(inner)[0] == ids(run)[0]
        assert of(hook, "error.type") == (["OSError"] if when == "after" else [None])
    claim = traced.only("receive default")
    assert (claim.kind, of(claim, "messaging.batch.message_count")) == (SpanKind.CLIENT, [1])
    assert claim.end_time is not None
    assert claim.start_time is not None
    assert claim.end_time >= claim.start_time
    assert of(claim, "messaging.client.id") == of(run, "messaging.client.id")


async def test_with_parent_a_run_is_part_of_the_producers_trace_and_baggage_travels(traced: Traced):
    store = TaskStore("sqlite://")
    instrument(store, tracer_provider=traced.provider, parent=True)
    seen: list[Any] = []

    @store.task
    async def work() -> None:
        seen.append(baggage.get_baggage("tenant"))

    async with store:
        token = otel_context.attach(baggage.set_baggage("tenant", "acme"))
        await work.enqueue()
        otel_context.detach(token)
        await store.dispatcher().run_once()
    producer, run = traced.only("send default"), traced.only("process default")
    assert parent_of(run) == ids(producer)[1]
    assert not run.links
    assert seen == ["acme"]


async def test_an_enqueue_that_fails_says_why(traced: Traced):
    store = TaskStore("sqlite://")
    instrument(store, tracer_provider=traced.provider)

    @store.task
    async def work() -> None: ...

    async with store:
        await work.options(external_id="a").enqueue()
        with pytest.raises(DuplicateTaskError):
            await work.options(external_id="a").enqueue()
    second = traced.named("send default")[1]
    assert of(second, "error.type") == ["aiotaskstore.errors.DuplicateTaskError"]
    assert second.status.status_code is StatusCode.ERROR


async def test_a_store_is_instrumented_once_and_without_an_sdk_nothing_is_stored():
    store = TaskStore("sqlite://")
    instrument(store, tracer_provider=trace.NoOpTracerProvider(), claims=True)
    with pytest.raises(ConfigurationError, match='"otel" is there already'):
        instrument(store)
    with pytest.raises(ConfigurationError, match="takes a TaskStore"):
        instrument(None)  # type: ignore[arg-type] # wrong on purpose

    @store.task
    async def work() -> int:
        return 1

    async with store, store.transaction() as connection:
        await work.using(connection).enqueue()
        cursor = await connection.execute("SELECT metadata FROM aiotaskstore_tasks")
        assert await cursor.fetchall() == [(None,)]


def test_without_the_package_it_says_what_to_install():
    program = (
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"
        "import aiotaskstore\n"
        "try:\n"
        "    import aiotaskstore.integrations.opentelemetry\n"
        "except aiotaskstore.ConfigurationError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT, check=True)
    assert "pip install 'aiotaskstore[otel]'" in done.stdout
