"""Private, throw-away database servers for the tests.

A server has a temporary directory, a port on 127.0.0.1 and processes of its own::

    with PostgreSQL() as server:
        print(server.version, server.url)
        server.kill()  # as a crash would: every process at once, the data stay
        server.restart()  # on the same port and the same data

Durability stays as each engine ships it (``fsync`` on). Nothing outlives the process that
started it: a watcher stops the server and removes its directory however that process ends.

An engine that the machine lacks is installed into ``.cache`` of this checkout, of which git takes no notice.
"""

from tests.servers.errors import EngineMissingError, ServerError
from tests.servers.mariadb import MariaDB
from tests.servers.mysql import MySQL
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgresql import PostgreSQL, PostgreSQL14
from tests.servers.server import Server

__all__ = ["EngineMissingError", "MariaDB", "MySQL", "PgBouncer", "PostgreSQL", "PostgreSQL14", "Server", "ServerError"]
