"""A bench on each of the three databases."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.storage.bench import Bench, bench_on


@pytest.fixture
async def bench(url: str) -> AsyncIterator[Bench]:
    """An open storage whose clock the test turns."""
    async with bench_on(url) as opened:
        yield opened
