"""The public face is one short list, complete, documented, and nothing else."""
# ruff: noqa: E501 - lists of names

from __future__ import annotations

import inspect
import subprocess
import sys
from types import ModuleType

import pytest

import aiotaskstore
from aiotaskstore import errors, events

PROMISED = {
    # values
    "Task", "TaskStatus", "AttemptError", "Progress", "Definition", "Queue", "Retention", "Draft",
    # the face
    "TaskStore", "TaskRouter", "TaskDefinition", "TaskHandle", "TaskContext", "TaskOptions", "TaskFilters", "Dispatcher",
    "current_context", "noop",
    # what a handler raises, and how long to wait
    "Retry", "Snooze", "Cancel", "Fail", "is_retryable", "constant", "steps", "exponential", "fibonacci",
    # facts
    "Event", "TaskEnqueued", "TaskClaimed", "TaskStarted", "TaskFinished", "TaskRetried", "ClaimLost", "TaskRescued",
    "DispatcherStarted", "DispatcherStopped",
    # errors
    "Schedule", "ScheduleStatus", "ScheduleFired", "Cron", "RecurrenceRule", "Every", "Once", "Frequency", "DayOfWeek",
    "MonthOfYear", "TaskStoreError", "ConfigurationError", "DatabaseUnavailableError", "SchemaOutdatedError", "SchemaTooNewError",
    "UnknownAliasError", "DuplicateHandlerError", "DefinitionInactiveError", "PayloadError", "DuplicateTaskError",
    "TaskNotFoundError", "NotCancellableError", "InvalidTransitionError", "InvalidQueryError", "InvalidRecurrenceError",
    "NotInTransactionError", "ClaimLostError", "TaskFailedError", "TaskCancelledError",
}  # fmt: skip
"""What users type, as the public face was settled; names may be added, never taken away."""

FIELDS = {
    "Task": "id alias queue status payload result error errors details progress attempt max_attempts priority run_at timeout "
    "owner source parent_id definition_id external_id serialization_key metadata retention finish_reason cancel_reason "
    "cancel_requested_at dispatcher_id created_at updated_at started_at finished_at cancelled_at expires_at deleted_at",
    "AttemptError": "attempt at type message",
    "Progress": "text fraction at",
    "Schedule": "id name description status alias queue payload recurrence starts_at ends_at execution_count "
    "max_executions last_run_at next_run_at misfire created_at updated_at deleted_at",
    "Definition": "id alias title description memo status created_at updated_at deleted_at",
}


def test_every_promised_name_is_exported():
    assert sorted(PROMISED - set(aiotaskstore.__all__)) == []


def test_the_list_is_sorted_and_everything_on_it_can_be_imported():
    assert list(aiotaskstore.__all__) == sorted(set(aiotaskstore.__all__))
    program = "from aiotaskstore import *\nimport aiotaskstore\nmissing = set(aiotaskstore.__all__) - set(dir())\nassert not missing, missing"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_else_is_public():
    public = {
        name
        for name, thing in vars(aiotaskstore).items()
        if not name.startswith("_") and not isinstance(thing, ModuleType)
    }
    assert sorted(public - set(aiotaskstore.__all__)) == []


@pytest.mark.parametrize(("module", "root"), [(errors, errors.TaskStoreError), (events, events.Event)])
def test_every_error_and_every_event_is_exported(module: ModuleType, root: type):
    kinds = {name for name, thing in vars(module).items() if inspect.isclass(thing) and issubclass(thing, root)}
    assert sorted(kinds - {"TaskEvent"} - set(aiotaskstore.__all__)) == []


def test_every_error_is_one_of_ours_and_stands_in_the_tree_that_is_drawn():
    tree = inspect.getdoc(errors) or ""
    for name in (name for name in aiotaskstore.__all__ if name.endswith("Error") and name != "AttemptError"):
        assert issubclass(getattr(aiotaskstore, name), aiotaskstore.TaskStoreError)
        assert name in tree, f"{name} is not drawn in errors.py"


@pytest.mark.parametrize(("error", "builtin"), [
    ("ConfigurationError", ValueError), ("PayloadError", ValueError), ("InvalidQueryError", ValueError),
    ("TaskNotFoundError", LookupError), ("UnknownAliasError", LookupError), ("DatabaseUnavailableError", ConnectionError),
])  # fmt: skip
def test_errors_are_what_a_python_developer_would_catch(error: str, builtin: type):
    assert issubclass(getattr(aiotaskstore, error), builtin)


@pytest.mark.parametrize("name", FIELDS)
def test_a_value_has_the_fields_it_was_agreed_to_have(name: str):
    fields = set(getattr(aiotaskstore, name).__dataclass_fields__)
    assert sorted(set(FIELDS[name].split()) - fields) == []


@pytest.mark.parametrize("name", aiotaskstore.__all__)
def test_every_public_name_and_method_says_what_it_is_for(name: str):
    thing = getattr(aiotaskstore, name)
    if not (inspect.isclass(thing) or inspect.isroutine(thing)):
        assert thing.__doc__
        return
    assert inspect.getdoc(thing), name
    if inspect.isclass(thing):
        for key, member in vars(thing).items():
            if not key.startswith("_") and (inspect.isroutine(member) or isinstance(member, property | classmethod)):
                assert inspect.getdoc(member), f"{name}.{key}"


@pytest.mark.parametrize(
    "name", [name for name in aiotaskstore.__all__ if inspect.isclass(getattr(aiotaskstore, name))]
)
def test_every_public_value_is_printed_usefully(name: str):
    """Nothing public is printed as `<object at 0x…>` where a value or a handle is meant."""
    thing = getattr(aiotaskstore, name)
    if issubclass(
        thing,
        aiotaskstore.Event
        | aiotaskstore.TaskHandle
        | aiotaskstore.Dispatcher
        | aiotaskstore.TaskDefinition
        | aiotaskstore.Task,
    ):
        assert thing.__repr__ is not object.__repr__
