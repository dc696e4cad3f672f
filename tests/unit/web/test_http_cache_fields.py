"""How header fields are read: every form that HTTP allows, and nothing else."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smw.web.http_cache.fields import delta_seconds, directives, entity_tags, http_date, names

NOON = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, {}),
        ("", {}),
        ("max-age=60", {"max-age": ["60"]}),
        ('MAX-AGE="60"', {"max-age": ["60"]}),
        ("public, max-age=60,s-maxage=5", {"public": [""], "max-age": ["60"], "s-maxage": ["5"]}),
        ('private="set-cookie, x", max-age=1', {"private": ["set-cookie, x"], "max-age": ["1"]}),
        ("max-age=1, max-age=2", {"max-age": ["1", "2"]}),
        (" , ,public,, ", {"public": [""]}),
        ("max-age=-1", {"max-age": ["-1"]}),
        ("max-age=", {"max-age": [""]}),
        ('community="UCI"', {"community": ["UCI"]}),
    ],
)
def test_directives(value, found):
    """Names in any case, arguments as token or quoted text, empty elements skipped."""
    assert directives(value) == found


@pytest.mark.parametrize("value", ['max-age="60', "pub lic", "=5", 'no-store"', "a;b"])
def test_directives_that_cannot_be_read_are_none(value):
    """Who cannot read a field keeps nothing."""
    assert directives(value) is None


@given(st.text(alphabet='ab-="\\, \t;0é', max_size=60))
def test_directives_never_raise_and_end(value):
    """Whatever arrives is read or refused."""
    found = directives(value)
    assert found is None or all(name == name.lower() for name in found)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("60", 60), ("2147483648", 2**31), ("9" * 40, 2**31), ("-1", None), ("1.5", None), ("", None),
        ("+5", None), (" 5", None), ("٣", None), ("1e3", None),
    ],
)  # fmt: skip
def test_delta_seconds(text, seconds):
    """Digits only; what is too large is very large."""
    assert delta_seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
)
def test_all_three_date_forms(text):
    """A recipient has to understand the old ones too."""
    assert http_date(text) == NOON


@pytest.mark.parametrize(
    "text",
    [
        None, "0", "-1", "", "tomorrow", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 06 Nov 1994 25:00:00 GMT",
        "Sun, 99 Nov 1994 08:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT", "1994-11-06T08:49:37Z",
    ],
)  # fmt: skip
def test_what_is_no_date(text):
    """A broken date is none."""
    assert http_date(text) is None


@given(st.integers(min_value=0, max_value=4_000_000_000))
def test_dates_round_trip(seconds):
    """What the standard library writes is what we read."""
    assert http_date(formatdate(seconds, usegmt=True)) == seconds


def test_entity_tags_weak_and_strong():
    """The comparison for caches is weak, so only the opaque part matters."""
    assert list(entity_tags('"a", W/"b" ,"c,d"')) == ["a", "b", "c,d"]
    assert list(entity_tags("")) == []
    assert list(entity_tags('"a" junk "b"')) == []


def test_names_are_folded_sorted_and_unique():
    """Two spellings of one Vary are one Vary."""
    assert names("Accept-Language, accept,ACCEPT , ") == ("accept", "accept-language")
