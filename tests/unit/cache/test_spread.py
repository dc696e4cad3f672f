"""Which of several memcached servers has a key."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from smw.cache.stores.memcached import spread

SERVERS = [f"10.0.0.{number}:11211" for number in range(8)]
KEYS = [f"smw:shop:{number:032x}" for number in range(3000)]


def test_each_server_has_its_share():
    """None of three servers has more than a tenth beyond its third."""
    counts = Counter(map(spread(SERVERS[:3]), KEYS))
    assert len(counts) == 3
    assert all(900 <= count <= 1100 for count in counts.values())


@given(st.permutations(SERVERS), st.integers(1, 7))
def test_another_server_moves_only_what_it_gets(servers, count):
    """Every key stays where it was or goes to the new server; the order of the setting means nothing."""
    before, after = spread(servers[:count]), spread(sorted(servers[: count + 1]))
    assert all(after(key) in (before(key), servers[count]) for key in KEYS[:200])


def test_where_keys_lie_does_not_change_from_one_release_to_the_next():
    """Processes of two releases share their servers."""
    pick = spread(SERVERS[:3])
    assert "".join(pick(key)[7] for key in KEYS[:24]) == "210002021102202202011111"
