"""Keys that runs have freed: they go with the next claim, or are granted where none follows; the sweep leaves them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from aiotaskstore.dispatch.freed_keys import FreedKeys
from aiotaskstore.dispatch.key_sweep import KeySweep
from aiotaskstore.mechanics.hint import Hint, queue_hint
from aiotaskstore.storage.storage import Storage
from aiotaskstore.storage.tasks import MOST_ROWS, WaitingKey


class Claim:
    def __init__(self, key: str | None, queue: str = "default") -> None:
        self.serialization_key, self.queue = key, queue


class Passing:
    """The store's loop that grants, and a dispatcher that claims."""

    def __init__(self) -> None:
        self.granted: list[str] = []
        self.hints: list[Hint] = []
        self.stopping = False
        grants: Any = self
        self.keys = FreedKeys(grants, receive=self.hints.append, stopping=lambda: self.stopping)

    def was_granted(self, queues: Any) -> None:
        assert queues == {"default"}

    def grant_soon(self, keys: Any) -> None:
        self.granted += keys

    def free(self, *claims: Any) -> None:
        self.keys.free(claims)


def test_while_nothing_is_claimed_freed_keys_are_granted_at_once():
    passing = Passing()
    passing.free(Claim("a"), Claim(None), Claim("b"), Claim("a"))
    assert (passing.granted, passing.hints, passing.keys.take()) == (["a", "b"], [], [])
    passing.keys.wait_for_claims()
    passing.stopping = True
    passing.free(Claim("c"))
    assert (passing.granted, passing.hints, passing.keys.take()) == (["a", "b", "c"], [], [])


def test_while_the_dispatcher_claims_its_next_claim_takes_the_freed_keys_once():
    passing = Passing()
    passing.keys.wait_for_claims()
    passing.free(Claim("a"), Claim("b", "other"), Claim("a"))
    passing.free(Claim(None))
    assert (passing.granted, passing.hints) == ([], [queue_hint("default", "other")])
    assert passing.keys.take() == ["a", "b"]
    assert passing.keys.take() == []


def test_a_claim_takes_no_more_keys_than_a_statement_may_have_and_the_next_takes_the_rest():
    passing = Passing()
    passing.keys.wait_for_claims()
    keys = [f"key {n}" for n in range(MOST_ROWS + 1)]
    passing.free(*map(Claim, keys))
    assert passing.keys.take() == keys[:-1]
    assert passing.keys.take() == keys[-1:]


def test_what_no_claim_takes_any_more_is_granted():
    passing = Passing()
    passing.keys.wait_for_claims()
    passing.free(Claim("a"))
    passing.keys.grant()
    passing.free(Claim("b"))
    passing.keys.wait_for_no_claim()
    assert passing.granted == ["a", "b"]
    assert passing.keys.take() == []


def test_keys_are_being_passed_on_until_the_reply_to_their_claim_and_are_granted_if_it_failed():
    passing = Passing()
    passing.keys.wait_for_claims()
    passing.free(Claim("a"))
    assert passing.keys.passing_on == ["a"]
    passing.keys.take()
    passing.free(Claim("b"))
    assert sorted(passing.keys.passing_on) == ["a", "b"]
    passing.keys.granted({"default"})
    assert (passing.keys.passing_on, passing.granted) == (["b"], [])
    passing.keys.take()
    passing.keys.refused()
    assert (passing.keys.passing_on, passing.granted) == ([], ["b"])


@pytest.mark.parametrize("freed", ["before the look", "during the look"])
async def test_the_sweep_grants_the_free_keys_that_nobody_is_passing_on(freed: str):
    granted: list[str] = []
    ours = ["mine"] if freed == "before the look" else []

    async def read(_look: Any) -> list[WaitingKey]:
        found = [] if granted else [WaitingKey("held", False), WaitingKey("left", True), WaitingKey("mine", True)]
        ours[:] = [] if freed == "before the look" else ["mine"]
        return found

    storage = SimpleNamespace(database=SimpleNamespace(read=read), tasks=SimpleNamespace(waiting_keys=list))
    grants: Any = SimpleNamespace(grant_soon=granted.extend)
    sweep = KeySweep(cast(Storage, storage), grants, passing_on=lambda: list(ours))
    assert await sweep.sweep_once() == 1
    assert granted == ["left"]
