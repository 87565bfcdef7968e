"""Legacy files that old code writes without a pause, or in ways that leave no trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from pend_storage import crashpoints
from pend_storage._files.directory import Directory
from pend_storage.errors import StoreUnavailable
from pend_storage.events import Event
from pend_storage.schema import LEGACY_FILES
from pend_storage.stores.json import JsonStore, PassiveJsonStore
from pend_storage.stores.json._legacy_sync import (
    file_manifest,
    file_sync,
    write_pace,
)
from pend_storage.stores.json._legacy_sync.atomic_replace import SingleFile
from pend_storage.stores.json._legacy_sync.file_sync import FileSync
from pend_storage.stores.json._legacy_sync.synced_file import SyncedFile

MAP: Final = "consents-db.json"


class Clock:
    """The module ``time``, some time later."""

    def __init__(self) -> None:
        self.later = 0.0

    def time(self) -> float:
        return time.time() + self.later

    def monotonic(self) -> float:
        return time.monotonic() + self.later

    def sleep(self, seconds: float) -> None:
        self.later += seconds


def names(events: list[Event]) -> list[str]:
    quiet = {"file-adopted", "outside-edit-adopted"}
    return [e.name for e in events if e.name not in quiet]


def write(old: Any, value: Any) -> None:
    """As old code does: in place, and just now."""
    (old.directory / MAP).write_text(json.dumps(value))


def write_unseen(path: Path, text: str) -> None:
    """In place, as many bytes as before, and the time put back (``rsync --inplace -t``)."""
    before = path.stat()
    assert len(text.encode()) == before.st_size
    with path.open("r+") as file:
        file.write(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def path(directory: Path, old: Any) -> Path:
    old.save(MAP, {"a": "10.00", "b": "20.00"})
    return directory / MAP


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (file_sync, write_pace):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def no_ctime(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without a time of the last change of status."""
    monkeypatch.setattr(file_manifest, "_ctime_of", lambda _: 1)


def shown(store: JsonStore) -> Any:
    return store.legacy(MAP).snapshot()


def keeper_of(store: JsonStore) -> FileSync:
    assert store._session.checkpointer is not None
    return next(k for k in store._session.checkpointer._syncs if k.layout.file == MAP)


# -- the same size, and the time put back -----------------------------------------------------


def verify(store: JsonStore, clock: Clock) -> None:
    """Let the store look once more into the file that it has written."""
    clock.sleep(5)
    store.checkpoint()
    view = keeper_of(store)._manifest
    assert view is not None
    assert view.verified


def test_an_edit_that_leaves_size_and_time_is_adopted(
    path: Path, store: JsonStore, clock: Clock
) -> None:
    store.legacy(MAP)["c"] = "1"
    store.checkpoint()
    verify(store, clock)
    edited = path.read_text().replace("20.00", "99.00")

    write_unseen(path, edited)
    store.checkpoint()

    assert shown(store) == {"a": "10.00", "b": "99.00", "c": "1"}
    assert path.read_text() == edited


@pytest.mark.parametrize("commits", [0, 1])
def test_so_is_one_that_was_made_while_nobody_had_the_store_open(
    commits: int, path: Path, open_store: Callable[..., JsonStore]
) -> None:
    store = open_store()
    for n in range(commits):
        store.legacy(MAP)[f"c{n}"] = "1"
    store.close()

    write_unseen(path, path.read_text().replace("20.00", "99.00"))

    assert shown(open_store())["b"] == "99.00"


@pytest.mark.usefixtures("no_ctime")
def test_one_that_leaves_no_trace_at_all_is_found_when_the_file_is_written(
    path: Path, store: JsonStore, clock: Clock
) -> None:
    store.legacy(MAP)["c"] = "1"
    store.checkpoint()
    verify(store, clock)
    write_unseen(path, path.read_text().replace("20.00", "99.00"))
    store.checkpoint()
    assert shown(store)["b"] == "20.00"

    store.legacy(MAP)["d"] = "2"
    store.checkpoint()

    expected = {"a": "10.00", "b": "99.00", "c": "1", "d": "2"}
    assert shown(store) == json.loads(path.read_text()) == expected


