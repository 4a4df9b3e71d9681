"""No module imports another in a circle, and importing the package loads no optional one."""

from __future__ import annotations

import json
import subprocess
import sys

import grimp

REQUIRED = {
    "aiotaskstore", "annotated_types", "anyio", "croniter", "dateutil", "idna", "pydantic", "pydantic_core", "six",
    "sniffio", "typing_extensions", "typing_inspection", "tzdata", "uuid_utils",
}  # fmt: skip
"""What every installation has, and what that needs in turn. No driver is among it, and no framework."""


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("aiotaskstore", exclude_type_checking_imports=False)
    left = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    while free := [module for module, imported in left.items() if not imported & left.keys()]:
        for module in free:
            del left[module]
    assert not left, f"these are in a circle, or import one: {sorted(left)}"


def test_importing_the_package_loads_only_what_every_installation_has() -> None:
    program = (
        "import json, sys; before = set(sys.modules); from aiotaskstore import TaskStore; "
        "print(json.dumps([*sys.modules.keys() - before]))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    loaded = {name.partition(".")[0] for name in json.loads(told)}
    optional = {name for name in loaded - sys.stdlib_module_names - REQUIRED if not name.startswith("_sysconfigdata")}
    assert optional == set()
