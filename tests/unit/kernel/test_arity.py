"""What a function can never be called with, told from what it takes."""

from __future__ import annotations

import functools
import inspect
from itertools import chain, combinations, product

import pytest

from smw._kernel.arity import misfit, misfit_as


def _function(parameters: str):
    return eval(f"lambda {parameters}: 0")


PARAMETERS = [
    "", "a", "a=0", "a, b", "a, b=0", "b, a", "b=0, a=0", "a, /", "a, /, b", "a, b=0, /", "a=0, /, *, b", "*, a",
    "*, a=0", "a, *, b", "a, *, b=0", "*, b", "c", "a, c=0",
]  # fmt: skip
OPEN = ["*args", "**more", "a, *args", "a, **more", "*args, b", "b=0, /, **more"]


def _forms(fn):
    """Yield all calls that fit `fn`, one with each set of parameters by position and by name."""
    names = list(inspect.signature(fn).parameters)
    for count in range(len(names) + 1):
        for named in chain.from_iterable(combinations(names, size) for size in range(len(names) + 1)):
            if _takes(fn, count, named):
                yield count, named


def _takes(fn, count, named) -> bool:
    try:
        fn(*range(count), **dict.fromkeys(named))
    except TypeError:
        return False
    return True


def test_it_is_refused_exactly_where_no_call_fits_both():
    """Of each two functions the verdict is that of trying every call of the one on the other."""
    for theirs, own in product(PARAMETERS, PARAMETERS + OPEN):
        fn, given = _function(theirs), _function(own)
        can = any(_takes(given, count, named) for count, named in _forms(fn))
        assert (misfit_as(given, fn) is None) is can, (theirs, own)


@pytest.mark.parametrize("theirs", OPEN)
def test_a_function_that_takes_anything_is_called_in_ways_that_nobody_knows(theirs):
    """Nothing is refused beside it."""
    assert misfit_as(lambda _one, _two, _three: 0, _function(theirs)) is None


@pytest.mark.parametrize(("own", "theirs"), [("*args, b", "a, c, b=0"), ("a, *b", "a, *, b=0")])
def test_what_one_call_fits_passes_although_the_others_do_not(own, theirs):
    """The name of what takes the rest by position is no name of an argument, and fills no place of one."""
    assert misfit_as(_function(own), _function(theirs)) is None


def test_nothing_is_said_of_what_does_not_tell_what_it_takes():
    """It is neither refused nor refuses, also behind arguments that are given beforehand."""
    assert misfit_as(lambda: 0, _Told()) is None
    assert misfit(functools.partial(_Told()), 1) is None


class Of:
    """Callable, with what Python puts before the arguments."""

    def __init__(self, one=0) -> None:
        self.one = one

    def __call__(self, one):
        return one

    def method(self, one):
        return one

    @classmethod
    def of_class(cls, one):
        return one


def _supplied(fn):
    @functools.wraps(fn)
    def around(*args):
        return fn(0, *args)

    return around


class _Told:
    __signature__ = inspect.Signature()

    def __call__(self, one):
        return one


TAKE_ONE = [
    len, str, print, max, Of, Of(), Of().method, Of.of_class, functools.partial(lambda _one, _two: 0, 1),
    functools.partial(lambda _one, _two: 0, _two=1), lambda *_: 0, lambda _one, _two=0: 0, _Told(),
    _supplied(lambda _supplied, _one: 0),
]  # fmt: skip
TAKE_OTHERS = [lambda: 0, lambda _a, _b: 0, Of.method, dict.get, functools.partial(len, ""), lambda _one, *, more: 0]


@pytest.mark.parametrize("given", TAKE_ONE)
def test_what_takes_one_argument_or_does_not_tell_passes(given):
    """Builtins, classes, bound methods, partials, and what is wrapped are taken for what they themselves take."""
    assert misfit(given, 1) is None
    assert misfit_as(given, lambda one: one) is None


@pytest.mark.parametrize("given", TAKE_OTHERS)
def test_what_never_takes_one_argument_is_told(given):
    """With what is wrong, and what it takes."""
    assert "and it takes (" in str(misfit(given, 1))