def test_a_file_that_was_only_renamed_or_given_another_mode_is_no_edit(
    path: Path, store: JsonStore, events: list[Event]
) -> None:
    store.legacy(MAP)["c"] = "1"
    store.checkpoint()
    head = store.head()

    path.chmod(0o640)
    path.rename(path.with_suffix(".aside")).rename(path)
    store.checkpoint()

    # What is noted of the new mode is no record of the file.
    written = [r.collection for change in store.changes(head) for r in change.records]
    assert written == [LEGACY_FILES]
    assert names(events) == []


def test_a_note_of_an_older_version_costs_one_look_at_the_content(
    path: Path, open_store: Callable[..., JsonStore], events: list[Event]
) -> None:
    store = open_store()
    store.legacy(MAP)["c"] = "1"
    store.close()
    note = path.parent / ".pend-storage/views" / f"{MAP}.view"
    head, columns = note.read_bytes().split(b"\n", 1)
    fields = msgspec.json.decode(head)
    fields["signature"] = fields["signature"][:3]
    fields["replaced"] = fields["replaced"] and fields["replaced"][:3]
    del fields["replaced_digest"]
    note.write_bytes(msgspec.json.encode(fields) + b"\n" + columns)

    store = open_store()

    assert shown(store) == {"a": "10.00", "b": "20.00", "c": "1"}
    assert names(events) == []
    assert SingleFile(path, note).is_unmodified()


def test_a_late_edit_that_leaves_size_and_time_is_kept_and_adopted(
    path: Path, store: JsonStore, events: list[Event]
) -> None:
    """Commits that the old file did not show stay, among them one to the same record."""
    store.legacy(MAP)["c"] = "1"
    store.legacy(MAP)["a"] = "30.00"
    before = path.stat()
    with path.open("r+") as opened:
        text = opened.read().replace("20.00", "99.00")
        store.checkpoint()
        opened.seek(0)
        opened.write(text)
        opened.flush()
        os.utime(opened.fileno(), ns=(before.st_atime_ns, before.st_mtime_ns))

    store.checkpoint()

    assert names(events) == ["late-edit-kept"]
    (kept,) = (path.parent / ".pend-storage/kept").iterdir()
    assert kept.read_text() == text
    wanted = {"a": "30.00", "b": "99.00", "c": "1"}
    assert shown(store) == json.loads(path.read_text()) == wanted
    store.checkpoint()
    assert not list((path.parent / ".pend-storage/views").glob("*.[bo][el]*"))


