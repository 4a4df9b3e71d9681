"""Engines that the project installed for itself, below its own checkout."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".cache"


@contextlib.contextmanager
def filling(name: str) -> Iterator[Path]:
    """Give an empty directory, which takes its place in the cache when the block ends well: never half full."""
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=f"{name}-") as temporary:
        folder = Path(temporary) / name
        folder.mkdir()
        yield folder
        try:
            folder.rename(CACHE / name)
        except OSError:
            if not (CACHE / name).is_dir():  # where it is, another run was faster
                raise
