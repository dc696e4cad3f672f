"""Prometheus's side: a registry over the readings, both exposition formats, the own listener; keeps no figures."""

from __future__ import annotations

import contextlib
import itertools
import logging
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from smw.monitor.cells import Reading, merge

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator

    from smw.monitor.instruments import Instrument

__all__ = ["Listener", "expose", "registry_of"]

_log = logging.getLogger("smw.monitor")
_STOP_S = 2.0


class _Readings(Collector):
    """Turns readings into Prometheus's metric families at scrape time.

    Args:
        read: Yields the readings.
    """

    def __init__(self, read: Callable[[], Iterable[Reading]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Yield one family per metric; one that cannot be exposed is left out and logged."""
        for reading in merge(self._read()):
            try:
                yield _family(reading)
            except Exception:  # noqa: BLE001 - a scrape shows what can be had
                _log.exception("the metric %r cannot be exposed", reading.instrument.name)


def _family(reading: Reading) -> Metric:
    instrument = reading.instrument
    name = instrument.name.removesuffix("_total") if instrument.kind == "counter" else instrument.name
    family = Metric(name, instrument.help, instrument.kind)
    for labels, figures in reading.rows:
        pairs = dict(labels)
        if instrument.kind == "counter":
            family.add_sample(f"{name}_total", pairs, figures[0])
        elif instrument.kind == "gauge":
            family.add_sample(name, pairs, figures[0])
        elif instrument.kind == "summary":
            family.add_sample(f"{name}_count", pairs, figures[0])
            family.add_sample(f"{name}_sum", pairs, figures[1])
        else:
            _add_buckets(family, instrument, pairs, figures)
    return family


def _add_buckets(family: Metric, instrument: Instrument, labels: dict[str, str], figures: list[float]) -> None:
    bounds = [*map(floatToGoString, instrument.buckets), "+Inf"]
    counts = list(itertools.accumulate(figures[: len(bounds)]))
    for bound, count in zip(bounds, counts, strict=True):
        family.add_sample(f"{family.name}_bucket", {**labels, "le": bound}, count)
    family.add_sample(f"{family.name}_count", labels, counts[-1])
    family.add_sample(f"{family.name}_sum", labels, figures[-1])


def registry_of(read: Callable[[], Iterable[Reading]]) -> CollectorRegistry:
    """Return a registry that shows what `read` yields, and whatever else is registered with it."""
    registry = CollectorRegistry()
    registry.register(_Readings(read))
    return registry


def expose(registry: CollectorRegistry, accept: str) -> tuple[str, bytes]:
    """Return content type and text of a registry in the format that `accept` asks for."""
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)


class Listener:
    """An HTTP server for scrapers, in a thread of its own.

    Args:
        registry: What it shows.
        host: Address it listens on.
        port: Port it listens on.
    """

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        self._server: Any = None
        self._thread: threading.Thread | None = None
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            message = "no metrics listener on %s:%d (%s); the application's own metrics endpoint is not affected"
            _log.warning(message, host, port, error.strerror or error)

    def close(self) -> None:
        """Stop listening and free the port; idempotent."""
        server, self._server = self._server, None
        if server is not None and self._thread is not None:
            server.shutdown()
            server.server_close()
            self._thread.join(_STOP_S)

    def after_fork(self) -> None:
        """Let go of the parent's socket in a forked child: its thread exists in the parent alone."""
        server, self._server = self._server, None
        if server is not None:
            with contextlib.suppress(OSError):
                server.socket.close()
