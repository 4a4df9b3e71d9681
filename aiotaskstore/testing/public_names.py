"""The public names, as `aiotaskstore.testing` exports them."""

from aiotaskstore.testing.drain_report import DrainReport
from aiotaskstore.testing.expectation import ExpectedOptions
from aiotaskstore.testing.performance import Performed
from aiotaskstore.testing.relocation import KEEP
from aiotaskstore.testing.tester import TaskStoreTester

__all__ = ["KEEP", "DrainReport", "ExpectedOptions", "Performed", "TaskStoreTester"]
