"""The life of one smw in a process: settings, clock, bus, four parts opened on first use and closed in order."""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from smw._kernel import current as _current
from smw._kernel.clock import Clock, Entropy, SystemClock, SystemEntropy
from smw._kernel.host import Host
from smw.configuration import Given, Settings, resolve

if TYPE_CHECKING:
    from smw.cache import Cache
    from smw.monitor import Monitor
    from smw.pipeline import Pipeline
    from smw.security import Security

__all__ = ["Runtime", "configure", "current", "shutdown"]

_log = logging.getLogger("smw.runtime")
# What depends on what: streams use the trail and the cache, everything reports to the monitor.
_CLOSING = ("pipeline", "cache", "security", "monitor")


class Runtime:
    """Settings, clock, bus and the four parts.

    Inside ``with Runtime(...)`` (or ``async with``) it is the current one, which decorated functions use.
    The parts open when they are first needed.

    Args:
        profile: ``development``, ``testing`` or ``production``; None takes ``SMW_PROFILE``, else development.
        service: Name of the service in keys, metrics and spans.
        cache: Settings of the cache, as a mapping or `CacheSettings`.
        monitor: Settings of the monitor.
        security: Settings of security.
        pipeline: Settings of the pipeline.
        web: Settings of the web adapter.
        clock: Where time comes from; tests pass a fake one.
        entropy: Where randomness comes from.
        environ: Environment to read instead of the process's own.

    Raises:
        ConfigError: On opening, when a setting is wrong.
    """

    def __init__(
        self,
        profile: str | None = None,
        *,
        service: str | None = None,
        cache: Given = None,
        monitor: Given = None,
        security: Given = None,
        pipeline: Given = None,
        web: Given = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._given: dict[str, Any] = {
            "cache": cache, "monitor": monitor, "security": security, "pipeline": pipeline, "web": web,
        }  # fmt: skip
        self._profile = profile
        self._service = service
        self._environ = environ
        self._clock = clock or SystemClock()
        self._entropy = entropy or SystemEntropy()
        self._lock = threading.RLock()
        self._settings: Settings | None = None
        self._host: Host | None = None
        self._parts: dict[str, Any] = {}
        self._before: _current.Provider | None = None
        self._closed = False

    @property
    def settings(self) -> Settings:
        """The settings in force; opens the runtime."""
        self.open()
        assert self._settings is not None
        return self._settings

    @property
    def host(self) -> Host:
        """What the parts share: clock, randomness, bus and facts."""
        self.open()
        assert self._host is not None
        return self._host

    @property
    def is_open(self) -> bool:
        """Whether settings have been read and not been closed since."""
        return self._settings is not None and not self._closed

    def open(self) -> Self:
        """Read settings and start what the settings ask for; idempotent, and reopens a closed runtime.

        Raises:
            ConfigError: A setting is wrong.
        """
        with self._lock:
            if self.is_open:
                return self
            settings = resolve(self._profile, service=self._service, parts=self._given, environ=self._environ)
            self._settings = settings
            self._host = Host(settings.service, settings.profile, self._clock, self._entropy)
            self._closed = False
            for name, near in settings.suspicious.items():
                _log.warning("environment variable %s is not known to smw; did you mean %s?", name, near)
            monitor = settings.monitor
            if monitor.prometheus_port or monitor.jaeger_endpoint or monitor.logs != "off":
                self.part("monitor")
        return self

    def part(self, name: str) -> Any:
        """Return a part by name: ``cache``, ``monitor``, ``security`` or ``pipeline``; builds it on first use."""
        part = self._parts.get(name)
        if part is not None:
            return part
        with self._lock:
            if name not in self._parts:
                self._parts[name] = self._build(name)
            return self._parts[name]

    def _build(self, name: str) -> Any:
        settings = getattr(self.settings, name)
        if name == "cache":
            from smw.cache import Cache

            return Cache(settings, host=self.host)
        if name == "monitor":
            from smw.monitor import Monitor

            return Monitor(settings, host=self.host)
        if name == "security":
            from smw.security import Security

            return Security(settings, host=self.host)
        from smw.pipeline import Pipeline

        return Pipeline(settings, host=self.host)

    @property
    def cache(self) -> Cache:
        """The cache of this runtime."""
        return self.part("cache")  # type: ignore[no-any-return]

    @property
    def monitor(self) -> Monitor:
        """The monitor of this runtime."""
        return self.part("monitor")  # type: ignore[no-any-return]

    @property
    def security(self) -> Security:
        """The security of this runtime."""
        return self.part("security")  # type: ignore[no-any-return]

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline of this runtime."""
        return self.part("pipeline")  # type: ignore[no-any-return]

    def close(self) -> None:
        """Flush and close the parts in dependency order; idempotent. Blocks until done or each part's own bound."""
        for name, part in self._take():
            try:
                part.close()
            except Exception:
                _log.exception("closing the %s failed", name)

    async def aclose(self) -> None:
        """Flush and close the parts in dependency order without blocking the event loop; idempotent."""
        for name, part in self._take():
            try:
                await part.aclose()
            except Exception:
                _log.exception("closing the %s failed", name)

    def _take(self) -> list[tuple[str, Any]]:
        with self._lock:
            self._closed = True
            parts, self._parts = self._parts, {}
        if _current.get() is self:
            _current.use(self)
        return [(name, parts[name]) for name in _CLOSING if name in parts]

    def __enter__(self) -> Self:
        """Open it and make it the current one."""
        self.open()
        self._before = _current.use(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Make the one before current again and close this one."""
        _current.use(self._before)
        self.close()

    async def __aenter__(self) -> Self:
        """Open it and make it the current one."""
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Make the one before current again and close this one."""
        _current.use(self._before)
        await self.aclose()


def current() -> Runtime:
    """Return the current runtime; the first call without `configure` opens one from the environment."""
    runtime = _current.default()
    assert isinstance(runtime, Runtime)
    return runtime.open()


def configure(
    profile: str | None = None,
    *,
    service: str | None = None,
    cache: Given = None,
    monitor: Given = None,
    security: Given = None,
    pipeline: Given = None,
    web: Given = None,
) -> Runtime:
    """Configure smw for this process; functions decorated before and after use it from their next call on.

    Args:
        profile: ``development``, ``testing`` or ``production``; None takes ``SMW_PROFILE``, else development.
        service: Name of the service in keys, metrics and spans.
        cache: Settings of the cache, as a mapping or `CacheSettings`; likewise the other parts.
        monitor: Settings of the monitor.
        security: Settings of security.
        pipeline: Settings of the pipeline.
        web: Settings of the web adapter.

    Returns:
        The runtime, open and current. The one that was current before is closed.

    Raises:
        ConfigError: A setting is wrong; names it, and the nearest valid one. Nothing has changed then.
    """
    runtime = Runtime(
        profile, service=service, cache=cache, monitor=monitor, security=security, pipeline=pipeline, web=web
    ).open()
    before = _current.use(runtime)
    if isinstance(before, Runtime):
        before.close()
    return runtime


def shutdown() -> None:
    """Flush and close the current runtime, if there is one; the next decorated call opens a new one."""
    before = _current.use(None)
    if isinstance(before, Runtime):
        before.close()


atexit.register(shutdown)
