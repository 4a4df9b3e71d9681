"""A place to run commands in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import Commands


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Commands]:
    folder = tmp_path / "here"
    folder.mkdir()
    commands = Commands(folder)
    yield commands
    commands.close()
