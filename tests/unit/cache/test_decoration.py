"""What the decorators refuse when decorating, and that each refusal names the remedy."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

import smw
from smw import cache as cache_module
from smw import cached, invalidate
from smw.cache import Auto, Cache
from smw.errors import ConfigError, DecorationError, StackingError


def plain(user_id: int, *, lang: str = "en") -> str:
    return f"{user_id}{lang}"


async def later(user_id: int) -> str:
    return str(user_id)


@pytest.mark.parametrize(
    ("decorate", "error", "says"),
    [
        (lambda: cached("60"), DecorationError, "seconds or a timedelta"),
        (lambda: cached(True), DecorationError, "seconds or a timedelta"),
        (lambda: cached(None), DecorationError, "seconds or a timedelta"),
        (lambda: cached(later), DecorationError, "takes a function"),
        (lambda: cached("Auto"), DecorationError, "seconds or a timedelta"),
        (lambda: Auto(5, 1), ConfigError, "the shorter one first"),
        (lambda: Auto(0, 1), ConfigError, "Auto(min_s=1"),
        (lambda: Auto("1", 1), ConfigError, "two times"),
        (lambda: cached(-1), ConfigError, "; ttl=0 stores nothing"),
        (lambda: cached(60, l1_ttl=-1), ConfigError, "; levels="),
        (lambda: cached(60, negative_ttl=-1), ConfigError, "; negative_ttl=0 keeps none"),
        (lambda: cached(60, stale_if_error=-1), ConfigError, "; stale_if_error=0 hands out nothing"),
        (lambda: cached(60, soft_timeout=-1), ConfigError, "; left out, callers wait"),
        (lambda: cached(60, hard_timeout=-1), ConfigError, "; left out, callers wait"),
        (lambda: cached(timedelta(seconds=-1)), ConfigError, "negative"),
        (lambda: cached(math.nan), ConfigError, "takes a number, which this is not"),
        (lambda: cached(1, tags="user"), DecorationError, "sequence of texts"),
        (lambda: cached(1, tags=[""]), DecorationError, "not empty"),
        (lambda: cached(1, tags=[1]), DecorationError, "not empty"),
        (lambda: cached(1, tags=["{user_id"]), DecorationError, "malformed"),
        (lambda: cached(1, tags=["{user_id!r}"]), DecorationError, "attributes"),
        (lambda: cached(1, tags=["{user_id:>5}"]), DecorationError, "attributes"),
        (lambda: cached(1, tags=["{0}"]), DecorationError, "attributes"),
        (lambda: cached(1, tags=["user:{user}"])(plain), DecorationError, "Did you mean 'user_id'?"),
        (lambda: cached(1, tags=[f"t{n}" for n in range(101)]), DecorationError, "100 tags"),
        (lambda: cached(1, levels=("l1", "l4")), DecorationError, "l1, l2, l3"),
        (lambda: cached(1, levels="l1"), DecorationError, "names of levels"),
        (lambda: cached(1, levels=()), DecorationError, "names of levels"),
        (lambda: cached(1, copy="shallow"), DecorationError, "auto, share, deep, decode"),
        (lambda: cached(1, key="user_id"), DecorationError, "takes a function"),
        (lambda: cached(1, condition=1), DecorationError, "takes a function"),
        (lambda: cached(1, condition=later), DecorationError, "takes a function"),
        (lambda: cached(1, unless="x"), DecorationError, "takes a function"),
        (lambda: cached(1, l1_ttl="1"), DecorationError, "l1_ttl= takes seconds or a timedelta"),
        (lambda: cached(1, l1_ttl=0), ConfigError, 'levels=("l2", "l3")'),
        (lambda: cached(1, negative_ttl=-1), ConfigError, "negative_ttl= must not be negative"),
        (lambda: cached(1, cache_exceptions=(KeyError, 1), negative_ttl=1), DecorationError, "classes of exceptions"),
        (lambda: cached(1, cache_exceptions=KeyboardInterrupt), DecorationError, "classes of exceptions"),
        (lambda: cached(1, cache_exceptions=KeyError), DecorationError, "needs negative_ttl="),
        (
            lambda: cached(1, cache_exceptions=KeyError, negative_ttl=1, levels=("l2",)),
            DecorationError,
            "kept nowhere else",
        ),
        (lambda: cached(1, stale_if_error=-1), ConfigError, "stale_if_error= must not be negative"),
        (lambda: cached(1, soft_timeout=1), ConfigError, "stale_if_error="),
        (lambda: cached(1, hard_timeout=0), ConfigError, "the shorter one first"),
        (lambda: cached(1, soft_timeout=2, hard_timeout=1, stale_if_error=1), ConfigError, "the shorter one first"),
        (lambda: cached(1, hard_timeout="1"), DecorationError, "hard_timeout= takes seconds or a timedelta"),
        (lambda: cached(1, refresh_ahead=1), DecorationError, "less than 1"),
        (lambda: cached(1, refresh_ahead=True), DecorationError, "less than 1"),
        (lambda: cached(1, refresh_ahead=0.5, levels=("l2",)), DecorationError, "needs memory"),
        (lambda: cached(1)(lambda: (yield 1)), DecorationError, "return a list"),
        (lambda: invalidate(tags=[]), DecorationError, "names no tag"),
        (lambda: invalidate(tags=["user:{user}"])(plain), DecorationError, "Did you mean 'user_id'?"),
    ],
)
def test_wrong_decoration_is_refused_with_a_remedy(decorate, error, says):
    """Each mistake raises at import and the message says what to write instead."""
    with pytest.raises(error) as caught:
        decorate()
    assert says in str(caught.value)
    assert "fix:" in str(caught.value)


async def test_async_generator_is_refused():
    """A result that is used up by reading it cannot be kept."""

    async def numbers():
        yield 1

    with pytest.raises(DecorationError, match="return a list"):
        cached(1)(numbers)


def test_ttl_beyond_ten_years_is_cut_and_warned():
    """A time to live that can only be a mistake is cut, and says so."""
    with pytest.warns(UserWarning, match="ten years"):
        assert "3.1536e+08" in repr(cached(1e12)(plain).__smw_stack__.advices[0].describe())


def test_timedelta_and_float_are_fine(cache):
    """Seconds may be given as int, float or timedelta."""
    for ttl in (1, 0.5, timedelta(minutes=1)):
        assert cache.cached(ttl)(plain)(1) == "1en"


def test_tags_may_reach_into_attributes(cache):
    """A field may name an attribute of an argument."""
    calls = []

    @cache.cached(60, tags=["user:{user.real}"])
    def load(user: int) -> int:
        calls.append(user)
        return user

    load(7)
    cache.drop_sync(tags=["user:7"])
    load(7)
    assert calls == [7, 7]


def test_caching_what_it_invalidates_is_refused(cache):
    """`cached` and `invalidate` on one tag would drop what was just stored."""
    with pytest.raises(StackingError, match="share the tag"):
        cache.invalidate(tags=["user"])(cache.cached(60, tags=["user"])(plain))


def test_undecorated_function_has_no_info():
    """Asking about a function that is not cached names the mistake."""
    with pytest.raises(ConfigError, match="not decorated with @cached"):
        cache_module.info(plain)
    with pytest.raises(ConfigError, match="not decorated with @cached"):
        cache_module.key_for(plain, 1)


def test_unknown_setting_names_the_nearest():
    """A typo in a setting is one error that names the right one."""
    with pytest.raises(ConfigError, match="l1_size"):
        Cache(l1_siz=10)


def test_a_tag_is_a_text_with_something_in_it(cache):
    """A number or an empty text drops nothing that anybody has tagged, so it is a mistake."""
    for bad in (1, "", None):
        with pytest.raises(ConfigError, match="a tag is a text"):
            cache.drop_sync(tags=["user", bad])


def test_what_ttl_may_be_is_told_in_full(cache):
    """Whoever writes something else reads all forms."""
    with pytest.raises(DecorationError, match=r'a function of the result, or "auto"(.|\n)*ttl="auto"'):
        cache.cached("x")(lambda: 1)


def test_a_key_of_another_namespace_is_refused(cache):
    """Its counter would be raised on the server, and no process of that namespace would hear of it."""
    for drop in (cache.drop_sync, cache.why_sync, cache.peek_sync):
        given = {"keys": [f"smw:otherx:{'0' * 32}"]} if drop == cache.drop_sync else {"key": f"smw:otherx:{'0' * 32}"}
        with pytest.raises(ConfigError, match=r"namespace otherx, and this cache's is (.|\n)*SMW_SERVICE=otherx"):
            drop(**given)


def test_key_that_is_none_is_refused(cache):
    """A key that no call can have is refused before any server sees it."""
    for bad in ("a b", "a\r\nflush_all", "", "x" * 300, 7, "nonsense", "smw:t:x", f"smw:t:t:{'0' * 32}"):
        with pytest.raises(ConfigError, match="full keys"):
            cache.drop_sync(keys=[bad])
    with pytest.raises(ConfigError, match="sequences"):
        cache.drop_sync(tags="user")


def _seconds_of(result: int) -> float:
    return float(result)


def test_a_function_of_the_result_is_no_forgotten_parenthesis():
    """What has a name where it is passed is taken as the time to live, and so are lambdas and bound methods."""

    def local(result: int) -> float:
        return float(result)

    class Lives:
        def of(self, result: int) -> float:
            return float(result)

    for ttl in (_seconds_of, local, Lives().of, lambda result: result):
        cached(ttl)(plain)
        Cache().cached(ttl)(plain)
        assert "function of the result" in str(smw.explain(cached(ttl)(plain)))


@pytest.mark.parametrize("decorate", [cached, Cache().cached])
def test_forgotten_parentheses_are_refused_wherever_the_function_stands(decorate):
    """At module level, within a function and in a class, whatever parameters it has."""
    for source in ("@decorate\ndef f(one): pass", "class C:\n @decorate\n def f(self): pass"):
        with pytest.raises(DecorationError, match="without parentheses"):
            exec(source, {"decorate": decorate, "__name__": "somewhere"})

    with pytest.raises(DecorationError, match="without parentheses"):

        @decorate
        def load(user_id: int) -> int:
            return user_id

    with pytest.raises(DecorationError, match="without parentheses"):

        @decorate
        async def load_later(user_id: int) -> int:
            return user_id
