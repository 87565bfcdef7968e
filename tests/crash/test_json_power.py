"""The power fails: of what was not synced anything may be there, and nothing acknowledged is lost."""

from __future__ import annotations

import json
import os
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from pend_storage import crashpoints
from pend_storage._files import directory as door
from pend_storage._files.by_path import sync_directory
from pend_storage._files.directory import Directory
from pend_storage._files.durability import write_all
from pend_storage.errors import PendStorageError
from pend_storage.stores.json import JsonStore
from pend_storage.stores.json._journal import journal
from pend_storage.stores.json._journal.compaction import Retention
from pend_storage.stores.json._journal.end_file import Position
from pend_storage.stores.json._journal.journal import Journal
from pend_storage.stores.json._legacy_sync import file_manifest, file_sync, render
from pend_storage.stores.json._legacy_sync.atomic_replace import SingleFile
from pend_storage.testing import Recorder
from pend_storage.testing.domain import SCHEMA, Log, Tally, a_tally

NOTHING: Final = Retention(seconds=0, size=0)
SAMPLES: Final = 2
MANY_SAMPLES: Final = 100

Scenario: TypeAlias = Callable[[Recorder, Path], None]


class PowerCut(BaseException):
    """The process dies at this place."""


def open_store(directory: Path, **options: Any) -> JsonStore:
    return JsonStore(
        SCHEMA, directory, **{"checkpoint_interval": None, "retain": NOTHING} | options
    )


def put(recorder: Recorder, store: JsonStore, name: str, value: int) -> None:
    store.collection(Tally).put(a_tally(name, value))
    recorder.acknowledge((name, value))


def commits(recorder: Recorder, directory: Path) -> None:
    store = open_store(directory)
    for n in range(1, 5):
        store.collection(Log).put(Log(id=f"l{n}", text="x" * 300 * n))
        put(recorder, store, "t", n)
    put(recorder, store, "u", 1)


def group_commits(recorder: Recorder, directory: Path) -> None:
    store = open_store(directory)

    def work(name: str) -> None:
        for n in range(1, 4):
            put(recorder, store, name, n)

    threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def segment_ends(recorder: Recorder, directory: Path) -> None:
    """A commit comes between the end of a segment and its snapshot."""
    store = open_store(directory)
    put(recorder, store, "t", 1)
    store._opened().begin_checkpoint()
    put(recorder, store, "t", 2)
    put(recorder, store, "u", 1)


def compactions(recorder: Recorder, directory: Path) -> None:
    store = open_store(directory)
    for n in range(1, 3):
        put(recorder, store, "t", n)
        store.checkpoint()  # else the files need what is to be dropped
        store.compact()
    put(recorder, store, "u", 1)


def legacy_files(recorder: Recorder, directory: Path) -> None:
    store = open_store(directory)
    for n in range(1, 3):
        put(recorder, store, "t", n)
        store.checkpoint()
        put(recorder, store, "u" * n, n)
        store.checkpoint()


def edits(recorder: Recorder, directory: Path) -> None:
    """Old code writes the file anew, beside it, and renames it; synced."""
    store = open_store(directory)
    put(recorder, store, "t", 1)
    store.checkpoint()
    path = directory / "tallies.json"
    content = json.loads(path.read_text())
    new = path.with_name("tallies.json.edited")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT, 0o644)
    edited = content | {"e": {"name": "e", "value": 7}}
    os.write(fd, json.dumps(edited).encode())
    os.fsync(fd)
    os.close(fd)
    new.rename(path)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    sync_directory(directory)
    store.checkpoint()
    if store.collection(Tally).get("e") is not None:
        recorder.acknowledge(("e", 7))
    put(recorder, store, "t", 2)
    store.checkpoint()


def first_adoption(recorder: Recorder, directory: Path) -> None:
    recorder.acknowledge(("old", 5))  # by old code, before
    store = open_store(directory)
    put(recorder, store, "t", 1)


