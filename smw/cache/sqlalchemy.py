"""Finds the transaction of a SQLAlchemy session around a call, sync or async; knows no cache."""

from __future__ import annotations

import sys
import weakref
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from smw._kernel.call import Target
    from smw.cache.coherence.commit import WaitingDrop

__all__ = ["transactions"]

_ASYNC = "sqlalchemy.ext.asyncio"
_MOST_WITHIN = 32


class _Followed:
    """What waits for the commit of one session."""

    def __init__(self, session: Session) -> None:
        self.commits = 0
        self.waiting: list[Callable[[], None]] = []
        event.listen(session, "after_commit", self._committed)
        event.listen(session, "after_transaction_end", self._ended)

    def _committed(self, session: Session) -> None:
        if session.in_nested_transaction():
            return  # a savepoint was released; the transaction goes on
        self.commits += 1
        waiting, self.waiting = self.waiting, []
        for drop in waiting:
            drop()

    def _ended(self, _session: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is None:  # whatever still waits was rolled back
            self.waiting = []


_followed: weakref.WeakKeyDictionary[Session, _Followed] = weakref.WeakKeyDictionary()


def _follow(session: Session) -> _Followed:
    found = _followed.get(session)
    if found is None:
        found = _followed[session] = _Followed(session)
    return found


def _session_of(value: Any) -> Session | None:
    """Return the session that `value` is or stands for."""
    if isinstance(value, scoped_session):
        value = value()
    if _ASYNC in sys.modules:
        from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session

        if isinstance(value, async_scoped_session):
            value = value()
        if isinstance(value, AsyncSession):
            value = value.sync_session
    return value if isinstance(value, Session) else None


def _within(arguments: Mapping[str, object], instance_name: str) -> Iterator[object]:
    """Yield the arguments, what the small tuples and mappings among them hold, and the attributes of the instance.

    Of its properties, which are code of its class, those that are called after a session.
    """
    for value in arguments.values():
        yield value
        if isinstance(value, tuple | dict) and len(value) <= _MOST_WITHIN:  # as `*args` and `**kwargs` are
            yield from value.values() if isinstance(value, dict) else value
    instance = arguments.get(instance_name)
    yield from getattr(instance, "__dict__", {}).values()
    for owner in type(instance).__mro__:
        for name, member in tuple(vars(owner).items()):
            if isinstance(member, property | cached_property) and "session" in name.lower():
                with suppress(Exception):  # the call may never ask for it
                    yield getattr(instance, name)
        slots = owner.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            is_private = name.startswith("__") and not name.endswith("__")
            yield getattr(instance, f"_{owner.__name__.lstrip('_')}{name}" if is_private else name, None)


class Transactions:
    """A hook for `smw.cache.on_commit` that knows the sessions of SQLAlchemy.

    Args:
        source: A session, a scoped session, or a function that returns the session of the moment; None looks for
            sessions among the arguments of the call, ``*args`` and ``**kwargs`` included, and among the attributes of
            the instance that it is called on.
        instance: The parameter that takes that instance.
    """

    def __init__(self, source: Any = None, *, instance: str = "self") -> None:
        self._source = source
        self._instance = instance

    def _sessions(self, arguments: Mapping[str, object]) -> Iterator[Session]:
        if self._source is not None:
            source = self._source
            known = _session_of(source)
            found = _session_of(source()) if known is None and callable(source) else known
            if found is not None:
                yield found
            return
        for value in _within(arguments, self._instance):
            session = _session_of(value)
            if session is not None:
                yield session

    def commits(self, arguments: Mapping[str, object]) -> int | None:
        """Return how often its sessions were committed since they are followed, or None where there is no session."""
        counts = [_follow(session).commits for session in self._sessions(arguments)]
        return sum(counts) if counts else None

    def __call__(self, drop: WaitingDrop) -> bool:
        """Have `drop` called when a session that is in a transaction commits it; False where none is."""
        open_ones = [session for session in self._sessions(drop.arguments) if session.in_transaction()]
        for session in open_ones:
            _follow(session).waiting.append(drop)
        return bool(open_ones)


def transactions(session: Any = None) -> Transactions:
    """Return a hook for `smw.cache.on_commit` that follows a session which is no argument of the function.

    Args:
        session: A ``Session``, ``AsyncSession``, ``scoped_session`` (that of Flask-SQLAlchemy is one),
            ``async_scoped_session``, or a function without arguments that returns one, or None where there is none.
    """
    return Transactions(session)


def among_arguments(target: Target) -> Transactions:
    """Return the hook that needs no registration: sessions among the arguments of a function, or on its instance."""
    owner = target.qualname.rpartition(".")[0]
    in_class = bool(owner) and not owner.endswith("<locals>")
    return Transactions(instance=target.parameters[0] if in_class and target.parameters else "self")