def test_what_is_written_into_the_new_file_before_it_is_taken_back_is_kept(
    path: Path,
    old: Any,
    store: JsonStore,
    events: list[Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The edit of the old file at the last moment counts; another one meets the new file."""
    store.legacy(MAP)["c"] = "1"
    exchanged: list[str] = []
    real = Directory.exchange

    def exchange(self: Directory, new: str, name: str) -> bool:
        exchanged.append(name)
        if len(exchanged) == 1:
            old.save(MAP, {"a": "10.00", "b": "99.00"})
        elif len(exchanged) == 2:
            (self.path / name).write_text('{"a": "77.00"}')
        return real(self, new, name)

    monkeypatch.setattr(Directory, "exchange", exchange)
    store.checkpoint()

    assert shown(store) == {"a": "10.00", "b": "99.00", "c": "1"}
    assert names(events) == ["late-edit-kept"]
    (kept,) = (path.parent / ".pend-storage/kept").iterdir()
    assert kept.read_text() == '{"a": "77.00"}'


# -- without a pause --------------------------------------------------------------------------


@pytest.fixture
def busy(
    path: Path, clock: Clock, open_store: Callable[..., JsonStore]
) -> Iterator[FileSync]:
    found = keeper_of(open_store())
    found._reader.clock = clock
    yield found
    os.utime(path, (1, 1))


def write_now(path: Path, value: Any, clock: Clock) -> None:
    path.write_text(json.dumps(value))
    os.utime(path, (clock.time(), clock.time()))


def test_a_writer_without_a_pause_is_adopted_and_told_once(
    path: Path, busy: FileSync, clock: Clock, events: list[Event]
) -> None:
    seen: list[int | None] = []
    for n in range(12):
        write_now(path, {"n": n}, clock)
        busy.synchronise(force=False, wait=False)
        seen.append(json.loads(path.read_text())["n"] if not busy.is_busy else None)
        clock.sleep(0.5)

    assert seen == [None, None, *range(2, 12)]
    assert names(events) == ["file-busy"]
    assert "adopted" in events[-1].message or "rename" in events[-1].message

    clock.sleep(5)
    busy.synchronise(force=False, wait=False)
    clock.sleep(5)
    busy.synchronise(force=False, wait=False)

    assert names(events) == ["file-busy", "file-busy-over"]


def test_what_is_never_whole_is_never_adopted_and_told(
    path: Path, busy: FileSync, clock: Clock, events: list[Event]
) -> None:
    for n in range(12):
        path.write_text('{"a": "10.00"' + " " * n)
        os.utime(path, (clock.time(), clock.time()))
        busy.synchronise(force=False, wait=False)
        clock.sleep(0.5)

    assert busy.is_busy
    assert names(events) == ["file-busy"]
    assert "never found whole" in events[-1].message


def test_our_own_writes_are_no_busy_writer(
    path: Path,
    busy: FileSync,
    clock: Clock,
    events: list[Event],
    open_store: Callable[..., JsonStore],
) -> None:
    for n in range(10):
        write_now(path, {"n": n}, clock)
        busy.synchronise(force=False, wait=False)
        clock.sleep(0.5)
    assert names(events) == ["file-busy"]
    store = open_store()
    with pytest.MonkeyPatch.context() as patched:
        # Written each second, as here, a file is never old enough for a second look.
        patched.setattr(file_sync, "_due", lambda _: False)
        for n in range(5):
            store.legacy(MAP)["n"] = -n
            busy.synchronise(force=True, wait=False)
            clock.sleep(1)

    assert names(events) == ["file-busy", "file-busy-over"]
    assert busy._reader.restless == 0


def test_a_writer_that_comes_before_each_of_our_writes_loses_nothing(
    path: Path, old: Any, store: JsonStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.legacy(MAP)["c"] = "1"
    edits = iter(range(6))

    def edit(point: str) -> None:
        if point == "json.file-noted" and (n := next(edits, None)) is not None:
            found = json.loads(path.read_text())
            old.save(MAP, found | {f"n{n}": n}, indent=None)

    with crashpoints.handled(edit):
        store.checkpoint()

    wanted = {"a": "10.00", "b": "20.00", "c": "1", **{f"n{n}": n for n in range(6)}}
    assert shown(store) == json.loads(path.read_text()) == wanted


def test_where_it_comes_before_every_one_it_is_told(
    path: Path,
    old: Any,
    clock: Clock,
    store: JsonStore,
    events: list[Event],
) -> None:
    keeper_of(store)._reader.clock = clock
    store.legacy(MAP)["c"] = "1"
    edits = iter(range(10**6))

    def edit(point: str) -> None:
        if point == "json.file-noted":
            old.save(MAP, {"a": "10.00", "b": str(next(edits))}, indent=None)

    with crashpoints.handled(edit):
        with pytest.raises(StoreUnavailable, match="without a pause"):
            store.checkpoint()
        clock.sleep(4)
        with pytest.raises(StoreUnavailable, match="without a pause"):
            store.checkpoint()

    assert names(events) == ["file-busy"]
    store.checkpoint()
    assert json.loads(path.read_text())["c"] == "1"
    assert names(events) == ["file-busy", "file-busy-over"]


def test_an_adopted_edit_is_noted_for_the_next_process(
    path: Path, old: Any, store: JsonStore, open_store: Callable[..., JsonStore]
) -> None:
    old.save(MAP, {"a": "11.00", "b": "20.00"})
    store.checkpoint()
    place = keeper_of(store)._file
    assert place.is_unmodified()

    old.save(MAP, {"a": "12.00", "b": "20.00"})
    let_go(store)
    open_store()

    assert place.is_unmodified()


@pytest.mark.parametrize("reopened", [False, True])
def test_edits_in_a_row_leave_commits_that_the_file_does_not_show_yet(
    reopened: bool, path: Path, old: Any, open_store: Callable[..., JsonStore]
) -> None:
    """As with a file that is large, or in which an edit comes before each write."""
    store = open_store()
    store.legacy(MAP)["c"] = "1"
    store.checkpoint()
    store.legacy(MAP)["c"] = "2"
    del store.legacy(MAP)["b"]
    file = old.load(MAP)
    for n in range(4):
        file[f"n{n}"] = n
        old.save(MAP, file)
        if reopened:
            let_go(store)
            store = open_store()
        else:
            keeper_of(store).adopt_edits(wait=True)
        assert shown(store)["c"] == "2"
        if n == 0:
            store.legacy(MAP)["n0"] = "ours"

    store.checkpoint()

    wanted = {"a": "10.00", "c": "2", "n0": "ours", "n1": 1, "n2": 2, "n3": 3}
    if reopened:
        wanted.pop("n0")
        assert shown(store).pop("n0") in {"ours", 0}
        assert {k: v for k, v in old.load(MAP).items() if k != "n0"} == wanted
        return
    assert shown(store) == old.load(MAP) == wanted


def let_go(store: JsonStore) -> None:
    """As a process that is killed does."""
    store._forked()
    store.close()


def test_a_round_looks_again_at_what_was_being_written(
    path: Path, old: Any, store: JsonStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(old, {"a": "10.00", "b": "30.00"})
    checkpointer = store._session.checkpointer
    assert checkpointer is not None

    def pause(_: float) -> bool:
        os.utime(path, (1, 1))
        return False

    monkeypatch.setattr(checkpointer._stop, "wait", pause)
    checkpointer.round()

    assert shown(store) == {"a": "10.00", "b": "30.00"}


def test_the_first_opening_waits_for_what_follows_a_truncation(
    path: Path, open_store: Callable[..., JsonStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = path.read_text()
    os.truncate(path, 0)
    looks: list[SyncedFile] = []

    def status(place: SyncedFile) -> os.stat_result | None:
        if place.target == path.resolve():
            looks.append(place)
            if len(looks) == 5:
                path.write_text(text)
                os.utime(path, (1, 1))
        return real(place)

    real = SyncedFile.status
    with monkeypatch.context() as patched:
        patched.setattr(SyncedFile, "status", status)
        store = open_store()

    assert shown(store) == {"a": "10.00", "b": "20.00"}
    found = {a.file: a.read for a in store.adoption_report()}
    assert found[MAP] == 2


def test_a_large_file_is_written_after_a_rest_that_is_bounded(
    busy: FileSync, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "monotonic", lambda: 100.0)

    assert busy._pace.written(7.0) == 100.0  # the first one puts everything in order
    assert busy._pace.written(0.1) == pytest.approx(101.0)
    assert busy._pace.written(7.0) == 110.0


def test_what_a_file_does_not_show_yet_is_told_with_its_age(
    path: Path, store: JsonStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.file_lags() == ()
    view = store.legacy(MAP)
    view["c"] = "1"
    view["c"] = "2"
    del view["a"]
    store.compact()
    view["d"] = "3"

    (lag,) = store.file_lags()

    assert (lag.file, lag.records) == (MAP, 3)
    assert 0 < lag.seconds < time.time() - path.stat().st_ctime
    store.checkpoint()
    assert store.file_lags() == ()


def test_the_age_of_a_lag_is_that_of_the_first_commit_that_the_file_lacks(
    store: JsonStore,
) -> None:
    view = store.legacy(MAP)
    view["c"] = "1"
    store.checkpoint()
    time.sleep(0.3)
    began = time.monotonic()
    view["c"] = "2"

    with PassiveJsonStore(
        store.schema, store.directory, layouts=store.layouts
    ) as reader:
        for found in (store.file_lags(), reader.file_lags()):
            (lag,) = found
            assert lag.seconds <= time.monotonic() - began


_WRITER: Final = """
import json, sys, time
path = sys.argv[1]
for n in range(200):
    value = json.load(open(path))
    if value.get("mine", 0) >= 3:
        break
    value["old"] = n
    with open(path, "w") as file:
        json.dump(value, file, indent=2)
    time.sleep(0.1)
print(value.get("old"), value.get("mine", 0))
"""


def test_a_process_that_writes_ten_times_a_second_gets_ours_and_gives_its_own(
    path: Path, open_store: Callable[..., JsonStore], events: list[Event]
) -> None:
    store = open_store(checkpoint_interval=0.2)
    view = store.legacy(MAP)
    command = [sys.executable, "-c", _WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        mine, end = 0, time.monotonic() + 60
        while writer.poll() is None:
            assert time.monotonic() < end, "it never saw what was committed"
            view["mine"] = mine = mine + 1
            time.sleep(0.1)
        assert writer.stdout is not None
        theirs, seen = map(int, writer.stdout.read().split())

    store.checkpoint()

    assert seen >= 3
    assert view["old"] == theirs
    assert "file-restored" not in names(events)
    assert "file-broken" not in names(events)
