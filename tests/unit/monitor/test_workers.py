"""The figures of several processes: nothing is lost or counted twice, whoever dies, and whenever."""

from __future__ import annotations

import errno
import fcntl
import gc
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from smw._kernel import workers as fellowship
from smw._kernel.clock import SystemEntropy
from smw._kernel.facts import Fact
from smw._kernel.host import Host
from smw._kernel.signals import BackendDown, BackendUp
from smw.monitor import Monitor, siblings, slab
from smw.monitor.workers import Workers

SOLD = ("business_sold_total", "outcome", "success")
REQUESTS = ("http_requests_total", "method", "GET", "route", "/a", "status", "200")
WORKER = """
import sys, time
from smw.monitor import Monitor

monitor = Monitor(workers_dir=sys.argv[1]).open()
sell = monitor.track_business_metric("sold", value=float)(lambda amount=2: amount)
print("ready", flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        monitor.http.started()
        monitor.http.finished("GET", "/a", 200, 0.01, 10)
        sell()
    print("done", flush=True)
"""


class Worker:
    """A process of its own that counts as often as it is told."""

    def __init__(self, folder):
        command = [sys.executable, "-c", WORKER, str(folder)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
        )
        self.pid = self._process.pid

    def _read(self):
        assert self._process.stdout.readline().strip() in {"ready", "done"}

    def ready(self):
        self._read()

    def start(self, times):
        self._process.stdin.write(f"{times}\n")
        self._process.stdin.flush()

    def count(self, times):
        self.start(times)
        self._read()

    def kill(self):
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)
        self._process.stdin.close()
        self._process.stdout.close()


@pytest.fixture
def folder(tmp_path):
    """A folder that workers share."""
    return tmp_path / "workers"


@pytest.fixture
def monitor(folder):
    """The monitor of this process, which shares the folder."""
    with Monitor(workers_dir=folder) as opened:
        yield opened


@pytest.fixture
def workers(folder):
    """Make worker processes, several at once; those that live are ended after the test."""
    made = []

    def start(count=1):
        begun = [Worker(folder) for _ in range(count)]
        made.extend(begun)
        for worker in begun:
            worker.ready()
        return begun

    yield start
    for worker in made:
        worker.kill()


@pytest.fixture
def dead(monitor, workers, folder):
    """The folder, in which a worker was killed that had counted ten times."""
    (worker,) = workers()
    worker.count(10)
    worker.kill()
    return folder


def count(monitor, times=1):
    for _ in range(times):
        monitor.http.started()
        monitor.http.finished("GET", "/a", 200, 0.01, 10)


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def files(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".cells")


def test_nothing_is_written_without_the_setting(tmp_path, monkeypatch):
    """A monitor alone keeps its figures in memory and makes no file."""
    monkeypatch.chdir(tmp_path)
    with Monitor() as monitor:
        count(monitor)
    assert list(tmp_path.iterdir()) == []


def test_the_figures_of_all_processes_add_up(monitor, workers, samples):
    """Requests, histogram, sizes and business metrics are sums; memory is that of all living processes."""
    alone = samples(monitor)["memory_usage_bytes",]
    first, second = workers(2)
    first.count(3)
    second.count(4)
    count(monitor, 2)
    seen = samples(monitor)
    labels = REQUESTS[1:]
    assert seen[REQUESTS] == seen[("http_request_duration_seconds_count", *labels)] == 9
    assert seen[("http_request_duration_seconds_bucket", "le", "0.01", *labels)] == 9
    assert seen[("http_request_duration_seconds_sum", *labels)] == pytest.approx(0.09)
    assert seen["http_request_size_bytes_sum", "method", "GET", "route", "/a"] == 90
    assert seen[SOLD] == 7
    assert seen["business_sold_value_sum",] == 14
    assert seen["memory_usage_bytes",] > alone + 20 * 2**20


def test_what_was_counted_before_joining_is_not_lost(folder, samples):
    """Figures from before `open` move into the shared file, and handles of decorated functions with them."""
    monitor = Monitor(workers_dir=folder)
    sell = monitor.track_business_metric("sold")(lambda: None)
    sell()
    count(monitor)
    with monitor, Monitor(workers_dir=folder) as other:
        sell()
        count(monitor)
        for each in (monitor, other):
            assert (samples(each)[SOLD], samples(each)[REQUESTS]) == (2, 2)


