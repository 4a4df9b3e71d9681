"""No module imports another in a circle, also where only types are imported."""

from __future__ import annotations

import grimp


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("aiotaskstore", exclude_type_checking_imports=False)
    left = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    while free := [module for module, imported in left.items() if not imported & left.keys()]:
        for module in free:
            del left[module]
    assert not left, f"these are in a circle, or import one: {sorted(left)}"
