"""`audit_log` and `require_compliance` around real calls: records, denials, outcomes, failures of the log."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading

import pytest

import smw
from smw import errors, security
from smw._kernel.host import Host
from smw._kernel.signals import AccessDenied, AccessShadowed, TrailFailed
from smw.security import Principal, Security, acting
from smw.security.trail.verify import verify
from smw.testing import Recorded, isolated

CATALOGUE = {
    "fields": {"user_id": "personal", "pan": "card", "cvv": "card_secret", "wait": "public"},
    "purposes": {"play": {"basis": "contract", "classes": ["personal"]}},
    "roles": {"curator": ["personal"]},
    "retention_years": 7,
}
ADA = Principal(id="ada", roles=frozenset({"curator"}))
LEVELS = ("LOW", "MEDIUM", "HIGH")


@pytest.fixture
def part(tmp_path):
    made = []

    def make(**options) -> Security:
        options = {"trail_dir": tmp_path / "trail", "catalogue": CATALOGUE, "mode": "enforce"} | options
        made.append(Security(options, host=options.pop("host", None)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def records(part: Security) -> list[dict]:
    part.trail.checkpoint()
    return [record for record in part.trail.records() if record["kind"] != "log"]


@pytest.mark.parametrize(
    ("level", "kinds"), [("LOW", ["outcome"]), ("MEDIUM", ["intent", "outcome"]), ("HIGH", ["intent", "outcome"])]
)
def test_level_decides_what_is_recorded(part, level, kinds):
    """LOW records the outcome alone; the other levels a pair that belongs together."""
    p = part(audit_level=level)

    @p.audit_log("read", subject="user_id", resource="playlist:{pid}", keep=("pid",))
    def read(user_id, pid):
        return pid

    with acting(ADA, purpose="play", source="192.0.2.1"):
        assert read("eve", 7) == 7
    found = records(p)
    assert [record["kind"] for record in found] == kinds
    first = found[0]
    assert (first["action"], first["actor"], first["source"], first["purpose"]) == ("read", "ada", "192.0.2.1", "play")
    assert (first["resource"], first["args"], first["subjects"]) == ("playlist:7", {"pid": 7}, [p.pseudonym("eve")])
    assert found[-1]["result"] == "ok"
    if len(kinds) == 2:
        assert found[1]["intent_seq"] == first["seq"]


def test_only_kept_arguments_are_readable(part):
    """A secret argument appears nowhere in the files of the log; equal arguments have equal digests."""
    p = part(digest_key="k" * 16)

    @p.audit_log("login", keep=("name",), subject="name")
    def login(name, password, token=None):
        return token

    login("eve", "hunter2")
    login("eve", "hunter2")
    login("eve", "hunter3")
    found = [record["args_digest"] for record in records(p) if record["kind"] == "intent"]
    assert found[0] == found[1] != found[2]
    text = b"".join(path.read_bytes() for path in p.settings.trail_dir.rglob("*.jsonl"))
    assert b"hunter" not in text
    assert b'"name":"eve"' in text


def test_pseudonyms_depend_on_the_secret(part):
    """With a configured secret a subject has the same pseudonym in every process; with another, another."""
    one, same, other = (part(digest_key=key * 16) for key in "aab")
    assert one.pseudonym("eve") == same.pseudonym("eve") != other.pseudonym("eve")
    assert part().pseudonym("eve") != part().pseudonym("eve")


@pytest.mark.parametrize("level", LEVELS)
def test_denial_is_one_record(part, level):
    """A denied call does not run, is one record, and the error names control, clause and what is missing."""
    p, calls = part(audit_level=level), []
    heard = Recorded(p.host)

    @p.audit_log("read")
    @p.require_compliance(["GDPR"])
    def read(user_id):
        calls.append(user_id)

    with pytest.raises(errors.Denied) as refused, acting(ADA):
        read(1)
    assert calls == []
    assert refused.value.control == "gdpr.purpose"
    assert "6(1)" in refused.value.clause
    assert "a purpose" in refused.value.missing
    (record,) = records(p)
    assert (record["kind"], record["control"], record["action"]) == ("denied", "gdpr.purpose", "read")
    assert "gdpr.purpose:deny" in record["controls"]
    assert len(heard.of(AccessDenied)) == 1
    assert p.report().denied == 1


@pytest.mark.parametrize("level", LEVELS)
def test_passing_call_records_its_evidence(part, level):
    """A call that passes runs once; both decorators share one pair of records, with controls and evidence."""
    p, calls = part(audit_level=level), []

    @p.audit_log("read")
    @p.require_compliance(["GDPR", "SOX"])
    def read(user_id):
        calls.append(user_id)
        return "value"

    with acting(ADA, purpose="play"):
        assert read(1) == "value"
    found = records(p)
    assert calls == [1]
    assert len(found) == (1 if level == "LOW" else 2)
    assert found[0]["evidence"]["basis"] == "contract"
    assert found[0]["mode"] == "enforce"
    assert found[0]["policy"] == p.catalogue.digest
    assert all(result.endswith(":allow") for result in found[0]["controls"])
    assert p.report().judged == {read.__module__ + ":" + read.__qualname__: 1}


def test_compliance_alone_records_under_the_qualified_name(part):
    """Without `audit_log` the controls still leave a record, named after the function."""
    p = part()

    @p.require_compliance(["GDPR"], purpose="play")
    def read(user_id):
        return user_id

    assert read(3) == 3
    assert {record["action"] for record in records(p)} == {read.__qualname__}


def test_shadow_runs_and_tells(part, caplog):
    """In shadow mode the call runs; log (once), signal (each time) and report say what would have been denied."""
    p = part(mode="shadow")
    heard = Recorded(p.host)

    @p.audit_log("read")
    @p.require_compliance(["GDPR"])
    def read(user_id):
        return user_id

    with caplog.at_level(logging.WARNING, "smw.security"):
        assert [read(1), read(2)] == [1, 2]
    assert caplog.text.count("would have been denied by gdpr.purpose") == 1
    assert sum(signal.control == "gdpr.purpose" for signal in heard.of(AccessShadowed)) == 2
    report = p.report()
    assert report.denied == 0
    assert report.shadowed >= 2
    assert "would have been denied by gdpr.purpose" in str(report)
    assert {record.get("mode") for record in records(p) if record["kind"] == "intent"} == {"shadow"}


@pytest.mark.parametrize(("profile", "refused"), [("production", True), ("development", False), ("testing", False)])
def test_profile_decides_the_mode(tmp_path, profile, refused):
    """Production enforces, development and testing watch, unless told otherwise."""
    with isolated(profile, security={"trail_dir": tmp_path, "catalogue": CATALOGUE}) as runtime:

        @security.require_compliance(["GDPR"])
        def read(user_id):
            return user_id

        assert runtime.security.enforces is refused
        with pytest.raises(errors.Denied) if refused else contextlib.nullcontext():
            read(1)


def test_mode_of_the_decorator_wins(part):
    """A function may be watched under enforcement, and enforced where the rest is watched."""
    watched, strict = part(), part(mode="shadow")
    assert watched.require_compliance(["SOX"], mode="shadow")(lambda user_id: user_id)(1) == 1
    with pytest.raises(errors.Denied):
        strict.require_compliance(["SOX"], mode="enforce")(lambda user_id: user_id)(1)


def test_production_without_a_folder_is_a_configuration_error():
    """A log in memory is none in production: the first recorded call says which setting is missing."""
    p = Security(host=Host(profile="production"))
    with pytest.raises(errors.ConfigError, match=r"security\.trail_dir"):
        p.audit_log("read")(lambda: 1)()
    p.close()


def test_development_without_a_folder_records_in_memory():
    """Without a folder development has a log in memory, and controls that need a durable one say so."""
    p = Security(catalogue=CATALOGUE)
    assert p.require_compliance(["SOX"])(lambda user_id: user_id)(1) == 1
    assert any("trail_dir" in finding.missing for finding, _ in p.report().findings)
    assert len(records(p)) == 2
    p.close()


@pytest.mark.parametrize("level", LEVELS)
def test_errors_are_outcomes(part, level):
    """An exception reaches the caller unchanged and is the outcome; its text, which may hold secrets, is not kept."""
    p = part(audit_level=level)

    @p.audit_log("write")
    def write():
        raise KeyError("secret detail")

    with pytest.raises(KeyError, match="secret detail"):
        write()
    last = records(p)[-1]
    assert (last["result"], last["reason"]) == ("error", "KeyError")
    assert "secret detail" not in str(records(p))


def test_denial_further_down_is_an_error_of_the_caller(part):
    """A function that calls a denied one did not get denied itself."""
    p = part()
    inner = p.require_compliance(["GDPR"])(lambda user_id: user_id)

    @p.audit_log("outer")
    def outer():
        return inner(1)

    with pytest.raises(errors.Denied):
        outer()
    last = records(p)[-1]
    assert (last["action"], last["result"], last["reason"]) == ("outer", "error", "Denied")


async def test_async_calls_and_cancellation(part):
    """Coroutines are recorded like functions; a cancelled one has the outcome `cancelled`."""
    p = part(audit_level="HIGH")

    started = asyncio.Event()

    @p.audit_log("read")
    @p.require_compliance(["GDPR"], purpose="play")
    async def read(user_id, wait):
        started.set()
        await asyncio.sleep(wait)
        return user_id

    assert inspect.iscoroutinefunction(read)
    assert await read(1, 0) == 1
    started.clear()
    task = asyncio.create_task(read(2, 30))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [r["result"] for r in records(p) if r["kind"] == "outcome"] == ["ok", "cancelled"]


def test_generators_are_recorded_when_they_end(part):
    """A generator that ends is `ok`, one that is closed early is `closed`, one never begun leaves nothing."""
    p = part()

    @p.audit_log("list")
    @p.require_compliance(["GDPR"], purpose="play")
    def listing(user_id):
        yield user_id
        yield user_id + 1

    assert list(listing(1)) == [1, 2]
    started = listing(5)
    assert next(started) == 5
    started.close()
    listing(9)
    assert [r["result"] for r in records(p) if r["kind"] == "outcome"] == ["ok", "closed"]


async def test_async_generators_are_recorded_when_they_end(part):
    """An async generator behaves like a generator."""
    p = part()

    @p.audit_log("list")
    async def listing(n):
        for i in range(n):
            yield i

    assert [i async for i in listing(2)] == [0, 1]
    started = listing(2)
    assert await anext(started) == 0
    await started.aclose()
    assert [r["result"] for r in records(p) if r["kind"] == "outcome"] == ["ok", "closed"]


async def test_denied_coroutine_and_generator(part):
    """Denials reach awaiting and iterating callers, and nothing runs."""
    p, ran = part(), []

    @p.require_compliance(["GDPR"])
    async def read(user_id):
        ran.append(user_id)

    @p.require_compliance(["GDPR"])
    def listing(user_id):
        ran.append(user_id)
        yield user_id

    with pytest.raises(errors.Denied):
        await read(1)
    with pytest.raises(errors.Denied):
        next(listing(1))
    assert ran == []


def test_card_secrets_in_the_result_withhold_it(part):
    """A result with a verification code is not handed out; the record says denied although the function ran."""
    p = part(catalogue=CATALOGUE | {"roles": {"cashier": ["card"]}})
    who = Principal(id="ada", roles=frozenset({"cashier"}), authentication="mfa", idle_s=1.0)

    @p.audit_log("charge")
    @p.require_compliance(["PCI-DSS"])
    def charge(pan):
        return {"pan": pan, "cvv": "123"}

    with acting(who), pytest.raises(errors.Denied, match=r"pci\.sad"):
        charge("4111")
    assert [(r["kind"], r.get("result")) for r in records(p)] == [("intent", None), ("outcome", "denied")]


def test_methods_leave_self_out(part):
    """The instance is no argument of the record: two instances have one digest."""
    p = part(audit_level="LOW")

    class Store:
        @p.audit_log("read", subject="user_id")
        def read(self, user_id, more):
            return more

        @classmethod
        @p.audit_log("make")
        def make(cls, n):
            return n

    Store().read(1, "x")
    Store().read(1, "x")
    assert Store.make(3) == 3
    one, other, _ = (record["args_digest"] for record in records(p))
    assert one == other


def test_arguments_are_recorded_as_they_were_before_the_call(part):
    """A function that changes its argument does not change the record of it."""
    p = part(audit_level="LOW")

    @p.audit_log("pop", keep=("items",))
    def pop(items):
        items.clear()

    pop([1, 2])
    assert records(p)[0]["args"] == {"items": [1, 2]}


def len_of(ids):
    return len(ids)


def test_bulk_subjects_are_counted(part):
    """A long list of subjects is a count and a digest instead of thousands of pseudonyms."""
    p = part(audit_level="LOW")
    read = p.audit_log("export", subject="ids")(len_of)
    read(["a", "b"])
    read([str(n) for n in range(100)])
    few, many = records(p)
    assert few["subjects"] == [p.pseudonym("a"), p.pseudonym("b")]
    assert many["subjects_count"] == 100
    assert "subjects" not in many


class Awkward:
    def __getattr__(self, name):
        raise RuntimeError(name)

    def __repr__(self):
        raise RuntimeError


LOOP: list = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        10**5000,
        "x" * 10**6,
        "\ud800",
        b"\xff",
        LOOP,
        {1, "a"},
        {1: 2, "1": 3},
        Awkward(),
        object,
        lambda: 0,
    ],
    ids=["nan", "huge int", "long", "surrogate", "bytes", "cycle", "set", "mixed keys", "awkward", "type", "lambda"],
)
def test_any_argument_can_be_recorded(part, value):
    """Odd, huge, cyclic arguments neither break the call nor the log, kept or not."""
    p = part(audit_level="LOW")
    assert p.audit_log("x")(lambda v: 1)(value) == 1
    assert p.audit_log("x", keep=("v",), resource="r:{v}")(lambda v: 1)(value) == 1
    p.close()
    assert verify(p.settings.trail_dir).status == "ok"


def test_an_argument_whose_code_fails_refuses_under_enforcement(part):
    """An argument that cannot be looked at cannot be recorded: enforced calls do not run, watched ones do."""

    class Trap(dict):
        def items(self):
            raise RuntimeError

    strict, watching = part(audit_level="LOW"), part(audit_level="LOW", mode="shadow")
    with pytest.raises(errors.AuditUnavailable, match="cannot be described"):
        strict.audit_log("x", keep=("v",))(lambda v: 1)(Trap())
    assert watching.audit_log("x", keep=("v",))(lambda v: 1)(Trap()) == 1
    assert watching.report().unrecorded >= 1


def test_wrong_arguments_are_pythons_error(part):
    """A call that does not fit the function raises the TypeError that Python would raise."""
    p = part()

    @p.audit_log("read", subject="user_id")
    def read(user_id):
        return user_id

    with pytest.raises(TypeError, match="user_id"):
        read()


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"subject": "usr_id"}, "Did you mean 'user_id'"),
        ({"resource": "playlist:{pidd}"}, "Did you mean 'pid'"),
        ({"keep": ("nope",)}, "keep names 'nope'"),
        ({"keep": ("{pid}",)}, "keep names"),
        ({"resource": "x:{pid.attr}"}, "bare name"),
        ({"resource": "x:{pid!r}"}, "bare name"),
        ({"resource": "x:{"}, "no template"),
    ],
)
def test_wrong_names_fail_at_decoration(part, options, hint):
    """A name that is no argument, or no plain template, is an error where it is written."""
    p = part()
    with pytest.raises(errors.DecorationError, match=hint):

        @p.audit_log("read", **options)
        def read(user_id, pid):
            return user_id, pid


@pytest.mark.parametrize(
    "make",
    [
        lambda: security.audit_log(""),
        lambda: security.audit_log(lambda: 1),
        lambda: security.audit_log("x", keep="user_id"),
        lambda: security.require_compliance([]),
        lambda: security.require_compliance(["GDRP"]),
        lambda: security.require_compliance(["GDPR"], data="personal"),
        lambda: security.require_compliance(["GDPR"], mode="maybe"),
        lambda: security.require_compliance(["GDPR"])(type("Thing", (), {})),
        lambda: security.require_compliance(["PCI"])(lambda: (yield)),
    ],
)
def test_wrong_use_fails_at_decoration(make):
    """Wrong options and wrong targets are errors at import, never at the first call."""
    with pytest.raises(errors.DecorationError):
        make()


def test_unknown_data_class_is_a_configuration_error(part):
    """A data class that does not exist is named at the first call."""
    with pytest.raises(errors.ConfigError, match="unknown data class 'persnal'"):
        part().require_compliance(["GDPR"], data=("persnal",))(lambda: 1)()


def test_order_is_law():
    """`audit_log` belongs above `require_compliance`, so that denials are recorded."""
    with pytest.raises(errors.StackingError):
        security.require_compliance(["GDPR"])(security.audit_log("x")(lambda: 1))


def test_two_audit_logs_are_two_pairs(part):
    """Two actions on one function are recorded as two, also when it is denied."""
    p = part(audit_level="MEDIUM")

    @p.audit_log("outer")
    @p.audit_log("inner")
    @p.require_compliance(["GDPR"])
    def read(user_id):
        return user_id

    with acting(ADA, purpose="play"):
        read(1)
    with pytest.raises(errors.Denied):
        read(1)
    found = [(r["action"], r["kind"]) for r in records(p)]
    assert sorted(found[:4]) == sorted((a, k) for a in ("outer", "inner") for k in ("intent", "outcome"))
    assert sorted(found[4:]) == [("inner", "denied"), ("outer", "denied")]


def test_acting_is_seen_in_its_own_thread_only(part):
    """Two threads that act as two persons are recorded as two persons."""
    p = part(audit_level="LOW")
    read = p.audit_log("read")(lambda n: n)
    barrier = threading.Barrier(2)

    def work(name):
        with acting(name):
            barrier.wait()
            read(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("ada", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read("nobody")
    assert sorted(record.get("actor", "") for record in records(p)) == ["", "ada", "bob"]


class Broken(Security):
    """A part whose disk can be made to fail."""

    broken = False

    def _open_store(self):
        from smw.security.trail.files import FileStore

        def sync(_fd):
            if self.broken:
                raise OSError(28, "No space left on device")

        return FileStore(self.settings.trail_dir / "0001-0123456789ab", sync=sync)


@pytest.mark.parametrize("level", LEVELS)
def test_failing_log_refuses_under_enforcement(tmp_path, level):
    """While the log cannot be written an enforced call is refused, with one clear error; afterwards it works again."""
    p = Broken(trail_dir=tmp_path, audit_level=level, mode="enforce")
    calls = []
    write = p.audit_log("write", keep=("n",))(lambda n: calls.append(n) or n)
    write(0)
    p.trail.checkpoint()
    p.broken = True
    with contextlib.suppress(errors.AuditUnavailable):
        p.trail.checkpoint()
    before = len(calls)
    with pytest.raises(errors.AuditUnavailable, match="SMW-A1"):
        write(1)
    assert len(calls) == before
    p.broken = False
    for _ in range(200):
        with contextlib.suppress(errors.AuditUnavailable):
            write(2)
            break
        threading.Event().wait(0.02)
    assert calls[-1] == 2
    p.close()
    assert verify(tmp_path).status == "ok"


@pytest.mark.parametrize("level", LEVELS)
def test_refused_calls_are_none_that_ran_unrecorded(part, tmp_path, caplog, level):
    """A log that cannot be opened refuses enforced calls, and nothing claims that they ran without a record."""
    (tmp_path / "trail").write_text("in the way")
    p = part(trail_dir=tmp_path / "trail", audit_level=level, mode="enforce")
    heard = Recorded(p.host)
    with pytest.raises(errors.AuditUnavailable, match="SMW-A125"):
        p.audit_log("write")(lambda n: n)(1)
    assert heard.of(TrailFailed)
    assert p.report().unrecorded == 0
    assert "run without" not in caplog.text


@pytest.mark.parametrize("level", LEVELS)
def test_failing_log_lets_watched_calls_run(tmp_path, level):
    """In shadow mode a failing log is a signal, a log line and a number in the report; the call runs."""
    p = Broken(trail_dir=tmp_path, audit_level=level, mode="shadow")
    heard = Recorded(p.host)
    write = p.audit_log("write")(lambda n: n)
    write(0)
    p.trail.checkpoint()
    p.broken = True
    with pytest.raises(errors.AuditUnavailable):
        p.trail.checkpoint()
    assert [write(n) for n in range(3)] == [0, 1, 2]
    assert heard.of(TrailFailed)
    if level != "LOW":
        assert p.report().unrecorded >= 3
        assert "without a record" in str(p.report())
    p.broken = False
    p.close()
    assert verify(tmp_path).status == "ok"


def test_result_is_withheld_when_nothing_of_the_call_is_durable(tmp_path):
    """At MEDIUM a log that fails during the call withholds the result; an exception of the call is not replaced."""
    p = Broken(trail_dir=tmp_path, audit_level="MEDIUM", mode="enforce")

    @p.audit_log("read")
    def read(fail):
        p.broken = True
        if fail:
            raise KeyError(fail)
        return "secret"

    with pytest.raises(errors.AuditUnavailable):
        read(fail=False)
    p.broken = False
    for _ in range(200):
        with contextlib.suppress(errors.AuditUnavailable):
            p.trail.ensure()
            break
        threading.Event().wait(0.02)
    with pytest.raises(KeyError):
        read(fail=True)
    p.broken = False
    p.close()


def test_durable_intent_is_enough_at_high(tmp_path):
    """At HIGH the durable intent shows the call, so a log that fails during it does not withhold the result."""
    p = Broken(trail_dir=tmp_path, audit_level="HIGH", mode="enforce")

    @p.audit_log("read")
    def read():
        p.broken = True
        return "value"

    assert read() == "value"
    assert p.report().unrecorded == 1
    p.broken = False
    p.close()


def test_current_runtime_is_used_and_explained(tmp_path):
    """The decorators of the package find the current runtime's part, and `explain` shows them."""

    @smw.audit_log("read")
    @smw.require_compliance(["GDPR", "PCI-DSS"], purpose="play")
    def read(user_id):
        return user_id

    with isolated(security={"trail_dir": tmp_path / "a"}) as runtime:
        assert read(1) == 1
        runtime.security.trail.checkpoint()
    with isolated(security={"trail_dir": tmp_path / "b"}):
        assert read(2) == 2
    assert "@audit_log('read')" in str(smw.explain(read))
    assert "GDPR, PCI" in str(smw.explain(read))
    assert verify(tmp_path / "a").records == verify(tmp_path / "b").records == 3