def test_sums_never_fall_while_workers_are_killed(monitor, workers, samples, folder):
    """Eight workers in turn are killed, most of them while they count: no scrape shows less than one before."""
    settled, before = 0, 0.0
    for turn, worker in enumerate([*workers(4), *workers(4)]):
        worker.count(50)
        settled += 50
        if turn % 4:
            worker.start(100_000)
            before = max(before, samples(monitor)[SOLD])
        worker.kill()
        for _ in range(3):
            seen = samples(monitor)
            assert seen[SOLD] >= before
            before = seen[SOLD]
            sums = [value for key, value in seen.items() if key[0] == "http_requests_total"]
            assert abs(sums[0] - before) <= turn + 1  # a request that was being counted when its worker died
        settled = max(settled, int(before))
    assert before >= settled
    assert len(files(folder)) == 1


def test_the_dead_have_no_gauges(monitor, workers, samples):
    """Connections and memory of a killed worker are gone with it."""
    monitor.http.started()
    alone = samples(monitor)["memory_usage_bytes",]
    (worker,) = workers()
    assert samples(monitor)["memory_usage_bytes",] > alone + 20 * 2**20
    worker.kill()
    seen = samples(monitor)
    assert seen["memory_usage_bytes",] < alone + 20 * 2**20
    assert seen["active_connections",] == 1


def test_gauges_that_all_see_alike_do_not_add_up(folder, samples):
    """A backend is up where every worker reaches it; a lag is the greatest that any of them measured."""
    hosts = Host(), Host()
    with Monitor(host=hosts[0], workers_dir=folder) as one, Monitor(host=hosts[1], workers_dir=folder) as two:
        for host, lag in zip(hosts, (3, 5), strict=True):
            host.bus.send(BackendUp("redis"))
            host.facts.add(lambda lag=lag: [Fact("smw_stream_lag_records", "gauge", "x", (("stream", "s"),), lag)])
        assert samples(one)["smw_backend_up", "backend", "redis"] == 1
        hosts[1].bus.send(BackendDown("redis", "timeout"))
        assert samples(one)["smw_backend_up", "backend", "redis"] == 0
        assert samples(two)["smw_stream_lag_records", "stream", "s"] == 5


def test_histograms_that_parts_keep_add_up(folder, samples):
    """The buckets and sums that several workers give away are added up, and grow by what is new alone."""
    hosts, kept = (Host(), Host()), [[1.0, 2.0, 0.0, 7.0], [0.0, 1.0, 1.0, 9.0]]

    def facts(cells):
        return [
            Fact("smw_wait_seconds", "histogram", "x", (("op", "read"),), sum(cells[:-1]), (1.0, 5.0), tuple(cells))
        ]

    with Monitor(host=hosts[0], workers_dir=folder) as one, Monitor(host=hosts[1], workers_dir=folder) as two:
        for host, cells in zip(hosts, kept, strict=True):
            host.facts.add(lambda cells=cells: facts(cells))
        samples(two)
        kept[0][0] += 4.0
        kept[0][3] += 2.0
        now = samples(one)
    assert now["smw_wait_seconds_bucket", "le", "1.0", "op", "read"] == 5
    assert now["smw_wait_seconds_bucket", "le", "+Inf", "op", "read"] == 9
    assert now["smw_wait_seconds_sum", "op", "read"] == 18


def _child(monitor, sell, go, done):
    sell()
    count(monitor, 2)
    done.put(os.getpid())
    go.wait(20)
    os._exit(0)


def test_a_forked_child_has_a_file_of_its_own(monitor, samples, folder):
    """After a fork, handles and series count into the child's file from zero; its end, however rude, loses nothing."""
    sell = monitor.track_business_metric("sold")(lambda: None)
    sell()
    count(monitor, 3)
    monitor.http.started()
    context = multiprocessing.get_context("fork")
    go, done = context.Event(), context.Queue()
    children = [context.Process(target=_child, args=(monitor, sell, go, done)) for _ in range(3)]
    for child in children:
        child.start()
    for _ in children:
        done.get(timeout=20)
    assert len(files(folder)) == 4
    assert (samples(monitor)[SOLD], samples(monitor)[REQUESTS]) == (4, 9)
    assert samples(monitor)["active_connections",] == 1
    go.set()
    for child in children:
        child.join(20)
    assert (samples(monitor)[SOLD], samples(monitor)[REQUESTS]) == (4, 9)
    assert len(files(folder)) == 1


