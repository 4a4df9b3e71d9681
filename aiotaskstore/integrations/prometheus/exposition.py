"""The text that Prometheus scrapes: of this process, or of several that count in files of one folder."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

CONTENT_TYPE: str = CONTENT_TYPE_LATEST
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder to a process; set it before prometheus_client is imported there."""
_ENDED = "ended"


def process_text(registry: CollectorRegistry = REGISTRY) -> bytes:
    """Return the metrics of this process."""
    return generate_latest(registry)


class ProcessFolder:
    """The folder in which several processes count, by prometheus_client's multiprocess mode.

    What an ended process has counted stays in the sums, so that no counter goes back when a process is started anew;
    its gauges disappear. The counts of all ended processes share a file for each kind, however many have ended.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def text(self) -> bytes:
        """Return the metrics of all processes together; callable from any thread."""
        registry = CollectorRegistry()
        collector: Any = MultiProcessCollector
        with self._lock:
            collector(registry, str(self._path))
            return generate_latest(registry)

    def ended(self, pid: int) -> None:
        """Keep what the process has counted, without its gauges."""
        with self._lock:
            dead: Any = mark_process_dead
            dead(pid, str(self._path))
            for kind in ("counter", "histogram", "summary"):
                one = self._path / f"{kind}_{pid}.db"
                if one.exists():
                    _add(one, self._path / f"{kind}_{_ENDED}.db")
                    one.unlink()


def _add(file: Path, to: Path) -> None:
    """Add each value of a file to that of the same key in another one."""
    files: Any = MmapedDict
    sums = files(str(to))
    try:
        for key, value, _, _ in files.read_all_values_from_file(str(file)):
            before, _ = sums.read_value(key)
            sums.write_value(key, before + value, 0.0)
    finally:
        sums.close()
