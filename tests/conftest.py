"""What every test may use: the real servers, the table that counts them, and examples that do not race a clock."""

from __future__ import annotations

import gc
import os

from hypothesis import settings

from tests.services.plugin import (
    kafka_server,
    memcached_server,
    pytest_configure,
    pytest_itemcollected,
    pytest_runtest_call,
    pytest_runtest_setup,
    pytest_sessionfinish,
    pytest_terminal_summary,
    redis_server,
    service_factory,
)
from tests.services.topologies import one_cluster, redis_cluster, redis_sentinel, redis_tls

# Machines are slow at times, so an example has no deadline; CI draws the same examples every time.
settings.register_profile("smw", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True)
settings.load_profile("smw")

__all__ = [
    "kafka_server",
    "memcached_server",
    "one_cluster",
    "pytest_configure",
    "pytest_itemcollected",
    "pytest_runtest_call",
    "pytest_runtest_setup",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "redis_cluster",
    "redis_sentinel",
    "redis_server",
    "redis_tls",
    "service_factory",
]


def pytest_collection_finish() -> None:
    """Keep what was imported and collected from being looked through by every collection of garbage from now on."""
    gc.collect()
    gc.freeze()
