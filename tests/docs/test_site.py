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


@pytest.fixture(scope="module", name="builder")
def loaded_builder() -> ModuleType:
    return load(ROOT / "docs" / "site" / "build.py")


@pytest.fixture(scope="module", name="site")
def built(builder: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("site") / "built"
    builder.build(folder)
    return folder


@pytest.fixture(scope="module", name="pages")
def parsed(site: Path) -> dict[Path, Page]:
    pages = {file: Page(file.read_text("utf-8")) for file in site.rglob("*.html") if file.name != "404.html"}
    assert len(pages) > 40
    return pages


def inside(page: Path, links: set[str]) -> Iterator[tuple[Path, str]]:
    """Give the file and the anchor of each link that stays within the site."""
    for link in links:
        target, anchor = urldefrag(link)
        if "://" not in target and not target.startswith("mailto:"):
            yield (page.parent / unquote(target)).resolve() if target else page, unquote(anchor)


def test_every_link_leads_to_a_page_and_every_anchor_to_a_heading(pages: dict[Path, Page]):
    wrong = [
        f"{page.name}: {target.name}#{anchor}"
        for page, one in pages.items()
        for target, anchor in inside(page, one.links)
        if not (target.is_dir() or (anchor in pages[target].anchors if target in pages else target.exists()))
    ]
    assert sorted(wrong) == []


def test_every_page_is_in_the_navigation(pages: dict[Path, Page], site: Path):
    linked = {target for target, _ in inside(site / "index.html", pages[site / "index.html"].links)}
    assert sorted(str(page.relative_to(site)) for page in pages.keys() - linked) == []


def test_no_page_loads_anything_from_another_server(pages: dict[Path, Page]):
    assert {one for page in pages.values() for one in page.loaded if "//" in one} == set()


def test_what_is_loaded_is_there(pages: dict[Path, Page]):
    wrong = {
        target.name for page, one in pages.items() for target, _ in inside(page, one.loaded) if not target.exists()
    }
    assert wrong == set()


def test_the_search_finds_words_of_the_pages(site: Path):
    index = (site / "search.json").read_text("utf-8")
    for word in ("serialization key", "SQLAlchemy", "heartbeat", "guide/transactions.html"):
        assert word in index


def test_language_models_are_given_every_page(site: Path):
    overview = (site / "llms.txt").read_text("utf-8")
    named = {line.rpartition("(")[2].rstrip(")") for line in overview.splitlines() if line.startswith("- ")}
    assert named == {page.relative_to(site).as_posix() for page in site.rglob("*.md")}
    assert "- [Transactions](guide/transactions.md)" in overview


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
