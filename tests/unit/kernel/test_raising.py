"""Exceptions that are raised by several callers: equal, and nothing that one adds to its own is seen by another."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from smw._kernel.raising import StoppedError, copied, own


class Picky(Exception):
    """Takes other arguments than it keeps."""

    def __init__(self, name: str, *, code: int) -> None:
        super().__init__(f"{name}: {code}")
        self.code = code


@dataclass(frozen=True)
class Frozen(Exception):
    """Refuses to be changed."""

    seen: list


class Slotted(Exception):
    """Keeps an attribute beside its dictionary."""

    __slots__ = ("seen",)


class Forbids(Exception):
    """Cannot be made a second time."""

    def __new__(cls, *args):
        if args != ("once",):
            raise TypeError
        return super().__new__(cls)

    def __copy__(self):
        raise TypeError


class Other(Exception):
    """Is something else when it is copied."""

    def __copy__(self):
        return ValueError("something else")


def raised(error: BaseException) -> BaseException:
    """Return it with the frames of a call and a cause."""
    try:
        raise error from KeyError("cause")
    except type(error) as caught:
        return caught


def test_containers_are_the_copys_own_and_other_objects_shared():
    """However deep they are, in its arguments and in its attributes."""
    shared = object()
    error = ValueError({"a": [1, {2}]}, (shared, [3]))
    error.seen, error.more = [{"b": 1}], [1]
    made = copied(error)
    made.args[0]["a"][1].add(4)
    made.args[1][1].append(5)
    made.seen[0]["c"] = 2
    assert error.args == ({"a": [1, {2}]}, (shared, [3]))
    assert error.seen == [{"b": 1}]
    assert (made.more, made.more is error.more) == ([1], False)
    assert made.args == ({"a": [1, {2, 4}]}, (shared, [3, 5]))
    assert made.args[1][0] is shared


def test_what_a_class_asks_for_beyond_its_arguments_is_no_hindrance():
    """Other arguments, no changes, and attributes in slots: the copy has them all."""
    slotted = Slotted("s")
    slotted.seen = [1]
    for error, name in ((Picky("a", code=7), "code"), (Frozen([1]), "seen"), (slotted, "seen")):
        made = copied(error)
        assert (type(made), made.args) == (type(error), error.args)
        assert getattr(made, name) == getattr(error, name)
    assert copied(slotted).seen is not slotted.seen


@pytest.mark.parametrize("with_frames", [False, True])
def test_frames_and_cause_go_along_where_they_are_wanted(with_frames):
    """Of a group, and of an exception in an argument, too."""
    inner = raised(ValueError("inner"))
    inner.__context__ = LookupError("context")
    group = raised(ExceptionGroup("several", [inner]))
    made = copied(group, with_frames=with_frames)
    deep = copied(ValueError({"in": [inner]}, inner), with_frames=with_frames).args
    for error, before in ((made, group), (made.exceptions[0], inner), (deep[0]["in"][0], inner), (deep[1], inner)):
        assert error is not before
        assert repr(error) == repr(before)
        kept = (before.__cause__, before.__context__, before.__traceback__) if with_frames else (None,) * 3
        assert (error.__cause__, error.__context__, error.__traceback__) == kept
    assert made.__suppress_context__ or not with_frames
    plain = ValueError()
    plain.__context__ = KeyError()
    assert not copied(plain, with_frames=True).__suppress_context__


def test_who_cannot_have_an_exception_of_its_own_has_the_one_that_there_is():
    """A class may forbid to be copied, or make something else of it."""
    for error in (Forbids("once"), Other()):
        assert own(error) is error
    error = raised(ValueError([1]))
    made = own(error)
    assert made is not error
    assert made.__traceback__ is error.__traceback__


def test_a_stop_is_carried_with_what_it_says():
    """The function has raised it, and the message says so."""
    stop = StopIteration(7)
    error = StoppedError(stop)
    assert error.stop is stop
    assert "StopIteration(7)" in str(error)