def a_death_before_the_sync(recorder: Recorder, directory: Path) -> None:
    """Unsynced commits of a dead process are read by others, and acknowledged by them."""
    _die_at("json.frame-written", lambda: put(recorder, open_store(directory), "t", 1))
    reader = open_store(directory)
    if (found := reader.collection(Tally).get("t")) is not None:
        recorder.acknowledge(("t", found.value))


def a_death_at_the_end_of_a_segment(recorder: Recorder, directory: Path) -> None:
    store = open_store(directory)
    put(recorder, store, "t", 1)
    _die_at("json.frame-written", lambda: store._opened().begin_checkpoint())
    other = open_store(directory)
    put(recorder, other, "t", 2)
    put(recorder, other, "u", 1)


def _die_at(point: str, work: Callable[[], object]) -> None:
    def die(name: str) -> None:
        if name == point:
            raise PowerCut

    with crashpoints.handled(die), pytest.raises(PowerCut):
        work()


SCENARIOS: Final[tuple[Scenario, ...]] = (
    commits,
    group_commits,
    segment_ends,
    compactions,
    legacy_files,
    edits,
    first_adoption,
    a_death_before_the_sync,
    a_death_at_the_end_of_a_segment,
)


@dataclass
class Count:
    """Counts of the crashes that were tried."""

    operations: int = 0
    cuts: int = 0
    troubles: int = 0
    first: str = ""


def prepared(directory: Path, scenario: Scenario) -> None:
    """Files that were there, and synced, before the recording began."""
    directory.mkdir()
    if scenario is first_adoption:
        rows = {"old": {"name": "old", "value": 5}}
        (directory / "tallies.json").write_text(json.dumps(rows))
        return
    with open_store(directory) as store:
        store.collection(Tally).put(a_tally("before", 1))
        if scenario in {legacy_files, edits}:
            store.checkpoint()


def trouble(place: Path, acknowledged: tuple[Any, ...]) -> str:
    """Faults of a directory that was found; none as a rule."""
    try:
        with open_store(place) as store:
            tallies = store.collection(Tally)
            for name, value in acknowledged:
                found = tallies.get(name)
                if found is None or found.value < value:
                    return f"{name[:9]}={value} was acknowledged; there is {found}"
            tallies.put(a_tally("after", 1))
        with open_store(place) as store:
            if store.collection(Tally).get("after") is None:
                return "what was committed afterwards is gone"
        shown = json.loads((place / "tallies.json").read_text())
        if any(shown[n]["value"] < v for n, v in acknowledged):
            return "the legacy file is behind"
    except (PendStorageError, OSError, ValueError, KeyError) as error:
        return repr(error)
    return ""


def tried(
    scenario: Scenario, tmp_path: Path, *, samples: int = SAMPLES, most: int = 10**9
) -> Count:
    """Record a scenario, and open what may be found of it, until so many are wrong."""
    directory = tmp_path / "data"
    prepared(directory, scenario)
    with Recorder(directory, (door, "renameat2")) as recorder:
        scenario(recorder, directory)
    count = Count(len(recorder.operations))
    with _quick_disk():
        for number, cut in enumerate(recorder.cuts(samples=samples)):
            place = tmp_path / f"cut-{number}"
            cut.build(place)
            count.cuts += 1
            wrong = trouble(place, cut.acknowledged)
            shutil.rmtree(place)
            if wrong:
                count.troubles += 1
                count.first = count.first or f"{cut.where}: {wrong}"
                if count.troubles == most:
                    break
    return count


