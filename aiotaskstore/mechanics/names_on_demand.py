"""A package's names, imported when the first of them is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def names_on_demand(module: str, package: dict[str, Any]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a package that exports the names that `module` has in `__all__`.

    `package` is the package's namespace, into which all of them go at once. None may be called as a module in it is:
    that is what the name would mean once the module was imported.
    """

    def get(name: str) -> object:
        if name == "__all__" or not (name.startswith("__") or find_spec(f"{package['__name__']}.{name}")):
            exporting = import_module(module)
            package.update({one: getattr(exporting, one) for one in ("__all__", *exporting.__all__)})
            if name in package:
                return package[name]
        raise AttributeError(f"module {package['__name__']!r} has no attribute {name!r}")

    def names() -> list[str]:
        get("__all__")
        return sorted(package)

    return get, names
