"""Says how each server is named, started and greeted; starts nothing itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.services import kafka


@dataclass(frozen=True, slots=True)
class Spec:
    """One kind of server."""

    name: str
    program: str
    packages: tuple[str, ...]  # Debian's names of it
    parts: tuple[str, ...]  # Debian packages that must be unpacked here even when they are installed on the machine
    arguments: Callable[[int, Path], list[str]]
    hello: bytes
    greeting: bytes
    url: str
    erase: bytes = b""
    where: str = "usr/bin"  # the folder of the program in its package
    complete: Callable[..., str] | None = None  # brings what no package has; returns why it cannot
    prepare: Callable[..., None] | None = None  # runs before each start
    ready_s: float = 15.0


def _redis(port: int, home: Path) -> list[str]:
    return ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(home), "--daemonize", "no"]


def _memcached(port: int, _home: Path) -> list[str]:
    user = ["-u", "nobody"] if os.geteuid() == 0 else []  # it refuses to run as root
    return ["-l", "127.0.0.1", "-p", str(port), "-U", "0", *user]


SPECS = {
    spec.name: spec
    for spec in (
        Spec(
            name="redis",
            program="redis-server",
            packages=("redis-server",),
            parts=("redis-server", "redis-tools"),
            arguments=_redis,
            hello=b"PING\r\n",
            greeting=b"+PONG",
            erase=b"FLUSHALL\r\n",
            url="redis://{host}:{port}/0",
        ),
        Spec(
            name="memcached",
            program="memcached",
            packages=("memcached",),
            parts=("memcached",),
            arguments=_memcached,
            hello=b"version\r\n",
            greeting=b"VERSION",
            erase=b"flush_all\r\n",
            url="memcached://{host}:{port}",
        ),
        Spec(
            name="kafka",
            program="java",
            packages=("openjdk-17-jre-headless", "maven"),
            parts=("openjdk-17-jre-headless", "maven", r"lib\S+-java"),
            arguments=kafka.arguments,
            hello=kafka.HELLO,
            greeting=kafka.GREETING,
            url="{host}:{port}",
            where="usr/lib/jvm/*/bin",
            complete=kafka.complete,
            prepare=kafka.prepare,
            ready_s=60.0,
        ),
    )
}
