"""Rounds, medians, ratios, and the table they are shown in."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from benchmarks.meter import Measurements

Read = Callable[[Measurements], float]
OURS, RAW = "aiotaskstore", "raw limit"


class Ratio(NamedTuple):
    """A ratio of two contenders, taken round by round."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.median:.2f}"
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


class Aim(NamedTuple):
    """A ratio that is aimed at, and what came out."""

    text: str
    found: float
    met: bool

    def __str__(self) -> str:
        return f"{'met   ' if self.met else 'MISSED'}  {self.text}: {self.found:.3g}"


@dataclass
class Report:
    """One benchmark: what each contender did in each round."""

    title: str
    rounds: dict[str, list[Measurements]] = field(default_factory=dict)
    aims: list[Aim] = field(default_factory=list)

    def add(self, contender: str, measurements: Measurements) -> None:
        """Take the measurements of a round in."""
        self.rounds.setdefault(contender, []).append(measurements)

    def median(self, contender: str, read: Read) -> float:
        """Give the median over the rounds."""
        return statistics.median(map(read, self.rounds[contender]))

    def ratio(self, contender: str, other: str, read: Read = lambda measurements: measurements.rate) -> Ratio:
        """Give contender ÷ other, each round with its own."""
        pairs = zip(self.rounds[contender], self.rounds[other], strict=True)
        ratios = [read(mine) / read(its) for mine, its in pairs]
        return Ratio(statistics.median(ratios), min(ratios), max(ratios))

    def at_least(self, text: str, found: float, limit: float) -> None:
        """Judge an aim."""
        self.aims.append(Aim(f"{text} ≥ {limit:g}", found, found >= limit))

    def at_most(self, text: str, found: float, limit: float) -> None:
        """Judge an aim."""
        self.aims.append(Aim(f"{text} ≤ {limit:g}", found, found <= limit))

    def show(self, columns: dict[str, Callable[[str], str]]) -> None:
        """Print the contenders' medians and the aims."""
        rows = [["", *columns], *([name, *(cell(name) for cell in columns.values())] for name in self.rounds)]
        print(f"\n{self.title}\n\n{table(rows)}")
        if self.aims:
            print("\n" + "\n".join(f"  {aim}" for aim in self.aims), flush=True)

    def plain(self) -> dict[str, Any]:
        """Give everything as JSON can carry it."""
        rounds = {name: [asdict(one) for one in measurements] for name, measurements in self.rounds.items()}
        return {"title": self.title, "rounds": rounds, "aims": [aim._asdict() for aim in self.aims]}


def percentile(samples: Sequence[float], percent: float) -> float:
    """Give the value that so many percent of the samples do not exceed."""
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * percent / 100))]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Align columns: names to the left, measurements to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append("  " + "   ".join(cells))
    return "\n".join(lines)
