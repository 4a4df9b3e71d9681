"""The pytest plugin, in a user's test suite that a pytest of its own runs."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITE = ROOT / "tests" / "testing" / "suite" / "shop_tests.py"  # a name that our own pytest does not collect
PLUGINS = {"strict": "asyncio", "auto": "asyncio", "anyio": "anyio"}
LOOP = ["-o", "asyncio_default_fixture_loop_scope=function", "-o"]
OPTIONS = {"strict": [*LOOP, "asyncio_mode=strict"], "auto": [*LOOP, "asyncio_mode=auto"], "anyio": []}
MARKS = {"strict": "asyncio", "auto": "filterwarnings", "anyio": "anyio"}


@pytest.fixture(params=["strict", "auto", "anyio"])
def suite(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What pytest says of the suite; under `auto` on a database that an option names."""
    mode = request.param
    options = OPTIONS[mode]
    if mode == "auto":
        options = [*options, f"--tasks-database=sqlite:///{tmp_path / 'shop.db'}"]
    if mode == "anyio":
        options = [*options, "-k", "not trio"]
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-p", PLUGINS[mode], "-p", "aiotaskstore.testing.pytest_plugin",
            "-c", os.devnull, "--rootdir", str(ROOT), "-p", "no:cacheprovider", "-W", "error", *options, str(SUITE),
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "SHOP_MARK": MARKS[mode], "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return done.stdout + done.stderr


def test_a_users_suite_passes_whatever_runs_its_coroutines_and_one_test_fails_for_the_right_reason(suite: str):
    assert "5 passed" in suite, suite
    assert "1 failed" in suite, suite
    assert "FAILED" in suite
    for line in (
        "0 of 1 enqueued tasks match, and one at least should: send_welcome(user_id=42, locale='bg')",
        "- user_id=42",
        "+ user_id=43",
        "  locale='bg'",
        "  option delay=60.0",
    ):
        assert line in suite, suite


def test_the_plugin_imports_nothing_of_the_library_before_a_fixture_is_used():
    program = (
        "import sys, aiotaskstore.testing.pytest_plugin\n"
        "loaded = {name for name in sys.modules if name.startswith('aiotaskstore')}\n"
        "assert loaded <= {'aiotaskstore', 'aiotaskstore.mechanics', 'aiotaskstore.mechanics.names_on_demand',"
        " 'aiotaskstore.testing', 'aiotaskstore.testing.pytest_plugin'}, loaded\n"
        "assert 'pydantic' not in sys.modules and 'anyio' not in sys.modules\n"
        "from aiotaskstore.testing import TaskStoreTester\n"
        "import aiotaskstore\n"
        "assert 'TaskStore' in dir(aiotaskstore) and 'KEEP' in dir(aiotaskstore.testing)\n"
        "assert not hasattr(aiotaskstore, 'Nothing') and aiotaskstore.Task.__name__ == 'Task'\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_pytest_finds_the_plugin_where_the_library_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (module,) = project["entry-points"]["pytest11"].values()
    assert hasattr(import_module(module), "task_tester")
