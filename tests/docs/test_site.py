"""The documentation is one site: every page is in its navigation, and no link in it leads nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urldefrag

import pytest

from tests.docs.test_documents import load

ROOT = Path(__file__).parents[2]


class Page(HTMLParser):
    """What a page of the site links to, what it loads, and what in it can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.anchors: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag links to, loads, or is."""
        found = {name: value for name, value in attrs if value}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.add(found["href"])
        if tag in {"script", "img", "link"} and found.get("rel") not in {"canonical", "edit"}:
            self.loaded |= {found[name] for name in ("src", "href") if name in found}


@pytest.fixture(name="builder")
def loaded_builder() -> ModuleType:
    return load(ROOT / "docs" / "site" / "build.py")


def inside(page: Path, links: set[str]) -> Iterator[tuple[Path, str]]:
    """Give the file and the anchor of each link that stays within the site."""
    for link in links:
        target, anchor = urldefrag(link)
        if "://" not in target and not target.startswith("mailto:"):
            yield (page.parent / unquote(target)).resolve() if target else page, unquote(anchor)


def test_the_site_is_whole_and_nothing_in_it_leads_nowhere(builder: ModuleType, tmp_path: Path):
    """One test, since the site is built for it."""
    site = tmp_path.resolve() / "site"
    builder.build(site)
    pages = {file: Page(file.read_text("utf-8")) for file in site.rglob("*.html") if file.name != "404.html"}
    assert len(pages) > 60
    assert leading_nowhere(pages) == []
    assert {one for page in pages.values() for one in page.loaded if "//" in one} == set(), "asks another server"
    in_navigation = {target for target, _ in inside(site / "index.html", pages[site / "index.html"].links)}
    assert sorted(str(page.relative_to(site)) for page in pages.keys() - in_navigation) == []

    index = (site / "search.json").read_text("utf-8")
    assert [word for word in ("serialization key", "SQLAlchemy", "guide/transactions.html") if word not in index] == []

    overview = (site / "llms.txt").read_text("utf-8")
    named = {line.rpartition("(")[2].rstrip(")") for line in overview.splitlines() if line.startswith("- ")}
    assert named == {page.relative_to(site).as_posix() for page in site.rglob("*.md")}
    assert "- [Transactions](guide/transactions.md)" in overview


def leading_nowhere(pages: dict[Path, Page]) -> list[str]:
    """Return the links to pages, headings and files that are not there."""
    links = [
        f"{page.name}: {target.name}#{anchor}"
        for page, one in pages.items()
        for target, anchor in inside(page, one.links)
        if not (target.is_dir() or (anchor in pages[target].anchors if target in pages else target.exists()))
    ]
    return sorted(links) + [
        f"{page.name}: {target.name}"
        for page, one in pages.items()
        for target, _ in inside(page, one.loaded)
        if not target.exists()
    ]


@pytest.mark.parametrize("link", ["tasks.md#no-such-heading", "glossary.md"])
def test_a_link_that_leads_nowhere_ends_the_build(
    builder: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, link: str
):
    settings = '[project]\nsite_name = "x"\nsite_description = "y"\nnav = [\n  { "A" = ["index.md", "*.md"] },\n]\n'
    (tmp_path / "zensical.toml").write_text(settings, "utf-8")
    for name, text in {"index.md": f"# Index\n\n[link]({link})\n", "tasks.md": "# Tasks\n"}.items():
        (tmp_path / "docs" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "docs" / name).write_text(text, "utf-8")
    monkeypatch.setattr(builder, "PAGES", tmp_path / "docs")
    monkeypatch.setattr(builder, "SETTINGS", tmp_path / "zensical.toml")
    monkeypatch.setattr(builder, "ELSEWHERE", ())
    with pytest.raises(builder.SiteError, match="does not exist"):
        builder.build(tmp_path / "site")
    assert not (tmp_path / "site").exists()
