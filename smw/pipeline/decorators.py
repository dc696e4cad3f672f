"""The two decorators: they check a function and register it under a name; calling the function stays calling it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from smw._kernel.chain import Advice, advise
from smw._kernel.told import plainly
from smw.errors import ConfigError, DecorationError
from smw.pipeline.deadletter import SUFFIX
from smw.pipeline.registry import SHARED, Job, Kind, Registry, check_name
from smw.pipeline.retry import Retry
from smw.pipeline.shape import Shape

if TYPE_CHECKING:
    from smw._kernel.call import Target
    from smw.pipeline.ports import Stream

__all__ = ["batch_transform", "register", "stream_process"]

F = TypeVar("F", bound=Callable[..., Any])


class Registration(Advice):
    """Registers the finished function; adds nothing to its calls."""

    kind: ClassVar[Kind]
    example: ClassVar[str]

    def __init__(self, registry: Registry, job_name: str, **options: Any) -> None:
        self._registry = registry
        self._job_name = check_name(job_name, f'@pipeline.{self.name}("{self.example}")')
        self._options = options
        self._shape: Shape | None = None

    def check(self, target: Target) -> None:
        """Refuse functions that cannot take a record."""
        self._shape = Shape(target, self.name, many_unless_said=self.kind == "batch", has_context=self.kind == "stream")

    def decorated(self, fn: Any) -> None:
        """Register the function with everything that stands below."""
        if self._shape is not None:
            self._registry.add(Job(self._job_name, self.kind, fn, self._shape, **self._options))

    def bind(self, target: Target) -> None:  # noqa: ARG002 - the chain asks every advice
        """Add nothing to a call."""
        return


class StreamProcess(Registration):
    """What ``@stream_process`` adds to a function: a name."""

    name = "stream_process"
    kind = "stream"
    example = "user_events"

    def describe(self) -> str:
        """Return one line for ``smw.explain``."""
        fate = f"dead letters to {self._job_name}{SUFFIX}" if self._options["dead_letter"] else "stops when it gives up"
        return f"@stream_process({self._job_name!r}): {self._options['retry'].times} retries, {fate}"


class BatchTransform(Registration):
    """What ``@batch_transform`` adds to a function: a name."""

    name = "batch_transform"
    kind = "batch"
    example = "playlist_analytics"

    def describe(self) -> str:
        """Return one line for ``smw.explain``."""
        return f"@batch_transform({self._job_name!r})"


def register(advice: Registration) -> Callable[[F], F]:
    """Return the decorator of an advice; class methods are refused, since no stream knows their class."""
    decorate = advise(advice)

    def decorator(fn: F, /) -> F:
        given: object = fn
        if isinstance(given, classmethod):
            message = f"@{advice.name} was put on a class method"
            raise DecorationError("SMW-P104", message, fix="use a static method or a plain function")
        return decorate(fn)

    return decorator


def stream_advice(
    registry: Registry, name: str, source: Any, group: str | None, retry: Any, *, dead_letter: Any
) -> StreamProcess:
    """Check the options of ``stream_process`` and return its advice."""
    if retry is not None and not isinstance(retry, Retry):
        message = f"retry= of the stream {name!r} must be a pipeline.Retry"
        raise ConfigError("SMW-P103", message, seen=repr(retry), fix="retry=pipeline.Retry(times=5)")
    if not isinstance(dead_letter, bool):
        message = f"dead_letter= of the stream {name!r} must be True or False"
        raise ConfigError("SMW-P103", message, seen=repr(dead_letter), fix="dead_letter=True")
    return StreamProcess(registry, name, source=source, group=group, retry=retry or Retry(), dead_letter=dead_letter)


def batch_advice(registry: Registry, name: str, batch_size: Any) -> BatchTransform:
    """Check the options of ``batch_transform`` and return its advice."""
    if batch_size is not None and (isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1):
        message = f"batch_size= of the batch job {name!r} must be a whole number of at least 1"
        raise ConfigError("SMW-P108", message, seen=repr(batch_size), fix="batch_size=1000")
    return BatchTransform(registry, name, batch_size=batch_size)


@plainly("@stream_process", '@stream_process("user_events")')
def stream_process(
    name: str,
    *,
    source: str | Stream | None = None,
    group: str | None = None,
    retry: Retry | None = None,
    dead_letter: bool = True,
) -> Callable[[F], F]:
    """Make a function the handler of a stream; the function itself stays what it is.

    Nothing runs until ``pipeline.serve(name)`` or ``pipeline.run_over(name, records)``. Each record is handled at
    least once; records of one key in order, different keys at the same time. The annotation of the first parameter
    says what the function takes: a dict, a pydantic model, a dataclass, bytes, or a list of one of those for
    several records a call. A parameter named ``ctx`` gets a `RecordContext`.

    Args:
        name: Name of the stream.
        source: ``"memory"``, ``"redis"``, a Redis URL, ``"kafka"``, or a `Stream`; None: what the settings say.
        group: Readers of one group share the records; None takes the name of the service.
        retry: When a failed record is tried again; None is `Retry()`: six attempts in about half a minute.
        dead_letter: Move a record that is given up to ``<name>.dlq``. False stops the worker with an error instead.

    Raises:
        DecorationError: The function cannot take a record, or another one has the name.
        ConfigError: An option makes no sense.
    """
    return register(stream_advice(SHARED, name, source, group, retry, dead_letter=dead_letter))


@plainly("@batch_transform", '@batch_transform("playlist_analytics")')
def batch_transform(name: str, *, batch_size: int | None = None) -> Callable[[F], F]:
    """Make a function a batch job; the function itself stays what it is.

    ``pipeline.run(name, source=, to=)`` calls it with `batch_size` rows at a time, or row by row when its first
    parameter is annotated as one record. What it returns are the rows of the result.

    Args:
        name: Name of the job.
        batch_size: Rows a call; None takes the setting ``batch_size``.

    Raises:
        DecorationError: The function cannot take rows, or another one has the name.
        ConfigError: `batch_size` makes no sense.
    """
    return register(batch_advice(SHARED, name, batch_size))
