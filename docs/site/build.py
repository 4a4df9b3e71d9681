"""Builds the documentation site: `python docs/site/build.py [FOLDER]`, by default into `.cache/site`.

Zensical takes pages only from beneath its configuration, and writes only there. So the pages are put together in a
temporary folder, and what becomes of them is moved to where it belongs: nothing is written among the sources.
A link to a page or to a heading that does not exist ends the build.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs"
SETTINGS = Path(__file__).with_name("zensical.toml")
ELSEWHERE = (ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md")
"""Pages of the site that do not stand in docs/."""
SHOWN = ("*.md", "*.css")
"""What is taken from docs/."""


def build(folder: Path) -> None:
    """Write the site into a folder, which is emptied first; raise `SiteError` if anything is wrong with a page."""
    with tempfile.TemporaryDirectory(prefix="aiotaskstore-site-") as name:
        workshop = Path(name)
        gather(workshop / "docs")
        settings = navigated(SETTINGS.read_text("utf-8"), workshop / "docs")
        (workshop / "zensical.toml").write_text(settings, "utf-8")
        make(workshop)
        (workshop / "site" / "llms.txt").write_text(overview(settings, workshop / "docs"), "utf-8")
        for page in (workshop / "docs").rglob("*.md"):
            shutil.copy(page, workshop / "site" / page.relative_to(workshop / "docs"))
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(workshop / "site", folder)


def gather(folder: Path) -> None:
    """Put every page of the site into a folder, its links as the site has them."""
    places = {file: file.relative_to(PAGES).as_posix() for pattern in SHOWN for file in sorted(PAGES.rglob(pattern))}
    places |= {file: file.relative_to(ROOT).as_posix() for file in ELSEWHERE}
    for file, place in places.items():

        def link(match: re.Match[str], file: Path = file, place: str = place) -> str:
            target = places.get((file.parent / match[1]).resolve())
            return match[0] if target is None else f"]({os.path.relpath(target, Path(place).parent)}"

        copy = folder / place
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(re.sub(r"\]\(([^)#:\s]+)", link, file.read_text("utf-8")), "utf-8")


def navigated(settings: str, folder: Path) -> str:
    """Return the settings with each pattern of the navigation replaced by the pages that no other entry names."""
    navigation = tomllib.loads(settings)["project"]["nav"]
    named = set(places(navigation))

    def written(entry: Any) -> str:
        if isinstance(entry, dict):
            return ", ".join(f"{{ {json.dumps(name)} = {written(one)} }}" for name, one in entry.items())
        if isinstance(entry, list):
            return f"[{', '.join(filter(None, map(written, entry)))}]"
        found = (
            [entry] if "*" not in entry else sorted(one.relative_to(folder).as_posix() for one in folder.glob(entry))
        )
        return ", ".join(json.dumps(page) for page in found if page == entry or page not in named)

    return re.sub(
        r"^nav = \[\n.*?^\]\n", lambda _: f"nav = {written(navigation)}\n", settings, flags=re.DOTALL | re.MULTILINE
    )


def make(workshop: Path) -> None:
    """Have Zensical build the site, and every one of its warnings end the build."""
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=workshop,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)
        raise SiteError(f"The site could not be built; Zensical says:\n{said.partition('Traceback')[0] or said}")


def overview(settings: str, folder: Path) -> str:
    """Return the site's pages with their titles, as language models are given them (llmstxt.org)."""
    project = tomllib.loads(settings)["project"]
    lines = [f"# {project['site_name']}", "", f"> {project['site_description']}"]
    for section in project["nav"]:
        for name, entries in section.items():
            lines += ["", f"## {name}", "", *(f"- [{title(folder / page)}]({page})" for page in places(entries))]
    return "\n".join(lines) + "\n"


def places(entries: Any) -> Iterator[str]:
    """Yield the pages under an entry of the navigation."""
    for entry in entries:
        for one in entry.values() if isinstance(entry, dict) else [entry]:
            yield from [one] if isinstance(one, str) else places(one)


def title(page: Path) -> str:
    """Return a page's first heading."""
    return page.read_text("utf-8").partition("\n")[0].lstrip("# ")


class SiteError(Exception):
    """The site cannot be built from the pages as they are."""


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".cache" / "site")
    except SiteError as error:
        sys.exit(str(error))
