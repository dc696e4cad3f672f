"""Log records as JSON lines with five fields; decides the format and never raises, knows nothing of who logs."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from smw._kernel.process import ForkLock
from smw.monitor.masking import mask, mask_text, short
from smw.monitor.spans import current_ids

__all__ = ["JsonFormatter", "JsonHandler", "install"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "component"}


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON line: ``timestamp``, ``level``, ``component``, ``message``, ``metadata``.

    The timestamp is UTC with milliseconds. The component is the logger's name, or the record's extra
    ``component``. Other extras go to ``metadata``, and so do an exception, its traceback, and ``trace_id`` and
    ``span_id`` while a span is current. Values under secret names are masked. It never raises.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a line end."""
        try:
            return self._line(record)
        except Exception as error:  # noqa: BLE001 - logging must not fail who logs
            fields = {
                "timestamp": _timestamp(record.created),
                "level": record.levelname,
                "component": record.name,
                "message": "a log record could not be formatted",
                "metadata": {"exception": type(error).__name__},
            }
            return json.dumps(fields)

    def _line(self, record: logging.LogRecord) -> str:
        fields = {
            "timestamp": _timestamp(record.created),
            "level": record.levelname,
            "component": mask(getattr(record, "component", record.name)),
            "message": _message(record),
            "metadata": self._metadata(record),
        }
        text = json.dumps(fields, ensure_ascii=False, allow_nan=False)
        # Pure ASCII, because standard error may have any encoding; half of a surrogate pair is replaced.
        return text if text.isascii() else json.dumps(json.loads(text.encode("utf-8", "replace")))

    def _metadata(self, record: logging.LogRecord) -> dict[str, Any]:
        metadata: dict[str, Any] = {}
        ids = current_ids()
        if ids is not None:
            metadata["trace_id"], metadata["span_id"] = ids
        for name, value in record.__dict__.items():
            if name not in _STANDARD:
                metadata[name] = mask(value, name=name)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            metadata["exception"] = type(error).__qualname__
            metadata["traceback"] = _traceback(self, record)
        return metadata


def _timestamp(created: float) -> str:
    return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    try:
        return mask_text(record.getMessage())
    except Exception:  # noqa: BLE001 - arguments that do not fit the format must not lose the record
        return short(record.msg)


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    try:
        return mask_text(formatter.formatException(record.exc_info)) if record.exc_info else ""
    except Exception:  # noqa: BLE001 - the error's own text may fail
        return ""


class JsonHandler(logging.StreamHandler[TextIO]):
    """Writes records of smw as JSON lines to standard error, whatever that is at the moment of writing."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(JsonFormatter())
        self.users = 0

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """Standard error as it stands now."""
        return sys.stderr


_lock = ForkLock()


def install() -> Any:
    """Add the JSON handler to the logger ``smw``; several monitors share one, so no line comes twice.

    Returns:
        The function that takes it away again, once the last monitor has called its own.
    """
    logger = logging.getLogger("smw")
    with _lock:
        handler = next((h for h in logger.handlers if isinstance(h, JsonHandler)), None)
        if handler is None:
            handler = JsonHandler()
            logger.addHandler(handler)
        handler.users += 1
    installed = handler

    def remove() -> None:
        with _lock:
            installed.users -= 1
            if installed.users == 0:
                logger.removeHandler(installed)

    return remove