def test_facts_are_published_without_a_scrape(folder, samples, monkeypatch):
    """A source's figures reach others by the thread's tick; those of a source that ends stay, but for its gauges."""
    host = Host()
    figures = {"hits": 2.0}

    def source():
        yield Fact("smw_things_total", "counter", "x", (), figures["hits"])
        yield Fact("smw_things", "gauge", "x", (), 7)

    with Monitor(host=host, workers_dir=folder) as worker, Monitor(workers_dir=folder) as scraped:
        remove = host.facts.add(source)
        assert samples(scraped)["smw_things_total",] == 2
        figures["hits"] = 5
        assert samples(scraped)["smw_things_total",] == 2
        worker._shared._tick()
        assert (samples(scraped)["smw_things_total",], samples(scraped)["smw_things",]) == (5, 7)
        figures["hits"] = 6
        remove()
        worker._shared._tick()
        assert samples(scraped)["smw_things_total",] == 6
        assert ("smw_things",) not in samples(scraped)


def test_a_thread_publishes_as_long_as_the_monitor_lives(folder):
    """The thread starts with the first source of facts, not before, and ends with `close`."""
    host = Host()
    monitor = Monitor(host=host, workers_dir=folder).open()
    assert monitor._shared._ticker._thread is None
    host.facts.add(tuple)
    thread = monitor._shared._ticker._thread
    assert thread.is_alive()
    monitor.close()
    assert not thread.is_alive()


def test_facts_of_the_parent_are_not_the_childs(folder, samples):
    """A counter that a source goes on counting in a forked child is published from there on, by its own thread."""
    host = Host()
    hits = [5.0]
    host.facts.add(lambda: [Fact("smw_things_total", "counter", "x", (), hits[0])])
    with Monitor(host=host, workers_dir=folder) as monitor:
        assert samples(monitor)["smw_things_total",] == 5
        child = os.fork()
        if child == 0:
            hits[0] += 2
            monitor._shared._tick()
            os._exit(not monitor._shared._ticker._thread.is_alive())
        assert os.waitpid(child, 0)[1] == 0
        assert samples(monitor)["smw_things_total",] == 7


def test_a_closed_monitor_leaves_its_counts(folder, samples, monitor):
    """Counts of a monitor that was closed in this process stay, once; its gauges count no more."""
    with Monitor(workers_dir=folder) as other:
        count(other)
        other.http.started()
        assert samples(monitor)["active_connections",] == 1
    assert (samples(monitor)[REQUESTS], samples(monitor)["active_connections",]) == (1, 0)
    del other
    gc.collect()
    assert (samples(monitor)[REQUESTS], len(files(folder))) == (1, 1)


class Killed(BaseException):
    """The process ended here."""


@pytest.mark.parametrize("dies", [("write", 1), ("replace", 1), ("unlink", 1), ("unlink", 2), ("unlink", 3)])
def test_a_fold_that_is_killed_neither_loses_nor_doubles(folder, samples, workers, monkeypatch, dies):
    """Whatever a fold was about to do when it ended: the next scrape shows the same sums, and so does the next fold."""
    both = workers(2)
    for worker in both:
        worker.count(10)
        worker.kill()
    monitor = Monitor(workers_dir=folder)
    step, call = dies
    left = [call]

    def dying(real):
        def instead(*args, **options):
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return real(*args, **options)

        return instead

    with monkeypatch.context() as patch:
        if step == "write":
            patch.setattr("smw.monitor.workers.image", dying(slab.image))
        else:
            patch.setattr(Path, step, dying(getattr(Path, step)))
        with pytest.raises(Killed):
            monitor.open()
    with monitor:
        assert samples(monitor)[SOLD] == 20
        assert samples(monitor)[SOLD] == 20
        assert len(files(folder)) == 1


