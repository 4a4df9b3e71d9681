"""Keys that runs have freed: they go with the next claim, or are granted where none follows."""

from __future__ import annotations

from typing import Any

from aiotaskstore.dispatch.freed_keys import FreedKeys
from aiotaskstore.mechanics.hint import Hint, queue_hint
from aiotaskstore.storage.tasks import MOST_ROWS


class Claim:
    def __init__(self, key: str | None, queue: str = "default") -> None:
        self.serialization_key, self.queue = key, queue


class Desk:
    """The store's loop that grants, and a dispatcher that claims."""

    def __init__(self) -> None:
        self.granted: list[str] = []
        self.hints: list[Hint] = []
        self.stopping = False
        grants: Any = self
        self.keys = FreedKeys(grants, receive=self.hints.append, stopping=lambda: self.stopping)

    def grant_soon(self, keys: Any) -> None:
        self.granted += keys

    def free(self, *claims: Any) -> None:
        self.keys.free(claims)


def test_while_nothing_is_claimed_freed_keys_are_granted_at_once():
    desk = Desk()
    desk.free(Claim("a"), Claim(None), Claim("b"), Claim("a"))
    assert (desk.granted, desk.hints, desk.keys.take()) == (["a", "b"], [], [])
    desk.keys.wait_for_claims()
    desk.stopping = True
    desk.free(Claim("c"))
    assert (desk.granted, desk.hints, desk.keys.take()) == (["a", "b", "c"], [], [])


def test_while_the_dispatcher_claims_its_next_claim_takes_the_freed_keys_once():
    desk = Desk()
    desk.keys.wait_for_claims()
    desk.free(Claim("a"), Claim("b", "other"), Claim("a"))
    desk.free(Claim(None))
    assert (desk.granted, desk.hints) == ([], [queue_hint("default", "other")])
    assert desk.keys.take() == ["a", "b"]
    assert desk.keys.take() == []


def test_a_claim_takes_no_more_keys_than_a_statement_may_have_and_the_next_takes_the_rest():
    desk = Desk()
    desk.keys.wait_for_claims()
    keys = [f"key {n}" for n in range(MOST_ROWS + 1)]
    desk.free(*map(Claim, keys))
    assert desk.keys.take() == keys[:-1]
    assert desk.keys.take() == keys[-1:]


def test_what_no_claim_takes_any_more_is_granted():
    desk = Desk()
    desk.keys.wait_for_claims()
    desk.free(Claim("a"))
    desk.keys.grant()
    desk.free(Claim("b"))
    desk.keys.wait_for_no_claim()
    assert desk.granted == ["a", "b"]
    assert desk.keys.take() == []
