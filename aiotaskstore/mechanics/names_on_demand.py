"""A package's names, each imported when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

Get = Callable[[str], object]
Names = Callable[[], list[str]]


def names_on_demand(package: dict[str, Any], names_by_module: Mapping[str, str]) -> tuple[Get, Names, list[str]]:
    """Return the `__getattr__`, the `__dir__` and the `__all__` of a package that exports names of its modules.

    `package` is the package's namespace; a name that was asked for is bound in it, so that this runs once for each.
    The modules that define names can be asked for, too. No name may be that of a module in the package: that is what
    it would mean once the module was imported.
    """
    modules = {name: module for module, names in names_by_module.items() for name in names.split()}

    def get(name: str) -> object:
        path = package["__name__"]
        if name in modules:
            found = package[name] = getattr(import_module(f"{path}.{modules[name]}"), name)
            return found
        if name in names_by_module:
            return import_module(f"{path}.{name}")
        raise AttributeError(f"module {path!r} has no attribute {name!r}")

    def names() -> list[str]:
        return sorted({*package, *modules})

    return get, names, sorted(modules)
