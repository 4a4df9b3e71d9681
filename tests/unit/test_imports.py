"""No module imports another in a circle; importing the package is quick, and loads only what is needed then."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from math import inf
from pathlib import Path

import grimp
import pytest

REQUIRED = {
    "aiotaskstore", "annotated_types", "anyio", "croniter", "dateutil", "idna", "pydantic", "pydantic_core", "six",
    "sniffio", "typing_extensions", "typing_inspection", "tzdata", "uuid_utils",
}  # fmt: skip
"""What every installation has, and what that needs in turn. No driver is among it, and no framework."""
FOR_AN_OPEN_STORE = {
    "aiotaskstore.dispatch.instance", "aiotaskstore.manage.managers", "aiotaskstore.manage.open_store",
    "aiotaskstore.storage.connect", "aiotaskstore.storage.database", "aiotaskstore.storage.migrations",
    "aiotaskstore.storage.tasks",
}  # fmt: skip
"""Modules that stand for all that a store needs only once it is opened."""
FOR_SCHEDULES = {"croniter", "dateutil"}
LIKE_PYDANTIC = {
    "import aiotaskstore": "import pydantic",
    "from aiotaskstore import TaskStore": "from pydantic import BaseModel, TypeAdapter",
}
"""Each of our imports, with pydantic's of the same kind."""
TIMES = 2.5
"""How many times as long as pydantic's each may take: it needs pydantic itself, and asyncio, half as much again."""
PACKAGES = ("aiotaskstore", "aiotaskstore.testing")


def run(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("aiotaskstore", exclude_type_checking_imports=False)
    left = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    while free := [module for module, imported in left.items() if not imported & left.keys()]:
        for module in free:
            del left[module]
    assert not left, f"these are in a circle, or import one: {sorted(left)}"


def test_importing_the_store_loads_only_what_every_installation_has_and_what_a_closed_store_needs() -> None:
    modules = set(
        json.loads(
            run(
                "import json, sys; before = set(sys.modules); from aiotaskstore import TaskStore; "
                "print(json.dumps([*sys.modules.keys() - before]))"
            )
        )
    )
    loaded = {name.partition(".")[0] for name in modules}
    optional = {name for name in loaded - sys.stdlib_module_names - REQUIRED if not name.startswith("_sysconfigdata")}
    assert optional == set()
    assert modules & (FOR_AN_OPEN_STORE | FOR_SCHEDULES) == set()
    assert all(find_spec(name) for name in FOR_AN_OPEN_STORE)


def test_importing_takes_no_longer_than_a_small_multiple_of_what_pydantic_takes(tmp_path: Path) -> None:
    """CPU time, so that neighbours on the machine matter little; the shortest of several, each in a new process."""
    environment = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
    best = dict.fromkeys([*LIKE_PYDANTIC.keys(), *LIKE_PYDANTIC.values()], inf)
    for statement in best:
        run(statement, **environment)  # compiles
    for turn in range(15):
        for statement, shortest in best.items():
            clocked = f"from time import process_time as now; began = now(); {statement}; print(now() - began)"
            best[statement] = min(shortest, float(run(clocked, **environment)))
        slow = {ours: best[ours] / best[theirs] for ours, theirs in LIKE_PYDANTIC.items()}
        slow = {ours: times for ours, times in slow.items() if times > TIMES}
        if turn >= 4 and not slow:
            break
    assert slow == {}, best


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_exports_on_demand_what_type_checkers_see(package: str) -> None:
    exporting, listed = import_module(package), import_module(f"{package}.public_names")
    assert exporting.__all__ == sorted(listed.__all__)
    assert {name for name in listed.__all__ if getattr(exporting, name) is not getattr(listed, name)} == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_no_public_name_is_that_of_a_module(package: str) -> None:
    """It would mean the module, once anybody had imported that."""
    assert [name for name in import_module(package).__all__ if find_spec(f"{package}.{name}")] == []


def test_a_name_is_all_that_its_first_use_imports() -> None:
    program = (
        "import aiotaskstore, pickle, sys\n"
        "assert 'TaskStore' in dir(aiotaskstore) and 'TaskStore' in aiotaskstore.__all__\n"
        "assert aiotaskstore.errors.TaskNotFoundError is aiotaskstore.TaskNotFoundError\n"
        "assert vars(aiotaskstore)['TaskNotFoundError'] is aiotaskstore.TaskNotFoundError\n"
        "assert not hasattr(aiotaskstore, 'Nothing') and not hasattr(aiotaskstore, '__wrapped__')\n"
        "assert pickle.loads(bytes.fromhex(PICKLED)) is aiotaskstore.Queue\n"
        "assert not {'pydantic', 'asyncio'} & sys.modules.keys(), 'more was imported than these names need'\n"
    )
    run(program.replace("PICKLED", repr(pickle.dumps(import_module("aiotaskstore").Queue).hex())))


def test_the_first_use_may_be_in_several_threads_at_once() -> None:
    run(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "import threading, aiotaskstore\n"
        "ready = threading.Barrier(4)\n"
        "def use(_):\n"
        "    ready.wait(60)\n"
        "    store = aiotaskstore.TaskStore('sqlite://')\n"
        "    draft = store.draft('any', {'n': 1}, unchecked=True)\n"
        "    return aiotaskstore.TaskStore, store.tasks is store.tasks, draft.payload\n"
        "with ThreadPoolExecutor(4) as pool:\n"
        "    (found,) = set(pool.map(use, range(4)))\n"
        "assert found[1:] == (True, '{\"n\":1}'), found\n"
    )
