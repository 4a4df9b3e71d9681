"""A batch that is refused is halved until only what cannot be written is refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiotaskstore.errors import DatabaseUnavailableError, PayloadError
from aiotaskstore.mechanics.bisecting import write_bisecting


@given(st.lists(st.booleans(), min_size=1, max_size=40))
async def test_each_item_is_written_once_or_refused_alone(refused: list[bool]) -> None:
    written: list[int] = []

    async def write(items: Sequence[int]) -> list[int]:
        if any(refused[item] for item in items):
            raise PayloadError(f"{len(items)} refused")
        written.extend(items)
        return [10 * item for item in items]

    answers = await write_bisecting(write, range(len(refused)))
    assert written == [item for item, bad in enumerate(refused) if not bad]
    for item, (answer, bad) in enumerate(zip(answers, refused, strict=True)):
        assert str(answer) == ("1 refused" if bad else str(10 * item))


async def test_a_database_that_is_away_refuses_nothing_so_nothing_is_halved() -> None:
    tried = []

    async def write(items: Sequence[int]) -> list[int]:
        tried.append(list(items))
        if len(items) > 2:
            raise PayloadError("refused")
        raise DatabaseUnavailableError("away")

    answers = await write_bisecting(write, [1, 2, 3, 4])
    assert tried == [[1, 2, 3, 4], [1, 2], [3, 4]]
    assert [type(answer) for answer in answers] == [DatabaseUnavailableError] * 4


async def test_an_error_that_is_not_ours_comes_out() -> None:
    async def write(_items: Sequence[int]) -> list[int]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await write_bisecting(write, [1, 2])
