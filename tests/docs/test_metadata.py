"""What the package says of itself where it is installed from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_metadata_has_links():
    assert {"Homepage", "Documentation", "Source", "Changelog"} <= PROJECT["urls"].keys()
    assert all(url.startswith("https://") for url in PROJECT["urls"].values())


FRAMEWORKS = {"fastapi", "starlette", "litestar", "aiohttp"}
"""An application has one of these, so `all` has none."""


IMPORTED_AS = {"python-json-logger": "pythonjsonlogger", "opentelemetry-api": "opentelemetry"}
"""Packages whose modules have another name."""


def test_every_extra_does_something():
    """An extra brings a package that the library imports; `sqlite` names what every installation has.

    What `migrating` brings is imported by the programs of `docs/examples/migrating/` alone.
    """
    extras = {name for name in PROJECT["optional-dependencies"] if name not in {"all", "dev", "migrating", "sqlite"}}
    code = "\n".join(file.read_text("utf-8") for file in (ROOT / "aiotaskstore").rglob("*.py"))
    for name in extras:
        for package in PROJECT["optional-dependencies"][name]:
            module = re.split(r"[\[>=<;]", package)[0]
            module = IMPORTED_AS.get(module, module.replace("-", "_"))
            assert re.search(rf"^\s*(import|from) {module}\b", code, re.MULTILINE), (
                f"{name}: {module} is imported nowhere"
            )
    assert PROJECT["optional-dependencies"]["all"] == [f"aiotaskstore[{','.join([*_in_order(extras - FRAMEWORKS)])}]"]


def _in_order(extras: set[str]) -> list[str]:
    return [name for name in PROJECT["optional-dependencies"] if name in extras | {"sqlite"}]


def test_the_readme_installs_only_what_can_be_installed():
    named = {extra for text in re.findall(r"aiotaskstore\[([\w,]+)\]", README) for extra in text.split(",")}
    assert {"postgres", "mysql"} <= named <= PROJECT["optional-dependencies"].keys()
    assert re.search(r"^pip install aiotaskstore$|^pip install aiotaskstore\s", README, re.MULTILINE)


def test_the_first_lines_promise_only_what_there_is():
    import aiotaskstore

    introduction = README.partition("##")[0]
    assert ("schedul" in introduction) == hasattr(aiotaskstore, "Schedule")
    assert "SQLAlchemy" not in introduction
