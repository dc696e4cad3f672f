"""Ties the streams of the runtime to the life of the application; does nothing around a single exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from smw.web.source import PolicySource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smw.runtime import Runtime

__all__ = ["PipelineSource"]


class PipelineSource(PolicySource):
    """Opens the pipeline with the application; it is flushed and closed with the runtime."""

    name: ClassVar[str] = "pipeline"
    rank: ClassVar[int] = 30
    takes: ClassVar[Mapping[str, str]] = {}

    def bind(self, runtime: Runtime) -> None:
        """Return None: an exchange passes untouched."""
