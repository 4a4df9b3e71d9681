"""How long a finished task is kept, and with how much of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Literal

from aiotaskstore.errors import ConfigurationError
from aiotaskstore.mechanics.duration import Duration, seconds

Keep = Literal["all", "failed", "none"]
_CHOICES = ("all", "failed", "none")


@dataclass(frozen=True, slots=True)
class Retention:
    """What stays after a task has finished.

    `keep` chooses the rows that stay, `payload` the rows whose payload stays; "failed" means every finish
    but `succeeded`. `period` is how long a row stays; `None` is for ever.
    """

    keep: Keep = "all"
    period: Duration | None = timedelta(days=7)
    payload: Keep = "all"

    def __post_init__(self) -> None:
        for name, value in (("keep", self.keep), ("payload", self.payload)):
            if value not in _CHOICES:
                raise ConfigurationError(f'Retention {name} must be "all", "failed" or "none", not {value!r:.100}.')
        if self.period is not None:
            object.__setattr__(self, "period", timedelta(seconds=seconds(self.period, "Retention period")))

    @property
    def period_seconds(self) -> float | None:
        """The period in seconds, or `None` for ever."""
        return self.period.total_seconds() if isinstance(self.period, timedelta) else self.period

    def keeps_row(self, *, succeeded: bool) -> bool:
        """Return whether a row with this finish stays."""
        return self.keep == "all" or (self.keep == "failed" and not succeeded)

    def keeps_payload(self, *, succeeded: bool) -> bool:
        """Return whether the payload of a row with this finish stays."""
        return self.payload == "all" or (self.payload == "failed" and not succeeded)

    def dump(self) -> str | None:
        """Return the text stored in rows; the library's default is stored as NULL."""
        if self == DEFAULT:
            return None
        return json.dumps([self.keep, self.period_seconds, self.payload])

    @staticmethod
    def load(text: str | None) -> Retention:
        """Read what `dump` wrote."""
        return DEFAULT if text is None else _load(text)


def check_retention(value: object) -> Retention:
    """Return `value` if it is a Retention."""
    if not isinstance(value, Retention):
        raise ConfigurationError(
            f'retention must be a Retention, such as Retention(keep="failed"), not {value!r:.100}.'
        )
    return value


@lru_cache(maxsize=256)
def _load(text: str) -> Retention:
    keep, period, payload = json.loads(text)
    return Retention(keep, period, payload)


DEFAULT = Retention()