def test_two_folds_at_once_are_one(dead, samples, monitor):
    """While one process folds, another leaves the dead alone and still shows them once."""
    with (dead / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert samples(monitor)[SOLD] == 10
        assert len(files(dead)) == 2
    assert samples(monitor)[SOLD] == 10
    assert len(files(dead)) == 1


def test_a_scrape_during_a_fold_starts_again(dead, samples, monitor, monkeypatch):
    """Files that are taken in between reading the sums and listing the folder are not missed."""
    ours = monitor._shared._workers._folder
    real = ours.names
    others = Workers(dead, SystemEntropy(), most=100)

    def names():
        others.fold()
        return real()

    monkeypatch.setattr(ours, "names", names)
    assert samples(monitor)[SOLD] == 10


@pytest.mark.parametrize("content", [b"", b"SMWCELL1", b"x" * 70_000, b"SMWCELL1" + b"\xff" * 70_000])
def test_files_that_are_none_of_ours_do_no_harm(folder, samples, monitor, content):
    """Unfinished, foreign and damaged files are passed over and cleared away."""
    (folder / "1-bad.cells").write_bytes(content)
    count(monitor)
    assert samples(monitor)[REQUESTS] == 1
    assert samples(monitor)[REQUESTS] == 1
    assert "1-bad.cells" not in files(folder)


@pytest.mark.parametrize("bad", ["file", "unwritable"])
def test_a_folder_that_cannot_be_used_is_one_warning(tmp_path, samples, caplog, bad):
    """The monitor works on private figures and says why, whether the folder is a file or nobody may write there."""
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" if bad == "file" else Path("/proc/nowhere")
    with caplog.at_level(logging.WARNING), Monitor(workers_dir=folder) as monitor:
        count(monitor)
        assert samples(monitor)[REQUESTS] == 1
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [f"workers_dir {folder} cannot be used"]


def test_a_system_without_file_locks_is_one_warning(folder, samples, caplog, monkeypatch):
    """Where `flock` is missing the setting is refused with its reason, and figures stay private."""
    monkeypatch.setitem(sys.modules, "smw.monitor.shared", None)
    with Monitor(workers_dir=folder) as monitor:
        count(monitor)
        assert samples(monitor)[REQUESTS] == 1
    assert ["flock" in record.getMessage() for record in caplog.records] == [True]
    assert not folder.exists()


def test_a_full_disk_keeps_new_series_private(folder, samples, caplog, monkeypatch):
    """Series that find no room count on in private, with one warning; those that have a place stay shared."""
    with Monitor(workers_dir=folder) as monitor, Monitor(workers_dir=folder) as other:
        count(monitor)

        monkeypatch.setattr(os, "pwrite", full)
        for number in range(1000):
            monitor.http.finished("GET", f"/r{number}", 200, 0.01)
        count(monitor)
        last = ("http_requests_total", "method", "GET", "route", "/r999", "status", "200")
        assert (samples(monitor)[REQUESTS], samples(monitor)[last]) == (2, 1)
        assert samples(other)[REQUESTS] == 2
        assert last not in samples(other)
    assert len([record for record in caplog.records if "takes no more series" in record.getMessage()]) == 1


def test_a_full_disk_at_the_fold_leaves_the_dead_where_they_are(dead, samples, monitor, caplog, monkeypatch):
    """The sums are right although they cannot be written, and are tidied up once there is room."""
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        assert samples(monitor)[SOLD] == samples(monitor)[SOLD] == 10
    assert len([record for record in caplog.records if "stays there" in record.getMessage()]) == 1
    assert samples(monitor)[SOLD] == 10
    assert len(files(dead)) == 1


def test_what_is_kept_of_the_dead_is_bounded(folder, samples):
    """Beyond the limit of series the dead count in one series, whose labels are `overflow`; no count is lost."""
    for turn in range(3):
        with Monitor(workers_dir=folder, series_max=2) as monitor:
            for number in range(2):
                monitor.http.finished("GET", f"/r{turn}{number}", 200, 0.01)
        del monitor
        gc.collect()
    with Monitor(workers_dir=folder, series_max=2) as monitor:
        seen = {key[4]: value for key, value in samples(monitor).items() if key[0] == "http_requests_total"}
    assert seen == {"/r00": 1, "/r01": 1, "overflow": 4}


def test_files_are_for_their_owner_alone(folder, monitor, workers, samples):
    """Nobody else may read or replace the figures."""
    (worker,) = workers()
    worker.count(1)
    worker.kill()
    samples(monitor)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_workers_without_the_setting_are_noticed_once(monkeypatch, caplog):
    """A worker of a known server that has siblings names the setting, once a process; a lone process says nothing."""
    monkeypatch.setattr(siblings, "_looked", threading.Event())
    Monitor().exposition()
    assert caplog.records == []
    monkeypatch.setattr(siblings, "_looked", threading.Event())
    monkeypatch.setitem(sys.modules, "gunicorn.arbiter", siblings)
    monkeypatch.setattr(fellowship, "_same_parent", lambda **_: 3)
    Monitor().exposition()
    Monitor().exposition()
    assert [record.getMessage() for record in caplog.records] == [
        "/metrics shows this worker alone, one of 4; set MONITOR_WORKERS_DIR to a folder for all of them"
    ]