@contextmanager
def _quick_disk() -> Iterator[None]:
    """Nothing that is found needs to survive the next power failure."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)
        patched.setattr(os, "fdatasync", lambda _: None)
        yield


@pytest.fixture(autouse=True)
def _ctimes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """No program can put them back as the disk has them; so all are taken to be equal."""
    monkeypatch.setattr(file_manifest, "_ctime_of", lambda _: 1)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_nothing_acknowledged_is_lost_when_the_power_fails(
    scenario: Scenario, tmp_path: Path
) -> None:
    count = tried(scenario, tmp_path)

    assert count.cuts > count.operations
    assert not count.troubles, count.first


@pytest.mark.deep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_nothing_is_lost_in_many_random_failures(
    scenario: Scenario, tmp_path: Path
) -> None:
    count = tried(scenario, tmp_path, samples=MANY_SAMPLES)

    assert not count.troubles, count.first


# -- rules left out -------------------------------------------------------------------------


def no_name_of_a_new_segment(patched: pytest.MonkeyPatch) -> None:
    patched.setattr(journal, "create_segment", _without_names(journal.create_segment))


def no_name_of_a_new_file(patched: pytest.MonkeyPatch) -> None:
    patched.setattr(Directory, "replace", _without_names(Directory.replace))


def _without_names(real: Callable[..., Any]) -> Callable[..., Any]:
    """The names in a directory are not synced during the call."""

    def call(*args: Any, **kwargs: Any) -> Any:
        with pytest.MonkeyPatch.context() as inside:
            inside.setattr(Directory, "sync", lambda _: None)
            return real(*args, **kwargs)

    return call


def a_dead_writers_frame_unsynced(patched: pytest.MonkeyPatch) -> None:
    patched.setattr(Journal, "make_durable", lambda *_: None)


def told_before_the_sync(patched: pytest.MonkeyPatch) -> None:
    real = Journal.append

    def append(self: Journal, payload: bytes) -> None:
        with pytest.MonkeyPatch.context() as inside:
            inside.setattr(journal, "sync", lambda _: None)
            real(self, payload)

    patched.setattr(Journal, "append", append)


def published_first(patched: pytest.MonkeyPatch) -> None:
    """The end of the journal is published before the frame is synced."""
    real = write_all

    def write(fd: int, data: bytes, offset: int | None = None) -> None:
        real(fd, data, offset)
        for one in list(_journals):
            if one._reader.fd == fd and offset is not None:
                segment, end = one.position
                one.end.publish(Position(segment, end + len(data)))

    begin = Journal.__init__

    def begun(self: Journal, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        _journals.add(self)

    _journals: weakref.WeakSet[Journal] = weakref.WeakSet()
    patched.setattr(Journal, "__init__", begun)
    patched.setattr(journal, "write_all", write)


def no_look_for_the_new_file(patched: pytest.MonkeyPatch) -> None:
    """A legacy file whose new version is not found is taken for replaced."""
    patched.setattr(
        SingleFile,
        "_was_not_installed",
        lambda _, __, coming, beside: beside and beside.inode == coming.signature.inode,
    )


def no_sync_of_a_legacy_file(patched: pytest.MonkeyPatch) -> None:
    real = render.write_file

    def write(*args: Any, **kwargs: Any) -> Any:
        with pytest.MonkeyPatch.context() as inside:
            inside.setattr(os, "fsync", lambda _: None)
            return real(*args, **kwargs)

    patched.setattr(file_sync, "write_file", write)


@pytest.mark.parametrize(
    ("leave_out", "scenario"),
    [
        (no_name_of_a_new_segment, segment_ends),
        (no_name_of_a_new_file, compactions),
        (a_dead_writers_frame_unsynced, a_death_before_the_sync),
        (a_dead_writers_frame_unsynced, a_death_at_the_end_of_a_segment),
        (told_before_the_sync, commits),
        (told_before_the_sync, group_commits),
        (published_first, commits),
        (no_look_for_the_new_file, legacy_files),
        (no_sync_of_a_legacy_file, legacy_files),
    ],
    ids=lambda part: part.__name__,
)
def test_a_rule_that_is_left_out_is_found_out(
    leave_out: Callable[[pytest.MonkeyPatch], None],
    scenario: Scenario,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        leave_out(patched)
        count = tried(scenario, tmp_path, most=1)

    assert count.troubles, f"{count.cuts} cuts"
