"""Makes the tasks of schedules: by the same preparation as any enqueue."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, cast

from aiotaskstore.definition import Draft
from aiotaskstore.errors import PayloadFunctionError
from aiotaskstore.manage.ambient_transaction import AmbientTransaction
from aiotaskstore.manage.drafting import draft_by_alias
from aiotaskstore.manage.preparing import Preparing
from aiotaskstore.mechanics.text import printable
from aiotaskstore.options import TaskOptions
from aiotaskstore.payload_function import call_payload_function
from aiotaskstore.prepared_task import PreparedTask
from aiotaskstore.registry import Registry
from aiotaskstore.schedule import load_schedule_options
from aiotaskstore.schedule_registry import ScheduleRegistry
from aiotaskstore.storage.schedule_rows import ScheduleRow


class ScheduleTasks:
    """Makes prepared tasks of a schedule's occurrences, with the defaults of its definition and its queue."""

    def __init__(
        self, registry: Registry, schedules: ScheduleRegistry, preparing: Preparing, *, payload_limit: int
    ) -> None:
        self._registry, self._schedules, self._preparing = registry, schedules, preparing
        self._payload_limit = payload_limit

    async def prepare(
        self,
        row: ScheduleRow,
        occurrence: datetime,
        name: str | None = None,
        joined: AmbientTransaction | None = None,
    ) -> PreparedTask | None:
        """Make the task of an occurrence; `None` where its payload function skips it.

        With a `name` it is no occurrence that was planned, and the task is due as soon as it is stored.

        Raises `UnknownAliasError` and `DefinitionInactiveError` as an enqueue does, and `PayloadFunctionError`.
        """
        options = load_schedule_options(row.options)
        external_id = f"schedule:{row.id}:{name or occurrence.isoformat()}"
        options = {"source": f"schedule:{row.id}", **options, "external_id": external_id}
        if name is None and "delay" not in options:
            options["run_at"] = occurrence
        if row.queue is not None:
            options["queue"] = row.queue
        draft = await self._draft(row, occurrence, options)
        return None if draft is None else await self._preparing.prepare(draft, joined)

    async def _draft(self, row: ScheduleRow, occurrence: datetime, options: dict[str, Any]) -> Draft[Any] | None:
        if row.payload is not None:
            definition = self._registry.get(row.alias)
            if definition is None:
                return Draft(row.alias, row.payload, options)
            if definition.defaults.functions:
                options = definition.keyed(options, (), json.loads(row.payload))
            return Draft(definition.alias, row.payload, options, definition)
        function = self._schedules.payload_function(row.name)
        if function is None:
            return None
        try:
            payload = await call_payload_function(function, row.name, occurrence, self._schedules.calls)
            if payload is None:
                return None
            return draft_by_alias(
                self._registry,
                row.alias,
                payload,
                cast(TaskOptions, options),
                unchecked=False,
                payload_limit=self._payload_limit,
            )
        except Exception as error:
            raise PayloadFunctionError(
                f'The payload function of the schedule "{row.name}" made nothing that can be stored: '
                f"{type(error).__name__}: {printable(error)}"
            ) from error
