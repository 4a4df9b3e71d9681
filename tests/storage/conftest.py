"""A harness on each of the three databases."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.storage.harness import Harness, harness_on


@pytest.fixture
async def harness(url: str) -> AsyncIterator[Harness]:
    """An open storage whose clock the test turns."""
    async with harness_on(url) as opened:
        yield opened
