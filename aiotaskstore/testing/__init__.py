"""For the tests of applications: a store on a database of its own, a clock that moves when told, assertions.

Nothing of this needs pytest; its plugin is `aiotaskstore.testing.pytest_plugin`. The names are imported on demand, so
that a test run that loads the plugin and uses nothing of it does not pay for them.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiotaskstore.testing.public_names import *  # noqa: F403 - they are listed there
    from aiotaskstore.testing.public_names import __all__ as __all__
else:
    del TYPE_CHECKING

    from aiotaskstore.mechanics.names_on_demand import names_on_demand

    __getattr__, __dir__, __all__ = names_on_demand(
        globals(),
        {
            "drain_report": "DrainReport",
            "expectation": "ExpectedOptions",
            "performance": "Performed",
            "relocation": "KEEP",
            "tester": "TaskStoreTester",
        },
    )
    del names_on_demand
