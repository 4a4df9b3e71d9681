"""`store.tasks`: the stored tasks, to read, to wait for, to place, to change and to end."""

from __future__ import annotations

from aiotaskstore.manage.changing import Changing
from aiotaskstore.manage.ending import Ending
from aiotaskstore.manage.placing import Placing
from aiotaskstore.manage.reading import Reading


class TaskManager(Reading, Placing, Changing, Ending):
    """`store.tasks`: actions take an id and return the task's new value, or `where=` and then run in batches.

    `where=` takes the filters of `list`, of which one at least must narrow the choice, with `include_deleted` and
    `limit` (the highest number of tasks to change), or `"all"` for every task; anything else is an
    `InvalidQueryError`. Only tasks that exist at the call are changed, each at most once. A task that no longer matches
    when it is written, or cannot be changed, is skipped. A batch action is not atomic, unless inside
    `store.transaction()`.

    A soft-deleted task is to every call as if it were not stored, but to `delete`, `soft_delete` and `restore`, and
    where `include_deleted` is said.

    Text that is not a UUID counts as the id of a task that never existed: `get` and `status` return `None`, all others
    raise `TaskNotFoundError`. An empty text, or another type, is an `InvalidQueryError`.
    """
