"""A worker process: `python -m tests.crash.worker '{"url": …, "journal": …, "store": {…}, "dispatcher": {…}}'`.

Tells on its output what happens, a line each: started, finished, retried, lost, rescued, trouble, stopped.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from aiotaskstore import TaskStore
from aiotaskstore.events import BackgroundFailed, ClaimLost, DispatcherStarted, TaskFinished, TaskRescued, TaskRetried
from tests.crash.handlers import handlers
from tests.crash.journal import Journal
from tests.helpers import answered_within


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def main() -> None:
    given = json.loads(sys.argv[1])
    answered_within(given.get("deadline"))
    store = TaskStore(given["url"], **given.get("store", {}))
    journal = Journal(Path(given["journal"]))
    if given.get("notes_pauses"):
        journal.note_pauses()
    store.include(handlers(journal))
    store.on(DispatcherStarted, lambda event: say("started", event.dispatcher_id, event.waking))
    store.on(TaskFinished, lambda event: say("finished", event.task_id, event.status, event.reason))
    store.on(TaskRetried, lambda event: say("retried", event.task_id, event.reason))
    store.on(ClaimLost, lambda event: say("lost", event.task_id))
    store.on(TaskRescued, lambda event: say("rescued", event.task_id, event.status))
    store.on(BackgroundFailed, lambda event: say("trouble", event.loop, type(event.error).__name__))
    drained = asyncio.run(store.run(**given.get("dispatcher", {})))
    say("stopped", "drained" if drained else "gave-back")


if __name__ == "__main__":
    main()
