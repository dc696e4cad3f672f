"""``smw cache``: what the levels of a cache hold and why, dropping from them, filling them."""

from __future__ import annotations

import json as _json
import sys
from contextlib import contextmanager
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smw.cli.output import as_json, as_table, shown
from smw.cli.target import cache_of, full_key, function, key_of, opened, parted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smw.cache import Cache

__all__ = ["app"]

app = typer.Typer(
    help="Look at what the servers of the function cache hold, and why, and drop it.", no_args_is_help=True
)
AppOption = Annotated[
    str | None,
    typer.Option("--app", help="Module of the application, which configures smw, or module:name of a Cache."),
]
ProfileOption = Annotated[str | None, typer.Option("--profile", help="Profile instead of SMW_PROFILE.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
What = Annotated[str, typer.Argument(help="A full key, or module:function of a cached function.")]
Arguments = Annotated[
    str | None,
    typer.Argument(help="""Arguments of the function as JSON: '["a", 7]' positional, '{"sku": "a"}' named, or one."""),
]


@app.command()
def stats(app: AppOption = None, profile: ProfileOption = None, *, json: Json = False) -> None:
    """Show each server: whether it answers, and its figures, of this service and others. Exits 1 if one fails."""
    from smw.cache.sight.browsing import figures

    with cache_of(app, profile) as cache:
        rows, settings, prefix = figures(cache), cache.settings, cache.prefix
    if json:
        memory = {"level": "l1", "most_entries": settings.l1_size, "most_bytes": settings.l1_bytes}
        as_json({"schema": 1, "prefix": prefix, "memory": memory, "servers": [row.as_dict() for row in rows]})
    else:
        own = f"each process has its own: at most {settings.l1_size} entries, {_size(settings.l1_bytes)}"
        table: list[tuple[str, ...]] = [("l1", "memory", "", "", "", "", "", "", own)]
        for row in rows:
            counts = [_number(count) for count in (row.entries, row.hits, row.misses, row.evictions)]
            size = "" if row.bytes is None else _size(row.bytes)
            table.append((row.level, row.server, row.state, counts[0], size, *counts[1:], row.note))
        columns = ("level", "server", "state", "entries", "bytes", "hits", "misses", "evictions", "note")
        as_table(f"cache {prefix}", columns, table)
    raise typer.Exit(int(any(row.state != "answers" for row in rows)))


@app.command()
def keys(
    app: AppOption = None,
    profile: ProfileOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most so many.")] = 100,
    *,
    json: Json = False,
) -> None:
    """List the values of the namespace on servers that can list them: Redis can, memcached cannot.

    Keys are digests and show no arguments. Values whose tag was dropped may be
    listed too: `why` tells. Exits 1 if a server does not answer.
    """
    from smw.cache.sight.browsing import stored, unlisted

    with cache_of(app, profile) as cache, _answering():
        _served(cache, "there are no keys but in the memory of each process")
        silent = unlisted(cache)
        _listed(cache, silent)
        rows, prefix = list(stored(cache, limit)), cache.prefix
    if json:
        told = {"schema": 1, "prefix": prefix, "limit": limit, "unlisted": silent}
        as_json(told | {"keys": [row.as_dict() for row in rows]})
        return
    table = [
        (row.key, row.level, _seconds(row.age_s), _seconds(row.remaining_s), _size(row.size_bytes), row.encoding or "?")
        for row in rows
    ]
    as_table(f"cache {prefix}", ("key", "level", "age", "left", "size", "form"), table)
    if len(rows) == limit:
        typer.echo(f"only the first {limit} are shown; --limit shows more", err=True)
    if silent:
        typer.echo(f"not listed, as it cannot be asked: {', '.join(silent)}", err=True)


@app.command()
def get(
    what: What, arguments: Arguments = None, app: AppOption = None, profile: ProfileOption = None, *, json: Json = False
) -> None:
    """Print the value that a server holds, and whether a call would take it. Exits 1 if no server has one.

    A dropped value stays on the server until its time to live ends; it is
    printed with the reason why no call takes it. If the function is named,
    objects are rebuilt; for a bare key their fields are shown. Nothing is
    unpickled unless it is sealed and pickles are allowed.
    """
    from smw.cache.sight.browsing import value_of

    with cache_of(app, profile) as looking, key_of(looking, what, arguments) as (cache, key, codec), _answering():
        found = value_of(cache, key, codec)
        story = cache.why_sync(key)
    if found is None:
        typer.echo(f"{key}: no server holds a value", err=True)
        raise typer.Exit(1)
    row, value = found
    held = next(level for level in story.levels if level.level == row.level)
    if json:
        as_json({"schema": 1, **row.as_dict(), "stands": held.stands, "says": held.says, "value": _plain(value)})
        return
    from pprint import pformat

    where = f"{row.level} {row.server}, {_seconds(row.age_s)} old, {_seconds(row.remaining_s)} left"
    typer.echo(shown(f"{key}  ({where})\n{pformat(value, sort_dicts=False)}", lines=True))
    if not held.stands:
        typer.echo(shown(f"no call takes it: {held.says}" if held.stands is False else held.says), err=True)


@app.command()
def why(
    what: What, arguments: Arguments = None, app: AppOption = None, profile: ProfileOption = None, *, json: Json = False
) -> None:
    """Tell what each level holds under a key, which would answer a call now, and why the others would not."""
    with cache_of(app, profile) as looking, key_of(looking, what, arguments) as (cache, key, _):
        story = cache.why_sync(key)
    if json:
        as_json({"schema": 1, **story.as_dict()})
    else:
        typer.echo(shown(str(story), lines=True))


@app.command()
def invalidate(
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Drop everything under this tag; repeatable.")] = None,
    key: Annotated[list[str] | None, typer.Option("--key", help="Drop this full key; repeatable.")] = None,
    fn: Annotated[str | None, typer.Option("--function", help="Drop one result of module:function.")] = None,
    args: Annotated[str | None, typer.Option("--args", help="Its arguments as JSON, as for `get`.")] = None,
    *,
    app: AppOption = None,
    profile: ProfileOption = None,
    everything: Annotated[bool, typer.Option("--everything", help="Drop all of the namespace.")] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Drop from every server, and so from every process. Exits 1 if a server has not confirmed the drop.

    Exits 2 if the answer to its question is no, or nobody can be asked; then
    nothing is dropped.
    """
    with cache_of(app, profile) as looking, _named(looking, fn, args) as (cache, own):
        dropped = [*[full_key(given, cache.prefix) for given in key or ()], *own]
        named = [*(f"tag {name}" for name in tag or ()), *dropped, *(["everything"] if everything else [])]
        _droppable(cache, named)
        if not yes:
            _confirmed(f"drop {', '.join(named)} from {cache.prefix}?")
        if everything:
            cache.clear_sync()
        cache.drop_sync(tags=tag or (), keys=dropped)
        cache.close()  # pays what is owed if the server answers after all
    pending = [level.store.name for level in cache.engine.remote.servers if level.debt]
    confirmed = [level.store.name for level in cache.engine.remote.servers if not level.debt]
    if json:
        as_json({"schema": 1, "dropped": named, "confirmed": confirmed, "pending": pending})
    else:
        for state, names in (("confirmed", confirmed), ("pending", pending)):
            if names:
                typer.echo(f"{state}: {', '.join(names)}")
    raise typer.Exit(int(bool(pending)))


@app.command()
def warm(
    fn: Annotated[str | None, typer.Argument(help="module:function of a cached function.")] = None,
    calls: Annotated[
        Path | None, typer.Argument(help="JSON lines, each the arguments of one call; - reads standard input.")
    ] = None,
    app: AppOption = None,
    profile: ProfileOption = None,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="How many calls run at once.")] = 8,
    *,
    fleet: Annotated[
        bool, typer.Option("--fleet", help="Show what a process would start with; calls nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Call a cached function for each line of a file, so that its results are cached. Exits 1 if a call fails.

    With --fleet it takes neither function nor file and calls nothing: it tells
    how much of what the fleet asks for most a new process of the application
    would have in memory before its first request. Exits 1 if that ends early.
    """
    from smw.cache import warm_sync

    _check_given(fn, calls, fleet=fleet)
    if fn is None or calls is None:
        _show_fleet(app, profile, json=json)
        return
    with opened(app, profile) as cache:
        warmed = function(fn)
        _kept(cache, warmed)
        done = warm_sync(warmed, _lines(calls), concurrency=concurrency)
    if json:
        as_json({"schema": 1, "loaded": done.loaded, "hit": done.hit, "failed": done.failed, "past": done.past})
    else:
        past = f", past the cache {done.past}" if done.past else ""
        typer.echo(f"loaded {done.loaded}, hit {done.hit}, failed {done.failed}{past}")
        if done.error is not None:
            told = f"the first to fail raised {type(done.error).__name__}: {done.error}"
            typer.echo(shown(told, lines=True), err=True)
    raise typer.Exit(int(done.failed > 0))


def _check_given(fn: str | None, calls: Path | None, *, fleet: bool) -> None:
    from smw.errors import ConfigError

    if fleet and fn is not None:
        what = "smw cache warm --fleet calls nothing, and takes neither a function nor a file"
        raise ConfigError("SMW-K125", what, fix="smw cache warm --fleet --app shop.main")
    if not fleet and calls is None:
        what = "smw cache warm takes a function and a file with its calls"
        raise ConfigError("SMW-K125", what, fix="smw cache warm shop.prices:price calls.jsonl; or --fleet")


def _show_fleet(app: str | None, profile: str | None, *, json: bool) -> None:
    with opened(app, profile) as cache:
        cache.engine.memory.clear()  # of this process, which may have started warm as the application's do
        done = cache.warm_fleet_sync()
    if json:
        told = {"kept": done.kept, "skipped": done.skipped, "bytes": done.bytes, "seconds": round(done.took_s, 6)}
        as_json({"schema": 1, **told, "ended": done.ended})
    else:
        early = {"deadline": "; it ends at CACHE_WARM_TIMEOUT_S", "away": "; the server does not answer"}
        took = f"{done.took_s:.3f} s{early.get(done.ended, '')}"
        typer.echo(f"kept {done.kept} ({_size(done.bytes)}), skipped {done.skipped}, in {took}")
    raise typer.Exit(int(bool(done.ended)))


@contextmanager
def _named(cache: Cache, fn: str | None, args: str | None) -> Iterator[tuple[Cache, list[str]]]:
    """Open the cache of a function, with the key of one of its calls; without a function, the one that is open."""
    if fn is None:
        yield cache, []
        return
    with key_of(cache, fn, args) as (own, key, _):
        yield own, [key]


def _droppable(cache: Cache, named: list[str]) -> None:
    from smw.errors import ConfigError

    if not named:
        fix = "--tag user:7, --key KEY, --function module:function --args '[7]', or --everything"
        raise ConfigError("SMW-K125", "smw cache invalidate was told nothing to drop", fix=fix)
    _served(cache, "the memory of other processes is theirs")


def _served(cache: Cache, without: str) -> None:
    """Refuse what makes no sense without a server."""
    from smw.errors import ConfigError

    if not cache.engine.remote.servers:
        fix = "set CACHE_L2_URL or CACHE_L3_SERVERS, or name the application by --app"
        raise ConfigError("SMW-K125", f"no server is configured: {without}", fix=fix)


def _listed(cache: Cache, silent: list[str]) -> None:
    from smw.errors import ConfigError

    if len(silent) == len(cache.engine.remote.servers):
        what = f"no server of this cache can list what it holds: {', '.join(silent)}"
        raise ConfigError("SMW-K125", what, fix="name a call: smw cache why module:function ARGUMENTS")


def _kept(cache: Cache, fn: Any) -> None:
    """Refuse to warm what ends with this process."""
    from smw.cache.functions.readers import cached_in

    found = cached_in(fn)
    if found is not None:
        _served(found[0].owner or cache, "what is loaded would end with this command")


def _confirmed(question: str) -> None:
    try:
        yes = typer.confirm(question, err=True)
    except typer.Abort:  # nobody answers
        yes = False
    if not yes:
        typer.echo("nothing was dropped", err=True)
        raise typer.Exit(2)


@contextmanager
def _answering() -> Iterator[None]:
    """End the command where a server does not answer, or what it holds cannot be read."""
    from smw.cache import StoreFailedError
    from smw.cache.values.codec import CorruptError

    try:
        yield
    except StoreFailedError as error:
        said = f"a server does not answer: {error.kind}{f'; {error.remedy}' if error.remedy else ''}"
    except CorruptError as error:
        said = f"what is stored there cannot be read: {error}"
    else:
        return
    typer.echo(said, err=True)
    raise typer.Exit(1)


def _lines(path: Path) -> list[Any]:
    """Return the calls of a file, all of them read before the first one is made."""
    from smw.errors import ConfigError

    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = "it is no text in UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise ConfigError("SMW-K125", f"{path} cannot be read: {why}", fix="name a file of JSON lines") from None
    calls: list[Any] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            args, kwargs = parted(line)
        except ConfigError as error:
            raise ConfigError(error.code, f"{path}, line {number}: {error.what}", seen=line, fix=error.fix) from None
        calls.append(kwargs or args)
    return calls


def _plain(value: Any) -> Any:
    """Return `value` if JSON can carry it, else how it reads."""
    try:
        return _json.loads(_json.dumps(value, default=repr))
    except (TypeError, ValueError):
        return repr(value)


def _number(count: int | None) -> str:
    return "" if count is None else str(count)


def _seconds(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds:.1f} s"


def _size(count: int) -> str:
    for unit, least in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= least:
            return f"{count / least:.1f} {unit}"
    return f"{count} B"
