"""Run a program of arq's without a Redis server: `python arq_on_fakeredis.py program.py`.

arq asks a server for INFO when a worker starts, only to log it; fakeredis has none.
"""

import runpy
import sys
from typing import Any
from unittest.mock import patch

import arq
from fakeredis import FakeAsyncRedis


async def create_pool(*_: Any, **__: Any) -> arq.ArqRedis:
    return arq.ArqRedis(FakeAsyncRedis().connection_pool)


async def log_nothing(*_: Any) -> None:
    pass


with patch("arq.create_pool", create_pool), patch("arq.worker.log_redis_info", log_nothing):
    runpy.run_path(sys.argv[1], run_name="__main__")
