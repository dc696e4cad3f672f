"""Whether a level that a plug-in serves, or this process itself, answers; knows no protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from smw._kernel.host import Host
from smw.cache.ports import StoreFailedError
from smw.cache.stores.plugged import store_at
from smw.doctor.probe import in_daemon
from smw.doctor.report import Finding
from smw.errors import ConfigError
from smw.settings import masked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["findings"]

_TIMEOUT_S = 2.0


async def findings(name: str, url: str, by: str, *, production: bool) -> AsyncIterator[Finding]:
    """Yield whether the store at a URL answers.

    Args:
        name: Of the level, such as ``cache.l2``.
        url: Of the store.
        by: What holds it.
        production: Whether several processes are to be expected.
    """
    if production and urlsplit(url).scheme == "memory":
        seen = f"{masked(url)} is no server: it is in each process once more, and none hears of another's drops"
        yield Finding(f"{name}.store", "warn", seen, f"name a Redis in {by}, or leave it out")
    try:
        store = store_at(url, Host(), timeout_s=_TIMEOUT_S)
        if store is None:
            yield Finding(f"{name}.store", "fail", f"no plug-in for {masked(url)}", f"install it, or correct {by}")
            return
        await in_daemon(store.probe)
    except ConfigError as error:
        yield Finding(f"{name}.store", "fail", error.what, error.fix or f"correct {by}")
    except StoreFailedError as error:
        seen = f"{masked(url)} does not answer: {error.kind}"
        yield Finding(f"{name}.store", "fail", seen, error.remedy or f"start what is behind it, or correct {by}")
    else:
        yield Finding(f"{name}.store", "ok", f"{store.name} answers")
        await store.aclose()
