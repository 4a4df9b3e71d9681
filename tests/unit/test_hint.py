"""Hints merge without losing anything, reach every subscriber, and survive their way between processes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiotaskstore.mechanics.hint import (
    ANY_QUEUE,
    CANCEL_REQUESTED,
    NOTHING,
    RESTRICTIONS_CHANGED,
    SCHEDULED,
    Hint,
    queue_hint,
)
from aiotaskstore.mechanics.notifier import Notifier

names = st.text(min_size=1, max_size=20).filter(str.isprintable)
hints = st.builds(Hint, st.frozensets(names, max_size=4), *[st.booleans()] * 4)


@given(hints, hints)
def test_two_hints_merge_into_one_that_says_what_both_say(one: Hint, other: Hint) -> None:
    merged = one | other
    assert merged == other | one
    assert merged | one == merged
    assert bool(merged) == (bool(one) or bool(other))
    assert all(merged.names(queue) for queue in one.queues | other.queues)


def test_only_a_hint_that_says_nothing_is_false() -> None:
    assert not NOTHING
    for hint in (ANY_QUEUE, SCHEDULED, CANCEL_REQUESTED, RESTRICTIONS_CHANGED, queue_hint("emails")):
        assert hint
        assert hint | NOTHING == hint
    assert queue_hint("emails").work
    assert ANY_QUEUE.work
    assert not SCHEDULED.work
    assert not CANCEL_REQUESTED.work
    assert not RESTRICTIONS_CHANGED.work
    assert [hint for hint in (ANY_QUEUE, SCHEDULED) if hint.urgent] == []
    assert CANCEL_REQUESTED.urgent
    assert RESTRICTIONS_CHANGED.urgent


@given(hints)
def test_a_hint_is_read_as_it_was_sent(hint: Hint) -> None:
    assert Hint.decode(hint.encode(7_500)) == hint


@pytest.mark.parametrize("text", ["", "queue", "[]", '{"from": "a later version"}', '{"queues": 3}'])
def test_a_text_of_another_version_means_any_queue(text: str) -> None:
    assert Hint.decode(text) == ANY_QUEUE


def test_more_queues_than_a_notification_takes_become_any_queue() -> None:
    hint = queue_hint(*(f"queue-{number}é" for number in range(1_000))) | CANCEL_REQUESTED
    text = hint.encode(7_500)
    assert len(text.encode()) <= 7_500
    assert Hint.decode(text) == ANY_QUEUE | CANCEL_REQUESTED


def test_a_notifier_passes_each_hint_to_every_subscriber_until_it_unsubscribes() -> None:
    notifier, first, second = Notifier(), list[Hint](), list[Hint]()
    unsubscribe = notifier.subscribe(first.append)
    notifier.subscribe(second.append)
    notifier.notify(SCHEDULED)
    unsubscribe()
    unsubscribe()
    notifier.notify(ANY_QUEUE)
    assert (first, second) == ([SCHEDULED], [SCHEDULED, ANY_QUEUE])
