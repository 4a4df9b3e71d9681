"""For the tests of applications: a store on a database of its own, a clock that moves when told, assertions.

Nothing of this needs pytest; its plugin is `aiotaskstore.testing.pytest_plugin`.
"""

from aiotaskstore.testing.drain_report import DrainReport
from aiotaskstore.testing.expectation import ExpectedOptions
from aiotaskstore.testing.performance import Performed
from aiotaskstore.testing.relocation import KEEP
from aiotaskstore.testing.tester import TaskStoreTester

__all__ = ["KEEP", "DrainReport", "ExpectedOptions", "Performed", "TaskStoreTester"]
