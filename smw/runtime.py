"""The life of one smw in a process: settings, clock, bus, four parts opened on first use and closed in order."""

from __future__ import annotations

import logging
import signal
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Self, cast

from smw._kernel import current as _current
from smw._kernel.clock import Clock, Entropy, SystemClock, SystemEntropy
from smw._kernel.ending import at_exit, exit_on
from smw._kernel.host import Host
from smw._kernel.process import ForkLock
from smw._kernel.told import plainly
from smw.configuration import Given, Settings, resolve
from smw.environment import unknown
from smw.errors import ConfigError
from smw.starting import startable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from smw.cache import Cache
    from smw.monitor import Monitor
    from smw.pipeline import Pipeline
    from smw.security import Security

__all__ = ["Runtime", "configure", "current", "install_signal_handlers", "shutdown"]

_log = logging.getLogger("smw.runtime")
# What depends on what: streams use the trail and the cache, everything reports to the monitor.
_CLOSING = ("pipeline", "cache", "security", "monitor")


class Runtime:
    """Settings, clock, bus and the four parts.

    Inside ``with Runtime(...)`` (or ``async with``) it is the current one, which decorated functions use.
    The monitor opens with it, the other parts when they are first needed.

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

    @plainly("Runtime()", 'Runtime("production", cache={"l1_size": 5000})')
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
        self._lock = ForkLock()
        self._resolved: tuple[Settings, Host] | None = None
        self._parts: dict[str, Any] = {}
        self._before: list[_current.Provider | None] = []

    @property
    def settings(self) -> Settings:
        """The settings in force; opens the runtime."""
        return self._open()[0]

    @property
    def host(self) -> Host:
        """What the parts share: clock, randomness, bus and facts."""
        return self._open()[1]

    @property
    def is_open(self) -> bool:
        """Whether settings have been read and it was not closed since."""
        return self._resolved is not None

    @property
    def is_entered(self) -> bool:
        """Whether it runs as a context manager, so that leaving the block closes it."""
        return bool(self._before)

    def open(self) -> Self:
        """Read settings and start what the settings ask for; idempotent, and reopens a closed runtime.

        Raises:
            ConfigError: A setting is wrong.
        """
        self._open()
        return self

    def _open(self) -> tuple[Settings, Host]:
        resolved = self._resolved
        if resolved is not None:
            return resolved
        with self._lock:
            if self._resolved is not None:
                return self._resolved
            settings = resolve(self._profile, service=self._service, parts=self._given, environ=self._environ)
            host = Host(settings.service, settings.profile, self._clock, self._entropy)
            self._resolved = resolved = settings, host
            for name, near in settings.suspicious.items():
                _log.warning("%s", unknown(name, near))
            try:
                self.part("monitor")  # before all others, so that it misses none of their signals
            except BaseException:
                self._resolved = None
                raise
            return resolved

    def prepare(self) -> None:
        """Have ready what the first call would otherwise wait for: the cache's clients, and its warm-up; idempotent.

        With `state_dir` the writes that dead processes have acknowledged are taken over from now on. `configure` does
        so, and the web adapters before their first request. Without servers and `state_dir` there is nothing to
        prepare, and the cache opens with the first call.

        Raises:
            ConfigError: A setting of the cache is wrong.
        """
        cache = self._cache_to_prepare()
        if cache is not None:
            cache.prepare()

    async def aprepare(self) -> None:
        """Prepare as `prepare` does, and connect to the servers, without blocking the event loop; idempotent."""
        from smw._kernel.bridge import on_asyncio

        cache = self._cache_to_prepare()
        if cache is not None and on_asyncio():
            await cache.aprepare()
        elif cache is not None:
            cache.prepare()

    def _cache_to_prepare(self) -> Cache | None:
        settings = self.settings.cache
        is_prepared = settings.l2_host is not None or settings.l3_servers or settings.state_dir is not None
        return self.cache if is_prepared else None

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

            return Monitor(settings, host=self.host).open()
        if name == "security":
            from smw.security import Security

            return Security(settings, host=self.host)
        from smw.pipeline import Pipeline

        return Pipeline(settings, host=self.host, carry=self._carry, restore=self._restore)

    def _carry(self, headers: dict[str, str]) -> None:
        """Let the trace of whoever emits a record travel with it; without a tracer it costs one look."""
        monitor = self.monitor
        if monitor.spans.tracer() is not None:
            monitor.inject(headers)

    def _restore(self, headers: Mapping[str, str]) -> AbstractContextManager[Any]:
        """Open a consumer span around the handling of a record, below the span that emitted it."""
        monitor = self.monitor
        if monitor.spans.tracer() is None:
            return nullcontext()
        return monitor.span("process record", kind="consumer", context=monitor.extract(headers))

    @property
    def cache(self) -> Cache:
        """The cache of this runtime."""
        return cast("Cache", self.part("cache"))

    @property
    def monitor(self) -> Monitor:
        """The monitor of this runtime."""
        return cast("Monitor", self.part("monitor"))

    @property
    def security(self) -> Security:
        """The security of this runtime."""
        return cast("Security", self.part("security"))

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline of this runtime."""
        return cast("Pipeline", self.part("pipeline"))

    def close(self) -> None:
        """Flush and close the parts in dependency order; idempotent. Blocks until done or each part's own bound."""
        for name, part in self._take():
            try:
                part.close()
            except Exception:  # noqa: BLE001 - the other parts must still be flushed
                _log.exception("closing the %s failed", name)

    async def aclose(self) -> None:
        """Flush and close the parts in dependency order without blocking the event loop; idempotent.

        On an event loop other than asyncio's it does block: the clients of the parts know no third way.
        """
        from smw._kernel.bridge import on_asyncio

        if not on_asyncio():
            self.close()
            return
        for name, part in self._take():
            try:
                await part.aclose()
            except Exception:  # noqa: BLE001 - the other parts must still be flushed
                _log.exception("closing the %s failed", name)

    def _take(self) -> list[tuple[str, Any]]:
        with self._lock:
            self._resolved = None
            parts, self._parts = self._parts, {}
        if _current.get() is self:
            _current.use(self)
        return [(name, parts[name]) for name in _CLOSING if name in parts]

    def __enter__(self) -> Self:
        """Open it and make it the current one."""
        self.open()
        self._before.append(_current.use(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Make the one before current again; leaving the outermost block closes this one."""
        _current.use(self._before.pop())
        if not self._before:
            self.close()

    async def __aenter__(self) -> Self:
        """Open it and make it the current one."""
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Make the one before current again; leaving the outermost block closes this one."""
        _current.use(self._before.pop())
        if not self._before:
            await self.aclose()


def current() -> Runtime:
    """Return the current runtime; the first call without `configure` opens one from the environment."""
    return cast("Runtime", _current.default()).open()


@plainly("configure()", 'smw.configure("production", cache={"l1_size": 5000})')
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

    Where servers of the cache are configured it loads their clients, so that no call has to, and functions that are
    decorated by now and are to start warm do so.

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
        MissingExtra: The package behind a setting is not installed. Nothing has changed then either.
    """
    runtime = Runtime(
        profile, service=service, cache=cache, monitor=monitor, security=security, pipeline=pipeline, web=web
    ).open()
    try:
        startable(runtime.settings)
        runtime._cache_to_prepare()  # noqa: SLF001 - a function of the same module
    except BaseException:
        runtime.close()
        raise
    before = _current.use(runtime)
    if isinstance(before, Runtime):
        before.close()
    runtime.prepare()
    return runtime


def shutdown() -> None:
    """Flush and close the current runtime, if there is one; the next decorated call opens a new one.

    Not for a signal handler, which may interrupt what holds a lock: `install_signal_handlers` ends a process by signal.
    """
    before = _current.use(None)
    if isinstance(before, Runtime):
        before.close()


at_exit(shutdown)


def install_signal_handlers(signals: Iterable[int] = (signal.SIGTERM,)) -> None:
    """Let a signal end this process cleanly: as `sys.exit(128 + its number)` does, with `shutdown` as the last step.

    For scripts and workers of one's own, which Python ends by TERM without leaving any block. Servers of web
    applications and workers of task queues have handlers of their own. A handler that is there already goes on to be
    called, and decides; an ignored signal stays ignored. Children forked by `multiprocessing` inherit it.

    Args:
        signals: Which ones.

    Raises:
        ConfigError: Not called in the main thread, or one of them cannot be handled.
    """
    try:
        exit_on(signals)
    except (ValueError, OSError) as error:
        fix = "call it in the main thread, with signals that can be handled, such as SIGTERM"
        raise ConfigError("SMW-K140", "the signals cannot be handled", seen=error, fix=fix) from error
