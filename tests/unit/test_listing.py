"""Filters are checked before any SQL, and composed from fixed parts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiotaskstore import InvalidQueryError, TaskFilters, TaskStatus
from aiotaskstore.storage.connect import connect
from aiotaskstore.storage.listing import Listing

ID = UUID(int=7)
NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001 - the point
AWARE = datetime(2030, 1, 1, tzinfo=UTC)

PAGED = {"order_by", "descending", "offset", "after"}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"colour": "red"}, "There is no filter colour. Known: after, alias, created_from"),
    ({"where": "1=1"}, "There is no filter where"),
    ({"alias": ""}, "alias must be a text that is not empty, not ''"),
    ({"alias": []}, "alias is an empty list, which nothing can match; leave it out"),
    ({"alias": ()}, "alias is an empty list"),
    ({"alias": ["a", ""]}, "alias must be a text that is not empty"),
    ({"alias": [None]}, "alias must be a text that is not empty, not None"),
    ({"alias": 5}, "alias takes one or a list, not 5"),
    ({"alias": "a\0"}, "alias must be storable text"),
    ({"alias": "\ud800"}, "alias must be storable text"),
    ({"queue": ""}, "queue must be a text that is not empty"),
    ({"queue": []}, "queue is an empty list"),
    ({"queue": b"x"}, "queue must be a text"),
    ({"status": "done"}, "There is no status 'done'; take one of cancelled, failed"),
    ({"status": ["failed", "done"]}, "There is no status 'done'"),
    ({"status": []}, "status is an empty list"),
    ({"status": ""}, "There is no status ''"),
    ({"status": [5]}, "There is no status 5"),
    ({"owner": ""}, "owner must be a text that is not empty"),
    ({"owner": ("user", "")}, "owner must be a text that is not empty"),
    ({"owner": ("user", None)}, "owner must be a text that is not empty"),
    ({"owner": (5, "1")}, "owner must be a text that is not empty"),
    ({"owner": ("user",)}, r'owner= takes "type" or \("type", "id"\)'),
    ({"owner": ("user", "\0")}, "owner must be storable text"),
    ({"owner": 5}, "owner= takes"),
    ({"source": ""}, "source must be a text that is not empty"),
    ({"source": ["a"]}, "source must be a text"),
    ({"external_id": "\0"}, "external_id must be storable text"),
    ({"serialization_key": "\ud800"}, "serialization_key must be storable text"),
    ({"id": "x"}, "id: A task id is a UUID"),
    ({"id": 5}, "id: A task id is a UUID"),
    ({"id_in": []}, "id_in is an empty list"),
    ({"id_in": ["x"]}, "id_in: A task id is a UUID"),
    ({"id_in": 5}, "id_in takes one or a list"),
    ({"parent_id": "x"}, "parent_id: A task id is a UUID"),
    ({"definition_id": ""}, "definition_id: A task id is a UUID"),
    ({"after": "x"}, "after: A task id is a UUID"),
    ({"after": ID, "order_by": "priority"}, "after= pages by id"),
    ({"created_from": NAIVE}, r"created_from must be a datetime with a timezone, such as datetime.now\(UTC\)"),
    ({"created_to": NAIVE}, "created_to must be a datetime with a timezone"),
    ({"finished_from": NAIVE}, "finished_from must be a datetime with a timezone"),
    ({"finished_to": "2030-01-01"}, "finished_to must be a datetime with a timezone"),
    ({"updated_before": 5}, "updated_before must be a datetime with a timezone"),
    ({"created_to": datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))}, "created_to"),
    ({"limit": -1}, "limit must be a whole number of zero or more, below 2\\*\\*31, not -1"),
    ({"limit": 1.5}, "limit must be a whole number"),
    ({"limit": "5"}, "limit must be a whole number"),
    ({"limit": True}, "limit must be a whole number"),
    ({"limit": 2**64}, "limit must be"),
    ({"offset": -1}, "offset must be a whole number of zero or more"),
    ({"offset": 2**64}, "offset must be"),
    ({"order_by": "payload"}, 'Tasks cannot be ordered by "payload"; take one of alias, attempt, created_at'),
    ({"order_by": "id; DROP TABLE x"}, "Tasks cannot be ordered by"),
    ({"order_by": ["id"]}, "Tasks cannot be ordered by"),
    ({"order_by": ""}, "Tasks cannot be ordered by"),
    *(
        ({name: None}, f"{name} is None, which is no filter: it would match everything. Leave {name} out")
        for name in TaskFilters.__annotations__
        if name != "limit"
    ),
    ({"alias": "a", "queue": None}, "queue is None"),
    ({"include_deleted": "no"}, "include_deleted must be True or False, not 'no'"),
    ({"include_deleted": 1}, "include_deleted must be True or False"),
    ({"descending": 0}, "descending must be True or False"),
]
"""Filters that cannot be meant. tests/bad_input asks the store the same."""


@pytest.mark.parametrize(("filters", "words"), BAD)
@pytest.mark.acceptance("A15")
def test_what_cannot_be_meant_is_refused(filters, words):
    with pytest.raises(InvalidQueryError, match=words):
        Listing.parse(filters)


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"limit": None},
        {"alias": "a"},
        {"alias": ["a", "b"]},
        {"alias": iter(["a"])},
        {"queue": {"a"}},
        {"status": TaskStatus.FAILED},
        {"status": ["failed", TaskStatus.RUNNING]},
        {"owner": "user"},
        {"owner": ("user", "42")},
        {"owner": ["user", 42]},
        {"id": str(ID)},
        {"id_in": [ID, str(ID)]},
        {"limit": 0},
        {"after": ID, "order_by": "created_at"},
        {"created_from": AWARE, "created_to": AWARE},
    ],
)
def test_what_can_be_meant_is_taken(filters):
    Listing.parse(filters)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({}, 'has no filter that narrows the choice.*queue=.*where="all"'),
        ({"limit": 5}, "no filter that narrows"),
        ({"include_deleted": True}, "no filter that narrows"),
        ({"include_deleted": True, "limit": None}, "no filter that narrows"),
        ({"queue": None}, "queue is None"),
        ({"queue": "a", "alias": None}, "alias is None"),
        ({"queue": "a", "order_by": "id"}, "order_by has no meaning there"),
        ({"queue": "a", "descending": True}, "descending has no meaning there"),
        ({"queue": "a", "offset": 0}, "offset has no meaning there"),
        ({"queue": "a", "after": ID}, "after has no meaning there"),
        ("ALL", 'or "all" for every task, not'),
        ("", "where= takes filters"),
        (None, "where= takes filters"),
        ([("queue", "a")], "where= takes filters"),
        ({1: 2}, "There is no filter 1"),
        *BAD,
    ],
)
def test_a_choice_that_cannot_be_meant_is_refused(where, words):
    with pytest.raises(InvalidQueryError, match=words if not PAGED & set(where or ()) else "where="):
        Listing.choose(where)


@pytest.mark.parametrize(
    "where", ["all", {"queue": "a"}, {"queue": "a", "limit": None}, {"id": ID, "limit": 0, "include_deleted": True}]
)
def test_a_choice_that_narrows_or_says_all_is_taken(where):
    Listing.choose(where)


def test_statuses_tell_which_half_is_read():
    running, failed = Listing.parse({"status": "running"}), Listing.parse({"status": ["failed"]})
    assert (running.live, running.finished) == (True, False)
    assert (failed.live, failed.finished) == (False, True)
    ended = Listing.parse({"finished_from": AWARE})
    assert (ended.live, ended.finished) == (False, True)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "alias": st.text(min_size=1),
            "queue": st.lists(st.text(min_size=1), min_size=1, max_size=3),
            "owner": st.tuples(st.text(min_size=1), st.text(min_size=1)),
            "source": st.text(min_size=1),
            "external_id": st.text(min_size=1),
            "order_by": st.sampled_from(["id", "created_at", "run_at", "priority"]) | st.text(),
            "limit": st.integers(),
        },
    )
)
def test_nothing_that_a_caller_gives_stands_in_the_text(filters):
    """Whatever is given travels as a parameter: the text is made of our own parts alone."""
    try:
        listing = Listing.parse(filters)
    except InvalidQueryError:
        return
    database = connect("sqlite://").database
    plain = Listing.parse(cast("Any", {name: _tame(name, value) for name, value in filters.items()}))
    assert listing.select(database).sql == plain.select(database).sql
    assert listing.count().sql == plain.count().sql


def _tame(name, value):
    if name in {"order_by", "limit"}:
        return value
    if isinstance(value, str):
        return "x"
    return type(value)("x" for _ in value)
