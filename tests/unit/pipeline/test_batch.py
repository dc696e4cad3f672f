"""Batch jobs: rows in, so many a call, rows out; files appear whole or not at all; refused rows are kept."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import tracemalloc

import pytest
from pydantic import BaseModel

from smw import pipeline
from smw._kernel.signals import BatchDone
from smw.errors import ConfigError, RecordError
from smw.testing import Recorded


class Play(BaseModel):
    user: str
    ms: int


@pytest.fixture
def own():
    """A pipeline with batches of three."""
    return pipeline.Pipeline(batch_size=3)


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_rows_come_in_batches(own):
    """The function sees `batch_size` rows a call; its rows are the result."""
    calls = []

    @own.batch_transform("double")
    def double(rows):
        calls.append(len(rows))
        return [row * 2 for row in rows]

    recorded = Recorded(own.host)
    result = own.run("double", source=range(7))
    assert result.rows == [0, 2, 4, 6, 8, 10, 12]
    assert (calls, result.rows_in, result.rows_out, result.rejected) == ([3, 3, 1], 7, 7, 0)
    assert recorded.of(BatchDone) == [BatchDone("double", 7)]
    assert double([1]) == [2]


def test_the_size_can_be_said_closer(own):
    """The decorator's size beats the setting, the call's size beats both."""
    calls = []

    @own.batch_transform("size", batch_size=2)
    def size(rows):
        calls.append(len(rows))
        return rows

    own.run("size", source=range(4))
    own.run("size", source=range(4), batch_size=4)
    assert calls == [2, 2, 4]


def test_async_functions_and_async_sources(own):
    """An async function gets one event loop for the whole run; an async source works with either kind."""
    loops = set()

    @own.batch_transform("awaited")
    async def awaited(rows):
        loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return rows

    @own.batch_transform("plain")
    def plain(rows):
        return rows

    async def source():
        for number in range(5):
            yield number

    assert own.run("awaited", source=range(5)).rows == own.run("awaited", source=source()).rows == list(range(5))
    assert own.run("plain", source=source()).rows == list(range(5))
    assert len(loops) == 2


async def test_inside_an_event_loop(own):
    """`run` refuses to block the loop that its async function needs; `run_over` does the same job there."""

    @own.batch_transform("awaited")
    async def awaited(rows):
        return [row + 1 for row in rows]

    @own.batch_transform("plain")
    def plain(rows):
        return [row + 1 for row in rows]

    with pytest.raises(ConfigError, match="would block") as caught:
        own.run("awaited", source=[1])
    assert "run_over" in caught.value.fix
    for name in ("awaited", "plain"):
        result = await own.run_over(name, range(4))
        assert (result.rows, result.rows_out) == ([1, 2, 3, 4], 4)


def test_row_functions_are_lifted(own):
    """A function annotated as one record is called row by row: None drops a row, RecordError refuses it."""

    @own.batch_transform("keep")
    def keep(row: dict):
        if row["n"] == 1:
            raise RecordError("X-1", "one is not wanted")
        return row if row["n"] % 2 == 0 else None

    @own.batch_transform("enrich")
    async def enrich(row: Play) -> dict:
        await asyncio.sleep(0.001 * (3 - row.ms))
        return {"user": row.user.upper(), "ms": row.ms}

    result = own.run("keep", source=[{"n": n} for n in range(5)])
    assert result.rows == [{"n": 0}, {"n": 2}, {"n": 4}]
    assert [(reject.number, reject.reason) for reject in result.rejects] == [(2, "one is not wanted")]
    rows = own.run("enrich", source=[{"user": "a", "ms": "1"}, {"user": "b", "ms": 2}]).rows
    assert rows == [{"user": "A", "ms": 1}, {"user": "B", "ms": 2}]


def test_csv_to_jsonl(own, tmp_path):
    """A header with a byte order mark, quotes, line breaks and text of any script come through."""
    source, to = tmp_path / "in.csv", tmp_path / "out.jsonl"
    source.write_bytes('\ufeffuser,ms\r\nann,1\r\n"b, ""x""\nc",2\r\n\r\nжö,3\n'.encode())

    @own.batch_transform("typed")
    def typed(plays: list[Play]):
        return plays

    result = own.run("typed", source=source, to=str(to))
    assert lines(to) == [{"user": "ann", "ms": 1}, {"user": 'b, "x"\nc', "ms": 2}, {"user": "жö", "ms": 3}]
    assert (result.rows_in, result.rows_out, result.rows, result.rejected_path) == (3, 3, None, None)
    assert names(tmp_path) == ["in.csv", "out.jsonl"]


def test_jsonl_to_csv(own, tmp_path):
    """The first row names the columns; None is empty, nested values are JSON, missing columns are empty."""
    source, to = tmp_path / "in.ndjson", tmp_path / "out.csv"
    source.write_text('\ufeff{"a": 1, "b": [1, "x"]}\n\n{"b": null, "a": "q,\\"t"}\n{"a": true}\n', encoding="utf-8")
    own.batch_transform("same")(lambda rows: rows)
    own.run("same", source=source, to=to)
    assert to.read_text(encoding="utf-8") == 'a,b\n1,"[1,""x""]"\n"q,""t",\nTrue,\n'


def test_rows_may_be_models_and_dataclasses(own, tmp_path):
    """What a function returns is written by its fields."""

    @dataclasses.dataclass
    class Out:
        n: int

    own.batch_transform("out")(lambda rows: [Out(row) for row in rows])
    own.run("out", source=range(2), to=tmp_path / "o.csv")
    own.run("out", source=range(2), to=tmp_path / "o.jsonl")
    assert (tmp_path / "o.csv").read_text(encoding="utf-8") == "n\n0\n1\n"
    assert lines(tmp_path / "o.jsonl") == [{"n": 0}, {"n": 1}]


def test_bad_rows_are_kept_aside(own, tmp_path):
    """Ragged, undecodable, NUL, broken quotes, unfit values: each is in the file of refused rows, with its line."""
    source, to = tmp_path / "in.csv", tmp_path / "out.jsonl"
    rows = [b"user,ms", b"ok,1", b"short", b"long,1,2", b"b\xff,1", b"n\0,1", b'"q"x,1', b"text,many", b"fine,2"]
    source.write_bytes(b"\n".join([*rows, b'"open,3', b"swallowed,4"]))

    @own.batch_transform("typed")
    def typed(plays: list[Play]):
        return plays

    result = own.run("typed", source=source, to=to)
    assert [row["user"] for row in lines(to)] == ["ok", "fine"]
    refused = lines(tmp_path / "out.jsonl.rejected.jsonl")
    assert [row["line"] for row in refused] == [3, 4, 5, 6, 7, 8, 11]
    reasons = {row["line"]: row["reason"] for row in refused}
    assert "1 fields where the header has 2" in reasons[3]
    assert "3 fields" in reasons[4]
    assert reasons[5] == "not UTF-8"
    assert "NUL" in reasons[6]
    assert "expected after" in reasons[7]
    assert "ms: Input should be a valid integer" in reasons[8]
    assert "unexpected end" in reasons[11]
    raw = next(row["raw"] for row in refused if row["line"] == 5)
    assert raw.encode("utf-8", "surrogateescape") == b"b\xff,1\n"
    assert next(row["raw"] for row in refused if row["line"] == 11) == '"open,3\nswallowed,4'
    assert (result.rows_in, result.rows_out, result.rejected) == (9, 2, 7)
    assert result.rejected_path == tmp_path / "out.jsonl.rejected.jsonl"


def test_bad_json_lines_are_kept_aside(own, tmp_path):
    """So are lines that are no JSON; a later clean run removes the old file of refused rows."""
    source, to = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b'{"a":1}\n{"a":\nNaN\n\xff\n{"a":2}')
    own.batch_transform("same")(lambda rows: rows)
    result = own.run("same", source=source, to=to)
    assert (lines(to), result.rejected) == ([{"a": 1}, {"a": 2}], 3)
    assert [row["line"] for row in lines(result.rejected_path)] == [2, 3, 4]
    source.write_bytes(b'{"a":1}\n')
    assert own.run("same", source=source, to=to).rejected_path is None
    assert names(tmp_path) == ["in.jsonl", "out.jsonl"]


def test_a_line_too_long_to_hold(own, tmp_path, monkeypatch):
    """It is refused by its beginning, and the lines after it are read."""
    from smw.pipeline.formats import beside

    monkeypatch.setattr(beside.lines, "__defaults__", (1_000,))
    long = "x" * 5_000
    for suffix, text in ((".csv", f"a\n1\n{long}\n2\n"), (".jsonl", f'"1"\n"{long}"\n"2"\n')):
        source = tmp_path / f"in{suffix}"
        source.write_text(text, encoding="utf-8")
        own.batch_transform("same")(same)
        result = own.run("same", source=source)
        assert [row["a"] if isinstance(row, dict) else row for row in result.rows] == ["1", "2"]
        assert "too long" in result.rejects[0].reason
        assert len(result.rejects[0].raw) <= 1_000


def same(rows):
    return rows


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_an_empty_file_is_an_empty_result(own, tmp_path, suffix):
    """No rows in, a valid file without rows out."""
    source, to = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    source.write_text("", encoding="utf-8")
    own.batch_transform("same")(same)
    assert own.run("same", source=source, to=to).rows_in == 0
    assert to.read_text(encoding="utf-8") == ""


@pytest.mark.parametrize("header", ["a,a\n1,2\n", "a,\n1,2\n", '"a\n1,2\n', "\xff"])
def test_unusable_headers(own, tmp_path, header):
    """A header that repeats, misses or breaks a name is an error, not data."""
    source = tmp_path / "in.csv"
    source.write_bytes(header.encode("latin-1"))
    own.batch_transform("same")(same)
    with pytest.raises(RecordError, match=r"header of 'in\.csv' is unusable"):
        own.run("same", source=source)


def test_a_failing_function_leaves_nothing_behind(own, tmp_path):
    """Its exception comes out, noting the rows; the old result stands and no file of the new one exists."""
    source, to = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("1\nbad\n2\n3\n4\n5\n", encoding="utf-8")
    to.write_text("old", encoding="utf-8")

    @own.batch_transform("fails")
    def fails(rows):
        if 4 in rows:
            raise KeyError("four")
        return rows

    with pytest.raises(KeyError) as caught:
        own.run("fails", source=source, to=to)
    assert caught.value.__notes__ == ["in the batch job 'fails', rows 5 to 6"]
    assert to.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["in.jsonl", "out.jsonl"]


def test_a_list_is_extended_only_at_the_end(own):
    """`to=` takes a list; after a failure it is as before."""
    target = [0]

    @own.batch_transform("fails")
    def fails(rows):
        if 5 in rows:
            raise KeyError
        return rows

    own.run("fails", source=[1, 2], to=target)
    with pytest.raises(KeyError):
        own.run("fails", source=range(3, 9), to=target)
    assert target == [0, 1, 2]


@pytest.mark.parametrize("wrong", [5, "text", {"a": 1}, b"x"])
def test_what_is_no_list_of_rows(own, wrong):
    """A function that returns something else is named."""
    own.batch_transform("wrong")(lambda rows: wrong)
    with pytest.raises(RecordError, match="'wrong' returned"):
        own.run("wrong", source=[1])


def test_none_is_no_rows_and_one_warning(own, caplog):
    """Returning None writes nothing and warns once."""
    own.batch_transform("none")(lambda rows: None)
    assert own.run("none", source=range(9)).rows == []
    assert caplog.text.count("returned None") == 1


def test_columns_that_appear_later(own, tmp_path):
    """A column that the header lacks is an error that names it, and leaves no file."""
    own.batch_transform("same")(same)
    with pytest.raises(RecordError, match="column 'b'"):
        own.run("same", source=[{"a": 1}, {"a": 1, "b": 2}], to=tmp_path / "o.csv")
    with pytest.raises(RecordError, match="has no columns"):
        own.run("same", source=[1], to=tmp_path / "o.csv")
    assert names(tmp_path) == []


def test_wrong_sources_and_targets(own, tmp_path):
    """Each error names what was wrong and what would do."""
    own.batch_transform("same")(same)
    for options, said in (
        ({"source": "in.parquet"}, "known: .csv, .jsonl, .ndjson"),
        ({"source": tmp_path / "none.csv"}, "there is no file 'none.csv'"),
        ({"source": [], "to": tmp_path / "no" / "out.csv"}, "there is no folder"),
        ({"source": [], "to": "out.xml"}, "cannot tell the format"),
        ({"source": 5}, "source= takes rows"),
        ({"source": {"a": 1}}, "source= takes rows"),
        ({"source": [], "to": 5}, "to= takes"),
    ):
        with pytest.raises(ConfigError, match=said):
            own.run("same", **options)
    with pytest.raises(ConfigError, match="Did you mean 'same'"):
        own.run("sane", source=[])


def test_too_many_refused_rows_to_keep(own, monkeypatch):
    """Without a file for them, refused rows are bounded: the run ends and says what to do."""
    from smw.pipeline import batch

    monkeypatch.setattr(batch, "_MOST_REJECTS", 5)

    @own.batch_transform("typed")
    def typed(plays: list[Play]):
        return plays

    assert own.run("typed", source=[{}] * 5).rejected == 5
    with pytest.raises(RecordError, match="more than 5 rows"):
        own.run("typed", source=[{}] * 6)


def test_memory_stays_bounded(tmp_path):
    """A file ten times the allowance goes through within it."""
    own = pipeline.Pipeline(batch_size=100)
    source, to = tmp_path / "in.csv", tmp_path / "out.jsonl"
    with source.open("w", encoding="utf-8") as file:
        file.write("user,ms\n")
        file.writelines(f"{'u' * 100}{number},{number}\n" for number in range(100_000))
    own.batch_transform("same")(same)
    tracemalloc.start()
    own.run("same", source=source, to=to)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert source.stat().st_size > 10_000_000
    assert peak < 1_000_000


def test_figures(own):
    """Facts count the rows of each job."""
    own.batch_transform("same")(same)
    own.run("same", source=range(4))
    facts = {dict(fact.labels)["outcome"]: fact.value for fact in own.host.facts}
    assert facts == {"read": 4, "written": 4, "rejected": 0}
