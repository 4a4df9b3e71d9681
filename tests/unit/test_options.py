"""Options: what is refused, and which one wins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest

from aiotaskstore import ConfigurationError, Queue, Retention, TaskRouter, TaskStore
from aiotaskstore.carrier import Carriers
from aiotaskstore.hooks import Hooks
from aiotaskstore.manage.ambient_metadata import inherited, metadata
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.options import DefinitionOptions, check_options
from aiotaskstore.prepared_task import Preparation
from aiotaskstore.task import NewTask

SOON = datetime(2030, 1, 1, tzinfo=UTC)
NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001 - the point


class Clockless(tzinfo):
    """A timezone that knows no offset: what carries it is naive after all."""

    def utcoffset(self, _at: datetime | None) -> None:
        return None

    dst = tzname = utcoffset


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prio": 1}, "There is no task option prio. Known: delay, external_id"),
        ({"delay": 1, "run_at": SOON}, "delay and run_at.*give one of them"),
        ({"delay": -1}, "delay must be zero or more, but it is -1"),
        ({"delay": float("nan")}, "delay must be zero or more, but it is nan"),
        ({"delay": float("inf")}, "delay must be at most a hundred years"),
        ({"delay": timedelta(seconds=-1)}, "delay must be zero or more"),
        ({"delay": "5m"}, "delay must be a timedelta or a number of seconds"),
        ({"delay": True}, "delay must be a timedelta or a number of seconds"),
        ({"run_at": NAIVE}, r"run_at must be a datetime with a timezone, such as datetime.now\(UTC\)"),
        ({"run_at": datetime(2030, 1, 1, tzinfo=Clockless())}, "run_at must be a datetime with a timezone"),
        ({"run_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))}, "run_at"),
        ({"run_at": "2030-01-01"}, "run_at must be a datetime with a timezone"),
        ({"run_at": 5}, "run_at must be a datetime with a timezone"),
        ({"queue": "x" * 101}, "A queue name may have at most 100 characters, but 'xxx.*has 101"),
        ({"queue": "a\0b"}, "A queue name must not contain a NUL"),
        ({"queue": "\ud800"}, "A queue name must be valid Unicode.*lone surrogate"),
        ({"queue": 7}, "A queue name must be text, not 7"),
        ({"priority": 2**31}, "priority must be a whole number.*smaller runs first"),
        ({"priority": -(2**31) - 1}, "priority must be a whole number"),
        ({"priority": 1.0}, "priority must be a whole number"),
        ({"priority": True}, "priority must be a whole number"),
        ({"max_attempts": 0}, "max_attempts must be a whole number of at least 1, but it is 0"),
        ({"max_attempts": 2**31}, "max_attempts must be a whole number"),
        ({"timeout": 0}, "timeout must be above zero"),
        ({"external_id": ""}, "external_id must not be empty"),
        ({"external_id": "x" * 256}, "external_id may have at most 255 characters"),
        ({"external_id": "\0"}, "external_id must not contain a NUL"),
        ({"external_id": "\ud800"}, "external_id must be valid Unicode"),
        ({"external_id": 42}, "external_id must be text, not 42"),
        ({"unique_while": "ever"}, "unique_while must be one of kept, live, not 'ever'"),
        ({"on_conflict": ["raise"]}, "on_conflict must be one of raise, return"),
        ({"owner": "user"}, r'owner must be \("type", "id"\)'),
        ({"owner": ("user",)}, "owner must be"),
        ({"owner": ("", "1")}, "owner must be.*neither empty"),
        ({"owner": ("user", "")}, "owner must be.*neither empty"),
        ({"owner": ("user", None)}, "owner must be"),
        ({"source": ""}, "source must not be empty"),
        ({"owner": ("u\0", "1")}, "owner type must not contain a NUL"),
        ({"owner": ("user", "\ud800")}, "owner id must be valid Unicode"),
        ({"owner": ("x" * 101, "1")}, "owner type may have at most 100"),
        ({"owner": ("user", "x" * 256)}, "owner id may have at most 255"),
        ({"source": "\0"}, "source must not contain a NUL"),
        ({"source": "\ud800"}, "source must be valid Unicode"),
        ({"source": 5}, "source must be text"),
        ({"metadata": "x"}, "metadata must be a mapping with text keys"),
        ({"metadata": {1: 2}}, "metadata must be a mapping with text keys"),
        ({"metadata": {"a": object()}}, "metadata cannot be written as JSON"),
        ({"metadata": {"a": {"b": [float("nan")]}}}, "metadata contains NaN"),
        ({"metadata": {"a": "\0"}}, "metadata contains a NUL"),
        ({"metadata": {"\0": 1}}, "metadata contains a NUL"),
        ({"metadata": {"a": "\ud800"}}, "metadata cannot be written as JSON"),
        ({"metadata": {"a": "x" * 65_536}}, "metadata is 65,544 bytes of JSON, and the limit is 65,536"),
        ({"retention": {"keep": "all"}}, "retention must be a Retention"),
        ({"retention": "all"}, "retention must be a Retention"),
    ],
)
def test_options_that_cannot_work_are_refused_when_they_are_chosen(options, words):
    task = TaskStore("sqlite://").task(handler)
    for choose in (check_options, lambda given: task.options(**given)):
        with pytest.raises(ConfigurationError, match=words):
            choose(options)
    with pytest.raises(ConfigurationError, match=words):
        TaskStore("sqlite://").draft("handler", {}, **options)


@pytest.mark.parametrize(
    ("first", "then"),
    [({"delay": 5}, {"run_at": SOON}), ({"run_at": SOON}, {"delay": 5}), ({"run_at": SOON}, {"delay": 0})],
)
def test_delay_and_run_at_are_refused_together_also_one_after_the_other(first, then):
    task = TaskRouter().task(handler)
    with pytest.raises(ConfigurationError, match="delay and run_at"):
        task.options(**first).options(**then)


def test_none_takes_back_what_was_chosen_before():
    task = TaskRouter().task(handler)
    chosen = task.options(delay=5, priority=3).options(delay=None, run_at=SOON)  # type: ignore[arg-type]
    assert chosen.draft().options == {"run_at": SOON, "priority": 3}


def test_the_longest_names_fit():
    check_options({"queue": "𝕢" * 100, "external_id": "𝕩" * 255, "owner": ("𝕠" * 100, "𝕚" * 255), "source": "𝕤" * 100})
    check_options({"priority": 2**31 - 1, "max_attempts": 2**31 - 1})
    check_options({"priority": -(2**31), "max_attempts": 1, "delay": 0})


def test_options_are_normalised_when_they_are_chosen():
    chosen = check_options(
        {"delay": timedelta(minutes=1), "timeout": 5, "queue": "", "owner": ("user", 42), "source": None}
    )
    assert chosen == {"delay": 60.0, "timeout": 5.0, "queue": "default", "owner": ("user", "42")}


def test_metadata_chosen_is_a_copy():
    given: dict[str, Any] = {"a": 1}
    task = TaskRouter().task(handler).options(metadata=given)
    given["b"] = 2
    assert task.draft().options["metadata"] == {"a": 1}


def test_choosing_leaves_the_definition_and_earlier_choices_alone():
    task = TaskRouter().task(handler)
    first = task.options(priority=1)
    second = first.options(priority=2, queue="other")
    assert task.draft().options == {}
    assert first.draft().options == {"priority": 1}
    assert second.draft().options == {"priority": 2, "queue": "other"}


# ── who wins: task over definition over queue over library ────────────────────────────────────────────────────


async def handler() -> None:
    pass


def row(
    chosen: dict[str, Any] | None = None,
    declared: dict[str, Any] | None = None,
    line: Queue | None = None,
    kept: Retention | None = None,
) -> NewTask:
    """The row that a draft becomes, without a database."""
    preparation = Preparation({line.name: line} if line else {}, kept or Retention(), Carriers(Hooks()))
    task = TaskRouter().task(**(declared or {}))(handler)
    draft = task.options(**(chosen or {})).draft()
    return preparation.prepare(draft, new_id(), task.defaults, None, inherited()).row


LINE = Queue("default", max_attempts=7, timeout=70, retention=Retention("failed"))


def test_the_library_has_the_last_word():
    made = row()
    assert (made.queue, made.priority, made.max_attempts, made.timeout, made.retention) == ("default", 0, 1, None, None)
    assert (made.run_at, made.delay, made.external_id, made.owner_type, made.metadata) == (None, None, None, None, None)


def test_the_store_decides_the_retention_where_nobody_else_does():
    assert row(kept=Retention("none")).retention == Retention("none").dump()


def test_the_queue_has_a_word_before_the_library():
    made = row(line=LINE, kept=Retention("none"))
    assert (made.max_attempts, made.timeout, made.retention) == (7, 70, Retention("failed").dump())


def test_the_definition_has_a_word_before_the_queue():
    declared = {"max_attempts": 5, "timeout": 50, "retention": Retention(period=5), "priority": 5}
    made = row(declared=declared, line=LINE)
    expected = (5, 50, Retention(period=5).dump(), 5)
    assert (made.max_attempts, made.timeout, made.retention, made.priority) == expected


def test_the_task_has_the_first_word():
    declared = {"queue": "slow", "max_attempts": 5, "timeout": 50, "retention": Retention(period=5), "priority": 5}
    chosen = {"queue": "default", "max_attempts": 3, "timeout": 30, "retention": Retention(period=3), "priority": 0}
    made = row(chosen, declared, LINE)
    expected = ("default", 3, 30, Retention(period=3).dump(), 0)
    assert (made.queue, made.max_attempts, made.timeout, made.retention, made.priority) == expected


def test_the_queue_that_the_task_chose_gives_its_defaults():
    line = Queue("fast", max_attempts=9)
    assert row({"queue": "fast"}, {"queue": "slow"}, line).max_attempts == 9
    assert row(None, {"queue": "slow"}, line).max_attempts == 1


def test_the_default_retention_chosen_outweighs_the_stores_other_one():
    made = row({"retention": Retention()}, None, None, Retention("none"))
    assert Retention.load(made.retention) == Retention()


def test_the_external_id_is_the_tasks_or_else_the_definitions_function():
    router = TaskRouter()

    async def order(number: int, *, tag: str = "") -> None:
        pass

    task = router.task(external_id=lambda number, tag="": f"order-{number}{tag}" if number else None)(order)
    assert task.draft(1).options["external_id"] == "order-1"
    assert task.draft(1, tag="x").options["external_id"] == "order-1x"
    assert task.options(external_id="mine").draft(1).options["external_id"] == "mine"
    assert "external_id" not in task.draft(0).options


def test_by_alias_the_definitions_function_is_asked_too():
    store = TaskStore("sqlite://")

    async def order(number: int, *, tag: str = "") -> None:
        pass

    store.task(external_id=lambda number, tag="": f"order-{number}{tag}" if number else None)(order)
    assert store.draft("order", {"number": 1, "tag": "x"}).options["external_id"] == "order-1x"
    assert store.draft("order", {"number": 1}, external_id="mine").options["external_id"] == "mine"
    assert "external_id" not in store.draft("order", {"number": 0}).options


@pytest.mark.parametrize(("key", "words"), [("", "must not be empty"), ("x" * 256, "at most 255"), (5, "must be text")])
def test_what_the_definitions_function_gives_is_checked_too(key, words):
    task = TaskRouter().task(external_id=lambda: key)(handler)
    with pytest.raises(ConfigurationError, match=f"external_id.*{words}"):
        task.draft()


@pytest.mark.acceptance("A70")
def test_metadata_of_the_task_wins_over_the_blocks_around_it():
    with metadata(a=1, b=1, c=1), metadata(b=2, c=2):
        assert row({"metadata": {"c": 3}}).metadata == '{"a":1,"b":2,"c":3}'
        assert row().metadata == '{"a":1,"b":2,"c":2}'
    assert row().metadata is None


def test_metadata_that_is_too_much_only_together_is_refused():
    with metadata(a="x" * 40_000), pytest.raises(ConfigurationError, match=r"metadata is .* bytes of JSON"):
        row({"metadata": {"b": "x" * 40_000}})


@pytest.mark.parametrize("values", [{"a": float("nan")}, {"a": object()}, {"a": "\0"}, {"a": "\ud800"}])
def test_metadata_that_cannot_be_stored_is_refused_where_the_block_begins(values):
    with pytest.raises(ConfigurationError, match="metadata"), metadata(**values):
        raise AssertionError("not reached")


# ── queues, stores, dispatchers ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "x" * 101}, "A queue name may have at most 100"),
        ({"name": 5}, "A queue name must be text"),
        ({"name": "a", "concurrency": 0}, 'concurrency of queue "a" must be a whole number of at least 1'),
        ({"name": "a", "concurrency": 1.5}, "concurrency of queue"),
        ({"name": "a", "timeout": -1}, "timeout must be"),
        ({"name": "a", "max_attempts": 0}, "max_attempts must be"),
        ({"name": "a", "backoff": "x"}, "backoff must be"),
        ({"name": "a", "retention": "all"}, "retention must be a Retention"),
    ],
)
def test_queues_that_cannot_work_are_refused_when_they_are_made(arguments, words):
    with pytest.raises(ConfigurationError, match=words):
        Queue(**arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"queues": [5]}, "A queue name must be text"),
        ({"queues": 5}, "queues"),
        ({"prefix": "no-dashes"}, "A table prefix is lower-case letters"),
        ({"prefix": ""}, "A table prefix"),
        ({"prefix": "x" * 31}, "A table prefix.*at most 30"),
        ({"prefix": "x; DROP TABLE"}, "A table prefix"),
        ({"prefix": 5}, "A table prefix"),
        ({"schema": "tasks"}, "schema= is for PostgreSQL"),
        ({"schema": "No"}, "A schema name is lower-case letters"),
        ({"schema": 5}, "A schema name"),
        ({"pool_size": 0}, "pool_size must be a whole number of at least 1"),
        ({"payload_limit": 0}, "payload_limit must be a whole number of at least 1"),
        ({"wait_interval": 0}, "wait_interval must be above zero"),
        ({"enqueue_timeout": -1}, "enqueue_timeout must be above zero"),
        ({"transaction_timeout": float("nan")}, "transaction_timeout must be above zero"),
        ({"retention": "all"}, "retention must be a Retention"),
        ({"on_error": "log"}, "on_error must be a function"),
        ({"listen_url": 5}, "listen_url is a URL"),
        ({"migrate": "no"}, "migrate must be True or False, not 'no'"),
        ({"debug": "no"}, "debug must be True or False"),
    ],
)
@pytest.mark.acceptance("A01")
def test_stores_that_cannot_work_are_refused_when_they_are_made(arguments, words):
    with pytest.raises(ConfigurationError, match=words):
        TaskStore("sqlite://", **arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"concurrency": 0}, "concurrency must be a whole number of at least 1, but it is 0"),
        ({"concurrency": -3}, "concurrency must be"),
        ({"concurrency": True}, "concurrency must be"),
        ({"queues": {"emails": 0}}, 'slots of queue "emails" must be a whole number of at least 1'),
        ({"queues": {}}, "queues is empty, so nothing would ever run"),
        ({"queues": []}, "queues is empty"),
        ({"queues": 5}, "queues must be a mapping"),
        ({"queues": [5]}, "A queue name must be text"),
        ({"queues": ["x" * 101]}, "A queue name may have at most 100"),
        ({"lease": 9}, "lease must fit at least two heartbeats, but it is 9 s and a heartbeat is 5 s"),
        ({"heartbeat": 8}, "lease must fit at least two heartbeats"),
        ({"heartbeat": 0}, "heartbeat must be above zero"),
        ({"poll_interval": 0}, "poll_interval must be above zero"),
        ({"poll_interval": float("inf")}, "poll_interval must be at most"),
        ({"grace": -1}, "grace must be zero or more"),
        ({"stuck_grace": "10"}, "stuck_grace must be a timedelta"),
        ({"on_missing": "ignore"}, 'on_missing must be "leave" or "fail", not \'ignore\''),
        ({"on_missing": ["fail"]}, "on_missing must be"),
        ({"healer": 0}, "healer must be above zero"),
        ({"cleaner": "hourly"}, "cleaner must be a timedelta"),
        ({"name": "x" * 101}, "A dispatcher's name may have at most 100"),
        ({"name": "\0"}, "A dispatcher's name must not contain a NUL"),
    ],
)
@pytest.mark.acceptance("A132")
def test_dispatchers_that_cannot_work_are_refused_when_they_are_made(arguments, words):
    with pytest.raises(ConfigurationError, match=words):
        TaskStore("sqlite://").dispatcher(**arguments)


def test_a_lease_of_two_heartbeats_is_enough():
    settings = TaskStore("sqlite://").dispatcher(heartbeat=5, lease=10).settings
    assert (settings.heartbeat, settings.lease) == (5, 10)


def test_what_other_services_learn_of_a_definition_is_read_back_as_it_was():
    declared = DefinitionOptions(
        queue="emails",
        priority=-3,
        max_attempts=4,
        timeout=timedelta(seconds=9),
        retention=Retention("failed", None),
        on_stuck="fail",
    )
    assert DefinitionOptions.from_published(declared.published()) == declared
    assert DefinitionOptions.from_published({}) == DefinitionOptions()
