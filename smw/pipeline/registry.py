"""Which function serves which name; runs nothing."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from smw._kernel.chain import Stack, stack_of
from smw.errors import ConfigError, DecorationError, nearest
from smw.pipeline.retry import Retry

if TYPE_CHECKING:
    from smw.pipeline.shape import Shape

__all__ = ["SHARED", "Job", "Registry", "check_name"]

Kind = Literal["stream", "batch"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")
_DECORATOR = {"stream": "stream_process", "batch": "batch_transform"}


@dataclass(frozen=True, slots=True)
class Job:
    """One registered function.

    Args:
        name: The stream's or batch job's name.
        kind: What it was registered as.
        fn: The decorated function.
        shape: How it takes its records.
        source: Where its records come from; None follows the settings.
        group: Group of readers it belongs to; None follows the service's name.
        retry: When a failed record is tried again.
        dead_letter: Whether a record that is given up goes to the dead letters; otherwise the worker stops.
        batch_size: Records a call, for functions that take many; None follows the settings.
    """

    name: str
    kind: Kind
    fn: Any
    shape: Shape
    source: Any = None
    group: str | None = None
    retry: Retry = field(default_factory=Retry)
    dead_letter: bool = True
    batch_size: int | None = None

    @property
    def place(self) -> str:
        """Name, file and line of the function, for messages."""
        target = self.shape.target
        code = getattr(target.fn, "__code__", None)
        return target.name if code is None else f"{target.name} ({code.co_filename}:{code.co_firstlineno})"


def check_name(name: Any, fix: str = 'pipeline.emit("user_events", ...)') -> str:
    """Return `name` if a stream or job can have it; `fix` shows one where the name stands.

    Raises:
        ConfigError: It cannot.
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise ConfigError(
        "SMW-P102",
        "the name of a stream or batch job is letters, digits, and . _ : - after the first one, at most 200",
        seen=repr(name),
        fix=fix,
    )


class Registry:
    """The jobs of one owner: the module-level decorators together, or one `Pipeline`."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def add(self, job: Job) -> None:
        """Register a job; the same function again (a reloaded module) takes the place of its older self.

        Raises:
            DecorationError: Another function has the name; names both places.
        """
        with self._lock:
            known = self._jobs.get(job.name)
            if known is not None and (known.kind, _identity(known)) != (job.kind, _identity(job)):
                raise DecorationError(
                    "SMW-P101",
                    f"{job.name!r} already belongs to {known.place}; {job.place} cannot have it too",
                    fix="give one of them another name",
                )
            self._jobs[job.name] = job

    def get(self, name: str) -> Job | None:
        """Return the job of that name, or None."""
        return self._jobs.get(name)

    def names(self, kind: Kind | None = None) -> list[str]:
        """Return the registered names, of one kind or all."""
        return sorted(name for name, job in list(self._jobs.items()) if kind in (None, job.kind))


def unknown(name: str, kind: Kind, names: list[str]) -> ConfigError:
    """Return the error for a name that nobody registered."""
    decorator = _DECORATOR[kind]
    known = ", ".join(names[:10]) or "none"
    return ConfigError(
        "SMW-P107",
        f"no function is registered for the {kind} {name!r}.{nearest(name, names)} Registered: {known}",
        fix=f'import the module that has @pipeline.{decorator}("{name}")',
    )


def _identity(job: Job) -> str:
    stack: Stack | None = stack_of(job.fn)
    return (stack.target if stack is not None else job.shape.target).name


SHARED = Registry()
"""What the decorators of the package register in; every `Pipeline` serves these besides its own."""
