"""Opening, switching and closing runtimes."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

import smw
from smw._kernel import current
from smw._kernel.chain import advise
from smw.errors import ConfigError, DecorationError
from smw.runtime import Runtime
from smw.testing import FakeClock, isolated
from tests.unit.kernel.advices import Recorder


class _Part:
    def __init__(self, name: str, log: list[str], *, fails: bool = False) -> None:
        self.name, self.log, self.fails = name, log, fails

    def close(self) -> None:
        self.log.append(self.name)
        if self.fails:
            raise OSError("disk")

    async def aclose(self) -> None:
        self.close()


def test_inside_with_it_is_the_current_one() -> None:
    """Nested runtimes give way to each other and come back."""
    with isolated() as outer:
        assert current.default() is outer
        with isolated() as inner:
            assert current.default() is inner
        assert current.default() is outer


async def test_async_with_does_the_same() -> None:
    """The asynchronous form behaves alike."""
    async with Runtime("testing", environ={}) as runtime:
        assert current.default() is runtime
        assert runtime.is_open
    assert not runtime.is_open


def test_parts_close_in_dependency_order_whatever_one_does() -> None:
    """Streams stop first, the monitor last; a part that fails to close keeps no other from closing."""
    log: list[str] = []
    runtime = Runtime("testing", environ={}).open()
    runtime._parts = {name: _Part(name, log, fails=name == "cache") for name in ("monitor", "cache", "pipeline")}
    runtime.close()
    runtime.close()
    assert log == ["pipeline", "cache", "monitor"]
    runtime.open()._parts = {"security": _Part("security", log)}
    asyncio.run(runtime.aclose())
    assert log[-1] == "security"


def test_parts_are_built_once_and_share_one_host() -> None:
    """A part is opened on first use and is the same afterwards."""
    clock = FakeClock()
    with isolated(clock=clock) as runtime:
        assert runtime.cache is runtime.part("cache")
        assert runtime.host.clock is clock


def test_configure_replaces_and_rebinds() -> None:
    """Functions decorated and called before configure use the new runtime from their next call on."""
    advice = Recorder("a", [])

    @advise(advice)
    def fn() -> int:
        return 1

    before = current.use(None)
    try:
        fn()
        first = smw.configure("testing")
        fn()
        second = smw.configure("testing", service="other")
        fn()
        assert advice.binds == 3
        assert not first.is_open
        assert second.host.service == "other"
        smw.shutdown()
        assert not second.is_open
        smw.shutdown()
    finally:
        current.use(before)


def test_a_refused_configuration_changes_nothing() -> None:
    """A wrong setting raises and the runtime before stays current and open."""
    with isolated() as runtime:
        with pytest.raises(ConfigError):
            smw.configure("testing", cache={"l1_sise": 3})
        assert current.default() is runtime
        assert runtime.is_open


def test_a_misspelled_variable_is_logged_on_opening(caplog: pytest.LogCaptureFixture) -> None:
    """The near miss is named once, with what was probably meant."""
    with caplog.at_level(logging.WARNING, "smw.runtime"):
        Runtime("testing", environ={"CACHE_L2_ULR": "x"}).open().open()
    assert [record.getMessage() for record in caplog.records] == [
        "environment variable CACHE_L2_ULR is not known to smw; did you mean CACHE_L2_URL?"
    ]


def test_explain_lists_the_stack_in_order() -> None:
    """The text names function, kind and each decorator, outermost first."""

    @smw.trace("span")
    @smw.cached(60)
    def lookup(x: int) -> int:
        return x

    with isolated():
        text = repr(smw.explain(lookup))
    assert "lookup (function)" in text
    assert text.index("trace") < text.index("cached") < text.index("then the function")


def test_explain_refuses_a_plain_function() -> None:
    """Asking about an undecorated function says so."""
    with pytest.raises(DecorationError, match="no smw decorator"):
        smw.explain(len)


def test_the_public_names_exist() -> None:
    """Every name in __all__ loads, and an unknown one is an AttributeError."""
    for name in smw.__all__:
        assert getattr(smw, name) is not None
    with pytest.raises(AttributeError):
        _: Any = smw.nothing  # type: ignore[attr-defined]


def test_configure_opens_the_cache_where_it_has_servers() -> None:
    """The clients are loaded when a process starts, not by its first request; memory alone opens when it is used."""
    before = current.use(None)
    try:
        assert "cache" not in smw.configure("testing")._parts
        runtime = smw.configure("testing", cache={"l2_url": "memory://"})
        assert "cache" in runtime._parts
        with pytest.raises(ConfigError, match="SMW-C120"):
            smw.configure("production", cache={"l2_url": "memory://", "encryption": True})
        assert current.get() is runtime
        assert runtime.is_open
    finally:
        smw.shutdown()
        current.use(before)
