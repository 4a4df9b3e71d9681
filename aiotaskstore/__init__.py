"""An asyncio-native, durable task queue that lives in the database you already have.

The public names stand in `public_names.py`. They are imported when the first of them is asked for, so that what only
passes by, such as a test run that loads the pytest plugin, does not pay for the whole library.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiotaskstore.public_names import *  # noqa: F403 - they are listed there
    from aiotaskstore.public_names import __all__ as __all__
else:
    del TYPE_CHECKING

    from aiotaskstore.mechanics.names_on_demand import names_on_demand

    __getattr__, __dir__ = names_on_demand("aiotaskstore.public_names", globals())
    del names_on_demand
