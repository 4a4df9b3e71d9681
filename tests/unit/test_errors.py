"""Each error builds its sentence from facts that it keeps: what was found, what was expected, what to do."""
# ruff: noqa: E501 - a table reads by its rows

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from aiotaskstore import errors
from aiotaskstore.task_errors import TaskCancelledError, TaskFailedError

ID = UUID(int=7)
TASK = cast(
    "Any",
    SimpleNamespace(
        id=ID, alias="send", status="failed", error="ValueError: x", finish_reason="error", cancel_reason=None
    ),
)
CANCELLED = cast("Any", SimpleNamespace(id=ID, alias="send", cancel_reason="too late"))

SENTENCES = [
    (errors.DuplicateHandlerError("a-b", "a_b"), {"alias": "a-b"}, ['"a-b" is taken by "a_b"', "another alias="]),
    (errors.NotInTransactionError("asyncpg", "BEGIN"), {}, ["asyncpg connection commits by itself", "(BEGIN)", "without .using()"]),
    (errors.SchemaOutdatedError(None, 3), {"found": None, "wanted": 3}, ["are missing", "needs version 3", "aiotaskstore migrate"]),
    (errors.SchemaOutdatedError(2, 3), {"found": 2, "wanted": 3}, ["are at version 2", "needs version 3", "migrate=True"]),
    (errors.SchemaTooNewError(4, 3), {"found": 4, "wanted": 3}, ["at version 4", "newer than version 3", "Upgrade aiotaskstore"]),
    (errors.UnknownAliasError("sned", ["send"]), {"alias": "sned"}, ['registered as "sned"', 'Did you mean "send"?']),
    (errors.UnknownAliasError("zzz", [f"a{n:02}" for n in range(12)]), {}, ["Known: a00, a01", "a09, …."]),
    (errors.UnknownAliasError("zzz", ["b", "a"]), {}, ["Known: a, b."]),
    (errors.UnknownAliasError("zzz", []), {}, ["None is registered yet", "import the module", "unchecked=True"]),
    (errors.DefinitionInactiveError("send"), {"alias": "send"}, ['"send" is cancelled', "Activate it"]),
    (
        errors.DuplicateTaskError("send", "order-1", ID), {"alias": "send", "external_id": "order-1", "existing_id": ID, "positions": None},
        ['"order-1" exists already', str(ID), 'on_conflict="return"'],
    ),
    (errors.TaskNotFoundError(ID), {"task_id": ID}, [f"No task {ID} is stored", "never committed, was deleted, or its retention"]),
    (errors.NotCancellableError(ID, "succeeded"), {"task_id": ID, "status": "succeeded"}, ["is succeeded", "only an unfinished", "strict=False"]),
    (errors.InvalidTransitionError(ID, "retry", "running", "Wait."), {"move": "retry", "status": "running"}, ["is running: cannot retry it. Wait."]),
    (errors.ClaimLostError(ID), {"task_id": ID}, ["no longer claimed by this run", "dropped"]),
    (TaskFailedError(TASK), {"task": TASK}, [f"Task {ID} (send) failed: ValueError: x"]),
    (TaskCancelledError(CANCELLED), {"task": CANCELLED}, [f"Task {ID} (send) was cancelled: too late"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "facts", "words"), SENTENCES, ids=lambda one: type(one).__name__ if isinstance(one, Exception) else ""
)
def test_each_error_says_its_facts_and_keeps_them(error: Exception, facts: dict[str, Any], words: list[str]):
    for word in words:
        assert word in str(error)
    for name, value in facts.items():
        assert getattr(error, name) == value
    assert isinstance(error, errors.TaskStoreError)


def test_a_failed_task_without_an_error_says_why_it_ended():
    ended = cast(
        "Any", SimpleNamespace(id=ID, alias="send", status="interrupted", error=None, finish_reason="interrupted")
    )
    assert str(TaskFailedError(ended)) == f"Task {ID} (send) interrupted: interrupted"


def test_a_cancelled_task_without_words_says_none():
    quiet = cast("Any", SimpleNamespace(id=ID, alias="send", cancel_reason=None))
    assert str(TaskCancelledError(quiet)) == f"Task {ID} (send) was cancelled"


@pytest.mark.parametrize(
    "error", [errors.ConfigurationError("x"), errors.PayloadError("x"), errors.DatabaseUnavailableError("x")]
)
def test_plain_errors_travel_between_processes(error: Exception):
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back)) == (type(error), str(error))
