"""Asks servers over HTTP, each time over a connection of its own, so that any worker may take it.

httpx reads the certificates of all authorities for each such question, 40 ms of a processor; here they are read once.
"""

from __future__ import annotations

import ssl
from functools import partial

import httpx

__all__ = ["get", "head", "post", "stream"]

_AUTHORITIES = ssl.create_default_context()

get = partial(httpx.get, verify=_AUTHORITIES, timeout=30)
head = partial(httpx.head, verify=_AUTHORITIES, timeout=30)
post = partial(httpx.post, verify=_AUTHORITIES, timeout=30)
stream = partial(httpx.stream, verify=_AUTHORITIES, timeout=30)
