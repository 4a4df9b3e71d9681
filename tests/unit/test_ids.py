"""Ids: UUIDv7, minted before the insert, strictly increasing within a process."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from uuid import RFC_4122, UUID, uuid4

import pytest

from aiotaskstore import InvalidQueryError, TaskNotFoundError
from aiotaskstore.mechanics.ids import filter_id, find_id, new_id, require_id


def test_an_id_is_a_version_7_uuid_of_the_present_moment():
    before = time.time_ns() // 1_000_000
    minted = new_id()
    after = time.time_ns() // 1_000_000
    assert isinstance(minted, UUID)
    assert (minted.version, minted.variant) == (7, RFC_4122)
    assert before <= minted.int >> 80 <= after


def test_ids_strictly_increase_however_fast_they_are_minted():
    ids = [new_id() for _ in range(100_000)]
    assert all(one < another for one, another in pairwise(ids))


def test_ids_strictly_increase_across_threads():
    """Whoever mints second has the larger id, whatever thread it mints in."""
    minted: list[UUID] = []
    order = threading.Lock()
    start = threading.Barrier(8)

    def mint() -> None:
        start.wait()
        for _ in range(2_000):
            with order:
                minted.append(new_id())

    threads = [threading.Thread(target=mint) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(minted) == 16_000
    assert all(one < another for one, another in pairwise(minted))


def test_threads_that_mint_at_once_never_share_an_id():
    minted: list[list[UUID]] = [[] for _ in range(8)]
    start = threading.Barrier(8)

    def mint(mine: list[UUID]) -> None:
        start.wait()
        mine.extend(new_id() for _ in range(5_000))

    threads = [threading.Thread(target=mint, args=(mine,)) for mine in minted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine in minted:
        assert all(one < another for one, another in pairwise(mine))
    assert len({one for mine in minted for one in mine}) == 40_000


def test_text_is_taken_for_an_id():
    one = uuid4()
    for read in (find_id, require_id, filter_id):
        assert read(one) is one
        assert read(str(one)) == read(one.hex) == one


@pytest.mark.parametrize("text", ["42", "not-a-uuid", " ", "\0", "\ud800", "x" * 100_000])
def test_text_that_is_no_uuid_is_an_id_that_never_was(text):
    assert find_id(text) is None
    with pytest.raises(TaskNotFoundError) as caught:
        require_id(text)
    assert caught.value.task_id == text
    str(caught.value).encode()
    assert len(str(caught.value)) < 250
    with pytest.raises(InvalidQueryError, match="A task id is a UUID such as"):
        filter_id(text)


@pytest.mark.parametrize("value", ["", 42, None, b"x" * 16, ["a"], True, 1.5])
def test_what_is_no_text_either_is_refused_with_an_example(value):
    for read in (find_id, require_id, filter_id):
        with pytest.raises(InvalidQueryError, match="A task id is a UUID such as"):
            read(value)
