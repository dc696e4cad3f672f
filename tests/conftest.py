"""What every test may use: the real servers, and the table that counts them."""

from __future__ import annotations

from tests.services.plugin import (
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

__all__ = [
    "memcached_server",
    "pytest_configure",
    "pytest_itemcollected",
    "pytest_runtest_call",
    "pytest_runtest_setup",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "redis_server",
    "service_factory",
]
