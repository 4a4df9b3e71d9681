"""`--app`: what is not a TaskStore gets a sentence that says what it is, where it went wrong and what to write."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from aiotaskstore.cli.app import commands
from tests.cli.command import Answer, Commands

SHOP = """
import functools
from aiotaskstore import TaskRouter, TaskStore

class FastAPI:
    async def __call__(self, scope, receive, send): ...

app = FastAPI()
store = TaskStore("sqlite:///shop.db")
router = TaskRouter()
name = "shop"

@store.task
async def ship(order_id: int) -> None:
    "Ship an order."

def make(): return store
def make_for(url, *, prefix="x"): return TaskStore(url, prefix=prefix)
async def make_later(): return store
def make_coroutine(): return make_later()
def make_nothing(): pass
def make_badly(): raise RuntimeError("no settings")
class Settings: ...
made_partly = functools.partial(make_for, "sqlite:///shop.db")
"""
POOLED = """
from aiotaskstore import TaskStore

class Pool:
    def acquire(self): ...
    def __getattr__(self, name): return lambda *_: 10

Pool.__module__ = "asyncpg.pool"
store = TaskStore(Pool())

@store.task
async def t() -> None: ...
"""
"""Like a real pool, which may not be made outside an event loop on every Python."""
MODULES = {
    "shop.py": SHOP,
    "divides.py": "def ratio():\n    return 1 / 0\n\nstore = ratio()\n",
    "misses.py": "import not_installed_anywhere\n",
    "misspells.py": "from aiotaskstore import TaskStor\n",
    "breaks.py": "def broken(:\n    pass\n",
    "leaves.py": "import sys\nsys.exit('set SHOP_URL first')\n",
    "asks.py": "import os\nurl = os.environ['SHOP_URL_THAT_NOBODY_SET']\n",
    "bad_url.py": "from aiotaskstore import TaskStore\nstore = TaskStore('oracle://x')\n",
    "pooled.py": POOLED,
    "package/__init__.py": "",
    "package/tasks.py": SHOP,
}  # fmt: skip

SENTENCES = {
    "shop:app": ['"shop:app" is a FastAPI', "--app shop:store"],
    "shop:router": ['"shop:router" is a TaskRouter', "--app shop:store"],
    "shop:name": ['"shop:name" is a str', "--app shop:store"],
    "shop:Settings": ['"shop:Settings" is the class Settings', "--app shop:store"],
    "shop:make_for": ["make_for(url, *, prefix='x')", "without arguments"],
    "shop:make_later": ["make_later", "async function", "without async"],
    "shop:make_coroutine": ["make_coroutine", "coroutine"],
    "shop:make_nothing": ["make_nothing() returned None"],
    "shop:make_badly": ["make_badly", "RuntimeError: no settings", "shop.py:22"],
    "shop:stor": ['no "stor"', 'Did you mean "store"?'],
    "shop:something_else": ['no "something_else"', "--app shop:store"],
    "shop:store.tusks": ['no "store.tusks"'],
    "divides:store": ["ZeroDivisionError: division by zero", "divides.py:2", "return 1 / 0"],
    "misses:store": ["No module named 'not_installed_anywhere'", "misses.py:1"],
    "misspells:store": ["cannot import name 'TaskStor'", "misspells.py:1"],
    "breaks:store": ["SyntaxError", "breaks.py:1"],
    "leaves:store": ["set SHOP_URL first", "sys.exit"],
    "asks:store": ["KeyError: 'SHOP_URL_THAT_NOBODY_SET'", "asks.py:2"],
    "bad_url:store": ['"oracle://"', "bad_url.py:2"],
    "shop": ["module:attribute", "--app shop:store"],
    "shp:store": ['no module "shp"', 'Did you mean "shop"?'],
    "shop.py:store": ["--app shop:store"],
    "package/tasks.py:store": ["--app package.tasks:store"],
    "./shop:store": ["--app shop:store"],
    "package.nothing:store": ['no module "package.nothing"'],
    ":store": ["module:attribute"],
    "shop:": ["module:attribute"],
    "sh op:store": ["module:attribute"],
}  # fmt: skip
"""What `--app` was given, and what the sentence must hold."""


def write(folder: Path) -> None:
    for name, text in MODULES.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder to run in, with the modules; what is imported from it is forgotten."""
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize(("given", "words"), SENTENCES.items(), ids=SENTENCES)
def test_what_is_no_store_is_told_in_a_sentence(here: Path, given: str, words: list[str]):
    answer = CliRunner().invoke(commands, ["list", f"--app={given}"])
    told = " ".join(answer.stderr.split())
    assert (answer.exit_code, answer.stdout) == (2, ""), answer.output
    assert [word for word in words if word not in told] == [], told
    assert len(answer.stderr.splitlines()) <= 2, answer.stderr


@pytest.mark.parametrize("given", ["shop:app", "shop:make_later", "divides:store", "leaves:store"])
async def test_the_sentence_is_all_there_is(cli: Commands, given: str):
    write(cli.folder)
    answer = await cli.run("worker", f"--app={given}")
    assert (answer.code, answer.out, len(answer.err.splitlines())) == (2, "", 1), answer
    assert answer.err.startswith("Error: ")


async def test_a_store_and_a_function_that_makes_one_are_taken(cli: Commands):
    write(cli.folder)
    answers: list[Answer] = []
    for given in ("shop:store", "shop:make", "package.tasks:store"):
        answers.append(await cli.done("list", f"--app={given}"))
    assert [answer.out.splitlines()[1].split()[1] for answer in answers] == ["ship", "ship", "ship"]
    partial = await cli.done("list", "--app=shop:made_partly")
    assert "shop:made_partly has no tasks" in partial.err


@pytest.mark.parametrize("command", ["worker", "ls", "stats", "migrate", "migrate --check", "enqueue t"])
def test_a_store_on_the_applications_pool_says_what_to_name_instead(here: Path, command: str):
    answer = CliRunner().invoke(commands, [*command.split(), "--app=pooled:store"])
    assert (answer.exit_code, answer.stdout) == (2, ""), answer.output
    assert "on a pool of its own (asyncpg.pool.Pool)" in answer.stderr
    assert "--url" in answer.stderr
    assert CliRunner().invoke(commands, ["list", "--app=pooled:store"]).exit_code == 0
