"""What a diagnosis looks at in our tables: due work that nobody runs, and what is left of those who did."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from aiotaskstore.finding import Finding, ok, problem, warning
from aiotaskstore.manage.dispatcher_info import DispatcherInfo, infos
from aiotaskstore.mechanics.duration import written
from aiotaskstore.storage.check import Check
from aiotaskstore.storage.inspection import Backlog, ScheduleState
from aiotaskstore.storage.restrictions import read_restrictions
from aiotaskstore.storage.storage import Storage
from aiotaskstore.task import TaskStatus

_OVERDUE = 60.0
"""Seconds after which an occurrence that nobody has made a task of is overdue."""
_FEW = 20
"""Finished tasks below which a share of failures says nothing."""
_MANY_FAILED = 0.2
"""The share of failed tasks from which on it is a warning."""
_SHOWN = 5
"""Names in a sentence, at most."""
_START = "Start a worker that serves it: aiotaskstore worker --app module:attribute"


class Declared(NamedTuple):
    """What the code of this store declares."""

    aliases: frozenset[str]
    """Every alias that it has a handler for, former ones included."""
    schedules: frozenset[str]
    """The names of its schedules."""
    slots: int
    """The slots that it names for its queues, in one dispatcher."""
    pool_size: int


class WorkChecks:
    """The checks of one store."""

    def __init__(self, storage: Storage, declared: Declared) -> None:
        self._storage, self._declared = storage, declared
        self._read = storage.database.read

    def all(self) -> list[Check]:
        """Return every check."""
        looks = {
            "dispatchers": self._dispatchers,
            "queues": self._queues,
            "handlers": self._handlers,
            "claims": self._claims,
            "schedules": self._schedules,
            "outcomes": self._outcomes,
        }
        checks = [Check(name, look, needs_tables=True) for name, look in looks.items()]
        return [*checks, Check("slots", partial(_slots, self._declared))] if self._declared.slots else checks

    async def _alive(self) -> list[DispatcherInfo]:
        return [one for one in infos(await self._read(self._storage.dispatchers.list)) if one.alive]

    async def _dispatchers(self) -> list[Finding]:
        alive = await self._alive()
        older = await self._read(self._storage.dispatchers.older)
        restrictions = await self._read(read_restrictions)
        found = [
            warning(
                "dispatchers",
                f"Dispatcher {one.name} (process {one.pid} on {one.host}) is older than the tables (its version is "
                f"{one.version or 'unknown'}), and ignores: {', '.join(one.outdated(restrictions).ignored)}.",
                "Upgrade it.",
            )
            for one in older
        ]
        running = f"{len(alive)} alive: {_names(one.name for one in alive)}." if alive else "None is running."
        return found or [ok("dispatchers", running)]

    async def _queues(self) -> list[Finding]:
        backlog, alive = await self._read(self._storage.inspection.backlog), await self._alive()
        paused = {row.name: row for row in await self._read(self._storage.queues.list) if row.paused_at is not None}
        found = []
        for queue, groups in sorted(_by_queue(backlog).items()):
            tasks, due = sum(one.tasks for one in groups), sum(one.due for one in groups)
            if queue in paused:
                reason = f" ({paused[queue].pause_reason})" if paused[queue].pause_reason else ""
                found.append(
                    warning(
                        "queues",
                        f'The queue "{queue}" is paused{reason}, and has {_tasks(tasks)} that wait.',
                        f"To go on: aiotaskstore queues resume {queue}",
                    )
                )
            elif due and not any(one.serves(queue) for one in alive):
                found.append(
                    problem(
                        "queues",
                        f'The queue "{queue}" has {_tasks(due)} due, the oldest since {_oldest(groups)}, and no '
                        "dispatcher that is alive serves it.",
                        f"{_START} -q {queue}",
                    )
                )
        return found or [ok("queues", f"Every queue with due tasks is served; {_tasks(_total(backlog))} unfinished.")]

    async def _handlers(self) -> list[Finding]:
        backlog, alive = await self._read(self._storage.inspection.backlog), await self._alive()
        cancelled = (await self._read(read_restrictions)).cancelled_aliases
        found = []
        for alias, tasks in sorted(_unfinished(backlog).items()):
            if alias in cancelled:
                found.append(
                    warning(
                        "handlers",
                        f'The definition "{alias}" is cancelled, and {_tasks(tasks)} of it wait.',
                        f'Activate it by store.definitions.activate("{alias}"), or cancel its tasks.',
                    )
                )
            elif not any(one.version is None or alias in one.aliases for one in alive):
                found += self._unhandled(alias, tasks, alive)
        return found or [ok("handlers", "Somebody has a handler for every unfinished task.")]

    def _unhandled(self, alias: str, tasks: int, alive: Sequence[DispatcherInfo]) -> Iterator[Finding]:
        ours = self._declared.aliases
        what = f'No handler for {_tasks(tasks)} with the alias "{alias}"'
        if alias in ours:
            if alive:
                yield problem(
                    "handlers",
                    f"{what}: it is registered here, but with no dispatcher that is alive.",
                    "Restart the workers with the code that is here.",
                )
        elif alive or ours:
            where = "neither a dispatcher that is alive nor this app has one" if ours else "no dispatcher has one"
            yield problem(
                "handlers",
                f"{what}: {where}.",
                f'Start a worker that has it. If it was renamed, give the new definition former_aliases=["{alias}"]. '
                "Or cancel these tasks.",
            )

    async def _claims(self) -> list[Finding]:
        claims, alive = await self._read(self._storage.inspection.claims), await self._alive()
        known = {one.id for one in alive}
        left = [one for one in claims if one.dispatcher not in known]
        running = sum(one.tasks for one in claims)
        if not left:
            return [ok("claims", f"{_tasks(running)} running, all by dispatchers that are alive.")]
        tasks = _tasks(sum(one.tasks for one in left))
        found = f"{tasks} of {running} that run were claimed by a dispatcher that has died"
        if alive:
            return [
                warning(
                    "claims", f"{found}; those alive are about to rescue them.", "Look again in a minute; if they are "
                    "still there, see that a dispatcher runs with healer=True.",
                )
            ]  # fmt: skip
        return [problem("claims", f"{found}, and no dispatcher is alive to rescue them.", _START.replace(" it:", ":"))]

    async def _schedules(self) -> list[Finding]:
        states = await self._read(self._storage.inspection.schedules)
        found = [finding for state in states for finding in _judged_schedule(state)]
        declared = self._declared.schedules
        stored = {state.name for state in states}
        if declared - stored:
            found.append(
                warning(
                    "schedules",
                    f"Declared in code, and not stored: {_names(sorted(declared - stored))}.",
                    "They are stored when a store with this code opens: start its worker.",
                )
            )
        undeclared = {state.name for state in states if state.code_owned} - declared
        if undeclared and (declared or self._declared.aliases):
            found.append(
                warning(
                    "schedules",
                    f"Stored by code that declared them once, and not declared here: {_names(sorted(undeclared))}.",
                    "If no other app declares them: await store.schedules.delete(name).",
                )
            )
        active = sum(state.status == "active" for state in states)
        return found or [ok("schedules", f"{active} active, none overdue.")]

    async def _outcomes(self) -> list[Finding]:
        newest = await self._read(self._storage.inspection.newest_outcomes)
        whole = sum(one.tasks for one in newest)
        failed: Counter[str] = Counter()
        for one in newest:
            failed[one.alias] += one.tasks if one.status is TaskStatus.FAILED else 0
        if not whole:
            return [ok("outcomes", "No task has finished yet.")]
        share = failed.total() / whole
        found = f"Of the newest {whole:,} finished tasks, {share:.0%} have failed"
        if whole < _FEW or share < _MANY_FAILED:
            return [ok("outcomes", f"{found}.")]
        most = _names(f"{alias} ({count:,})" for alias, count in failed.most_common(_SHOWN) if count)
        return [warning("outcomes", f"{found}: {most}.", "aiotaskstore ls --status failed, then: show ID")]


def _judged_schedule(state: ScheduleState) -> Iterator[Finding]:
    if state.error:
        yield warning(
            "schedules",
            f'The schedule "{state.name}" is {state.status} after an error: {state.error}',
            f"Correct it, then: aiotaskstore schedules resume {state.name}",
        )
    late = (state.now - state.next_run_at).total_seconds() if state.next_run_at else 0
    if state.status == "active" and late > _OVERDUE:
        yield problem(
            "schedules",
            f'The schedule "{state.name}" is overdue by {written(late)}: no dispatcher has made its task.',
            "Start a worker with scheduler=True, the default, that has its code.",
        )


async def _slots(declared: Declared) -> list[Finding]:
    found = f"The queues in code have {declared.slots} slots, and pool_size is {declared.pool_size}"
    if declared.slots <= declared.pool_size:
        return [ok("slots", f"{found}.")]
    return [
        ok(
            "slots",
            f"{found}: at most {declared.pool_size} runs at a time have a context.transaction() open, others wait.",
            "If handlers wait for transactions, raise pool_size.",
        )
    ]


# ── numbers and names ─────────────────────────────────────────────────────────────────────────────────────────


def _by_queue(backlog: Iterable[Backlog]) -> Mapping[str, list[Backlog]]:
    """Group what could run without an operator; what runs already, or is paused itself, waits for nobody."""
    groups: defaultdict[str, list[Backlog]] = defaultdict(list)
    for one in backlog:
        if one.status not in {TaskStatus.RUNNING, TaskStatus.PAUSED}:
            groups[one.queue].append(one)
    return groups


def _unfinished(backlog: Iterable[Backlog]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for one in backlog:
        if one.status is not TaskStatus.RUNNING:
            counts[one.alias] += one.tasks
    return counts


def _total(backlog: Iterable[Backlog]) -> int:
    return sum(one.tasks for one in backlog)


def _oldest(groups: Sequence[Backlog]) -> str:
    oldest = min(one.oldest_due for one in groups if one.oldest_due is not None)
    return f"{written((groups[0].now - oldest).total_seconds())} ago"


def _tasks(count: int) -> str:
    return f"{count:,} task{'' if count == 1 else 's'}"


def _names(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
