"""Whether a restricted user of Redis may do what the cache does; each trial leaves everything as it was."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from smw import _redis
from smw.cache.stores.redis_cluster import slot_of, tags_of
from smw.doctor.network import STEP_S
from smw.doctor.report import Finding, Verdict

if TYPE_CHECKING:
    import redis

__all__ = ["COMMANDS", "rights", "rule"]

_KEY, _NOTHING = object(), b"0" * 40
_HASHED = """
local answer = redis.pcall('HSET', KEYS[1], 'f', 'v')
if type(answer) == 'number' then redis.call('DEL', KEYS[1]) end
return answer
"""
_NAMED = re.compile(r"the '([a-z]+)")
_TRIALS: dict[str, tuple[Any, ...]] = {
    "mget": (_KEY,),
    "get": (_KEY,),
    "set": (_KEY, "", "XX", "PX", 1),
    "del": (_KEY,),
    "exists": (_KEY,),
    "type": (_KEY,),
    "strlen": (_KEY,),
    "pttl": (_KEY,),
    "pexpire": (_KEY, 1),
    "expire": (_KEY, 1),
    "time": (),
    "hget": (_KEY, "f"),
    "hmget": (_KEY, "f"),
    "hgetall": (_KEY,),
    "hkeys": (_KEY,),
    "hset": (),
    "evalsha": (_NOTHING, 0),
    "eval": ("return 1", 0),
    "info": ("server",),
    "zadd": (_KEY, "XX", 1, "m"),
    "zscore": (_KEY, "m"),
    "zrevrange": (_KEY, 0, 0),
    "zremrangebyrank": (_KEY, 0, 0),
    "scan": (0, "COUNT", 1),
    "dbsize": (),
}
"""Each command, with arguments that change nothing where there is no such key."""
_FOR = {
    "info": "fail-overs are not noticed",
    **dict.fromkeys(("zadd", "zscore", "zrevrange", "zremrangebyrank", "expire", "strlen"), "nothing starts warm"),
    **dict.fromkeys(("scan", "dbsize"), "smw cache keys and stats do not work"),
    **dict.fromkeys(("publish", "subscribe", "channels"), "other processes learn of drops later"),
}
"""What is missed without it; without the others nothing is cached on this server."""
COMMANDS = ("ping", *_TRIALS, "publish", "subscribe", "unsubscribe")
"""What the cache sends to a Redis, some of it from scripts; a cluster hears ASKING and CLUSTER as well."""


def rule(prefix: str, *, is_cluster: bool = False) -> str:
    """Return what ``ACL SETUSER`` is told of a user for one namespace, behind its name and password.

    Args:
        prefix: What keys of the namespace begin with, such as ``smw:shop:``.
        is_cluster: Whether it is for the nodes of a cluster.
    """
    keys, more = ("~{*} ~{*}", " +asking +cluster") if is_cluster else ("~", "")
    return f"{keys}{prefix}* &{prefix}b* {' '.join(f'+{name}' for name in COMMANDS)}{more}"


def rights(url: str, name: str, holder: str, prefix: str) -> Finding:
    """Return whether the user of a URL may do all that the cache does; blocks.

    Args:
        url: The server's.
        name: Of the finding.
        holder: The setting or variable that holds the URL.
        prefix: What keys of the namespace begin with.
    """
    lacks: dict[str, str] = {}
    where: list[str] = []
    for server, tag in _servers(url):
        with _redis.blocking(server, timeout_s=STEP_S, max_connections=2) as client:
            found = _lacking(client, prefix, tag)
        lacks |= found
        where += [urlsplit(server).netloc.rpartition("@")[2]] if found and tag else []
    parts = urlsplit(url)
    user = dict(parse_qsl(parts.query)).get("username") or unquote(parts.username or "") or "default"
    if not lacks:
        return Finding(name, "ok", f"the user {user} may do what the cache does")
    missed = list(dict.fromkeys(lacks.values()))
    verdict: Verdict = "fail" if "" in missed else "warn"
    what = "nothing is cached there" if verdict == "fail" else "; ".join(missed)
    at = f" at {', '.join(where)}" if where else ""
    seen = f"the user {user} of {holder} lacks {' '.join(lacks)}{at}: {what}"
    return Finding(name, verdict, seen, f"ACL SETUSER {user} {' '.join(lacks)}")


def _servers(url: str) -> list[tuple[str, str]]:
    """Return the URL of each server that keeps values; of the nodes of a cluster also the hash tag of a shard there.

    Each node has users of its own, and runs scripts for keys that are there alone.
    """
    address = _redis.parse(url)
    if address.kind != "cluster":
        return [(url, "")]
    tags = tags_of(address.shards)
    with _redis.blocking(url, timeout_s=STEP_S, max_connections=1) as client:
        try:
            slots: Any = client.execute_command("CLUSTER", "SLOTS")
        except Exception as error:
            if _redis.kind_of_failure(error)[0] != "permission":
                raise
            return [(address.server(*address.hosts[0]), tags[0])]  # the finding about the cluster names the right
    found: dict[tuple[str, int], str] = {}
    for first, last, (host, port, *_), *_ in slots:
        tag = next((tag for tag in tags if first <= slot_of(tag) <= last), None)
        if tag is not None:
            name = host.decode() if isinstance(host, bytes) else host
            found.setdefault((name or address.hosts[0][0], port), tag)
    return [(address.server(*place), tag) for place, tag in found.items()]


def _lacking(client: redis.Redis, prefix: str, tag: str) -> dict[str, str]:
    """Return rule → what is missed without it, of the rules that the user lacks."""
    key, channel = f"{tag}{prefix}doctor", f"{prefix}b:doctor"
    line: Any = client.pipeline(transaction=False)
    for command, arguments in _TRIALS.items():
        if command == "hset":
            line.execute_command("EVAL", _HASHED, 1, key)
        else:
            line.execute_command(command.upper(), *[key if given is _KEY else given for given in arguments])
    line.execute_command("PUBLISH", channel, "")  # nobody listens to that one
    answers = dict(zip((*_TRIALS, "publish"), line.execute(raise_on_error=False), strict=True))
    if tag:
        line.execute_command("EXISTS", tag)  # the shards' own names, by which nodes are found
        answers["exists"] = line.execute(raise_on_error=False)[0]
    answers["subscribe"] = _subscribed(client, channel)
    lacks: dict[str, str] = {}
    for command, answer in answers.items():
        if not isinstance(answer, Exception) or _redis.kind_of_failure(answer)[0] != "permission":
            continue
        text = str(answer).lower()
        if "channel" in text:
            lacks[f"&{prefix}b*"] = _FOR["channels"]
        elif "command" in text:
            named = _NAMED.search(text)
            missing = named[1] if named else command
            lacks[f"+{missing}"] = _FOR.get(missing, "")
        else:
            lacks[f"~{{*}} ~{{*}}{prefix}*" if tag else f"~{prefix}*"] = ""
    return lacks


def _subscribed(client: redis.Redis, channel: str) -> Exception | None:
    given: Any = client  # untyped in part
    with given.pubsub() as ear:
        try:
            ear.subscribe(channel)
            ear.parse_response(block=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            return error
    return None
