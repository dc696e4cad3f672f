"""What smw says where Python would complain about the arguments of a public function."""

from __future__ import annotations

import inspect

import pytest

import smw
from smw import audit_log, cache, cached, invalidate, trace
from smw._kernel.told import plainly
from smw.cache import Cache
from smw.errors import ConfigError, DecorationError, SmwError
from smw.monitor import Monitor
from smw.pipeline import Pipeline
from smw.security import Security


def plain(user_id: int) -> int:
    """A function to decorate."""
    return user_id


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: invalidate(plain), DecorationError, "@invalidate stands without parentheses\n  fix:   write @"),
        (lambda: Cache().invalidate(plain), DecorationError, "write @cache.invalidate(tags="),
        (cached, DecorationError, "@cached needs ttl=\n  fix:   write @cached(ttl=60)"),
        (lambda: cached(60, ["user"]), DecorationError, "takes no more than 1 argument without a name"),
        (lambda: cached(60, ttl=60), DecorationError, "was given 'ttl' twice"),
        (lambda: cached(60, tag=["user"]), DecorationError, "'tag'. Did you mean 'tags'?\n  fix:   one of: ttl, "),
        (lambda: invalidate(wen="after"), DecorationError, "Did you mean 'when'?"),
        (lambda: cache.writes(strategy="write_back"), DecorationError, "@writes needs to="),
        (lambda: trace(nam="x"), DecorationError, "Did you mean 'name'?"),
        (lambda: Monitor().trace(nam="x"), DecorationError, "Did you mean 'name'?"),
        (audit_log, DecorationError, "@audit_log needs action="),
        (lambda: Security().require_compliance(framework=["GDPR"]), DecorationError, "Did you mean 'frameworks'?"),
        (lambda: Pipeline().stream_process("s", retries=3), DecorationError, "has no argument 'retries'"),
        (lambda: smw.configure(cach={}), ConfigError, "configure() has no argument 'cach'. Did you mean 'cache'?"),
        (lambda: smw.configure("testing", "shop"), ConfigError, "takes no more than 1 argument without a name"),
        (lambda: smw.Runtime(servise="shop"), ConfigError, "Did you mean 'service'?"),
        (lambda: cache.drop_sync("user:7"), ConfigError, "takes no arguments without a name\n  fix:   write drop"),
        (lambda: cache.drop_sync(tag=["user:7"]), ConfigError, "Did you mean 'tags'?"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit(call, error, says):
    """The message names the nearest argument, or the form that is right, in place of Python's own complaint."""
    with pytest.raises(error) as caught:
        call()
    assert says in str(caught.value)
    assert caught.value.__cause__ is None


async def test_a_coroutine_function_says_it_when_awaited():
    """What was a coroutine function stays one."""
    assert inspect.iscoroutinefunction(cache.drop)
    with pytest.raises(ConfigError, match="Did you mean 'keys'"):
        await Cache().drop(key="k")


def test_errors_from_within_pass_as_they_are():
    """A TypeError that the function itself raises keeps its message and its cause."""

    @plainly("late()", "late(1)")
    def late(what: int) -> int:
        try:
            return what + "1"
        except TypeError as error:
            raise TypeError("from within") from error

    with pytest.raises(TypeError, match="from within") as caught:
        late(1)
    assert isinstance(caught.value.__cause__, TypeError)
    assert not isinstance(caught.value, SmwError)


def test_signatures_stay_as_they_were():
    """Editors and type checkers see the parameters of the function itself."""
    assert list(inspect.signature(cached).parameters)[:3] == ["ttl", "tags", "key"]
    assert inspect.getdoc(invalidate).startswith("Drop what a call of the function makes old.")
