"""Of many errors or lines the first and the newest are kept, by number and by characters."""

from __future__ import annotations

import pytest

from aiotaskstore.mechanics.entry_limit import Entry, EntryLimit, left_out

BOUND = EntryLimit(first=2, newest=3, first_characters=20, newest_characters=30)


def entries(*characters: int | Entry) -> list[Entry]:
    return [one if isinstance(one, Entry) else Entry(one) for one in characters]


@pytest.mark.parametrize(
    ("given", "gap"),
    [
        ([], None),
        ([1] * 5, None),
        ([1] * 6, (2, 3)),
        ([1] * 100, (2, 97)),
        ([20, 30], None),
        ([21, 30], (0, 1)),
        ([10, 10, 10, 10, 11], (2, 3)),
        ([1, 1, 99], (2, 2)),  # the newest stays, however long it is
        ([99], (0, 0)),
    ],
)
def test_what_is_between_the_first_and_the_newest_is_left_out(given: list[int], gap: tuple[int, int] | None):
    found = BOUND.gap(entries(*given))
    assert found == gap or (found and gap and found[0] == found[1] and gap[0] == gap[1])


def test_the_gap_grows_where_it_was():
    gone = Entry(0, 7)
    assert BOUND.gap(entries(1, 1, gone, 1, 1, 1)) is None
    assert BOUND.gap(entries(1, 1, gone, 1, 1, 1, 1)) == (2, 4)
    assert BOUND.gap(entries(1, gone, 1, 1, 1)) is None, "what came before the gap is not filled up again"
    assert left_out(entries(gone, 1)) == 8


def test_all_between_two_gaps_goes_so_that_there_is_one():
    gone = Entry(0, 7)
    assert BOUND.gap(entries(1, gone, 1, gone, 1, 1)) == (1, 4)
    assert BOUND.gap(entries(gone, 1, gone)) == (0, 3)


def test_cutting_again_and_again_keeps_the_first_and_the_newest_and_counts_every_other():
    kept: list[Entry] = []
    for number in range(1, 200):
        kept.append(Entry(number % 7))
        gap = BOUND.gap(kept)
        if gap is not None:
            start, end = gap
            kept[start:end] = [Entry(0, left_out(kept[start:end]))]
        assert left_out(kept) == number
        assert len(kept) <= BOUND.first + BOUND.newest + 1
    assert [bool(entry.left_out) for entry in kept] == [False, False, True, False, False, False]
