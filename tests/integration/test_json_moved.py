"""A directory, or a file of it, that is moved or replaced under a process that has it open."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pend_storage.errors import CorruptFile, PendStorageError, StoreUnavailable
from pend_storage.events import Event
from pend_storage.stores.json import JsonStore
from pend_storage.stores.json._journal.directory_handle import DirectoryHandle
from pend_storage.testing.domain import SCHEMA, Tally, a_tally


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    with JsonStore(SCHEMA, directory, checkpoint_interval=None) as store:
        store.collection(Tally).put(a_tally("first", 1))
    shutil.copytree(directory, tmp_path / "backup")
    return directory


@pytest.fixture
def store(data: Path) -> Iterator[JsonStore]:
    opened = JsonStore(SCHEMA, data, checkpoint_interval=None, hook=_ignore)
    yield opened
    opened.close()


def _ignore(_: Event) -> None:
    pass


def put(store: JsonStore, name: str) -> None:
    store.collection(Tally).put(a_tally(name, 1))


def names(directory: Path) -> set[str]:
    with JsonStore(SCHEMA, directory, checkpoint_interval=None) as fresh:
        return {tally.name for tally in fresh.collection(Tally).scan()}


def content(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def swap(data: Path) -> None:
    data.rename(data.with_name("data.old"))
    shutil.copytree(data.with_name("backup"), data)


def swap_own(data: Path) -> None:
    (data / ".pend-storage").rename(data / "aside")
    shutil.copytree(data.with_name("backup") / ".pend-storage", data / ".pend-storage")


def take_away(data: Path) -> None:
    data.rename(data.with_name("data.old"))


def empty(data: Path) -> None:
    take_away(data)
    data.mkdir()


@pytest.mark.parametrize("act", [swap, swap_own, take_away, empty])
def test_a_directory_that_was_moved_takes_nothing_and_nothing_is_written_in_its_place(
    act: Callable[[Path], None], store: JsonStore, data: Path
) -> None:
    put(store, "second")
    act(data)
    before = content(data) if data.exists() else {}

    for work in (lambda: put(store, "x"), store.compact, store.checkpoint, store.head):
        with pytest.raises(StoreUnavailable) as caught:
            work()
        assert str(data / ".pend-storage") in str(caught.value)
        assert str(next(data.parent.rglob("torn*"), "")) == ""
    if act is not take_away:
        assert content(data) == before
    where = "aside" if act is swap_own else "data.old/.pend-storage"
    with pytest.raises(StoreUnavailable, match=where):
        put(store, "x")


@pytest.mark.parametrize("act", [swap, swap_own, empty])
def test_only_one_of_two_directories_acknowledges(
    act: Callable[[Path], None], store: JsonStore, data: Path
) -> None:
    act(data)
    with JsonStore(SCHEMA, data, checkpoint_interval=None) as other:
        put(other, "theirs")
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                put(store, "mine")
        with pytest.raises(StoreUnavailable):
            store.compact()
        put(other, "theirs too")

    store.close()
    assert names(data) >= {"theirs", "theirs too"}
    assert "mine" not in names(data)


def test_a_directory_that_was_moved_back_works_again(
    store: JsonStore, data: Path
) -> None:
    put(store, "second")
    take_away(data)
    with pytest.raises(StoreUnavailable):
        put(store, "x")
    data.with_name("data.old").rename(data)

    put(store, "third")

    assert store.collection(Tally).count() == 3
    assert names(data) == {"first", "second", "third"}


def test_the_background_tells_of_it_and_reads_are_refused(data: Path) -> None:
    events: list[Event] = []
    with JsonStore(SCHEMA, data, checkpoint_interval=0.05, hook=events.append) as store:
        swap(data)
        end = time.monotonic() + 10
        while time.monotonic() < end and not events:
            time.sleep(0.01)
        with pytest.raises(StoreUnavailable, match="moved"):
            store.collection(Tally).get("first")
    assert events[0].name == "checkpoint-failed"
    assert "data.old" in events[0].message


@pytest.mark.parametrize("kind", ["journal", "end"])
def test_a_file_that_was_rotated_takes_no_commits_that_nobody_finds(
    kind: str, store: JsonStore, data: Path
) -> None:
    (path,) = (data / ".pend-storage").glob(f"{kind}*")
    path.rename(path.with_name(f"rotated-{path.name}"))

    done = []
    try:
        put(store, "second")
    except PendStorageError as error:
        assert isinstance(error, CorruptFile)
    else:
        done.append("second")
    if kind == "journal":
        assert not done
        with pytest.raises(CorruptFile):
            names(data)
    else:
        assert names(data) >= {"first", *done}
        assert done


def test_a_lock_that_was_rotated_is_taken_anew_by_all(
    store: JsonStore, data: Path
) -> None:
    with JsonStore(SCHEMA, data, checkpoint_interval=None) as other:
        for name in ("lock", "lock.turn"):
            path = data / ".pend-storage" / name
            path.rename(path.with_name(f"{name}.1"))
        other_lock = other._opened()._lock
        with other_lock.held(5), pytest.raises(PendStorageError, match="lock"):
            _impatient(data)
        put(store, "second")
        put(other, "third")
    assert names(data) == {"first", "second", "third"}


def _impatient(data: Path) -> None:
    with JsonStore(
        SCHEMA, data, checkpoint_interval=None, lock_timeout=0.1, hook=_ignore
    ) as third:
        put(third, "x")


def copied_over(source: Path, target: Path) -> None:
    """As by rsync: each file is written beside and renamed, and times are kept."""
    for path in source.rglob("*"):
        place = target / path.relative_to(source)
        if path.is_file():
            new = place.with_name(f".{place.name}.copied")
            shutil.copy2(path, new)
            new.replace(place)
    for folder in (source, *(p for p in source.rglob("*") if p.is_dir())):
        shutil.copystat(folder, target / folder.relative_to(source))


@pytest.mark.parametrize("later", [False, True])
def test_the_same_state_copied_over_is_gone_on_with(
    later: bool, store: JsonStore, data: Path
) -> None:
    put(store, "second")
    same = data.with_name("same")
    shutil.copytree(data, same)
    if later:
        with JsonStore(SCHEMA, same, checkpoint_interval=None) as other:
            put(other, "third")
            other.compact()
    copied_over(same, data)

    put(store, "fourth")

    expected = {"first", "second", "fourth"} | ({"third"} if later else set())
    assert {t.name for t in store.collection(Tally).scan()} == expected
    assert names(data) == expected


def test_an_older_state_copied_over_is_refused_for_as_long_as_it_is_there(
    store: JsonStore, data: Path
) -> None:
    put(store, "second")
    same = data.with_name("same")
    shutil.copytree(data, same)
    copied_over(data.with_name("backup"), data)

    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="older or another state"):
            put(store, "x")
    assert names(data) == {"first"}
    copied_over(same, data)

    put(store, "third")
    assert names(data) == {"first", "second", "third"}


def test_another_state_of_the_same_length_is_refused(
    store: JsonStore, data: Path
) -> None:
    put(store, "second")
    other = data.with_name("other")
    shutil.copytree(data.with_name("backup"), other)
    with JsonStore(SCHEMA, other, checkpoint_interval=None) as another:
        put(another, "others")
        put(another, "third")
    copied_over(other, data)

    with pytest.raises(StoreUnavailable, match="older or another state"):
        put(store, "x")


def test_an_older_state_copied_into_the_files_is_corruption(
    store: JsonStore, data: Path
) -> None:
    put(store, "second")
    own = Path(".pend-storage")
    for path in (data.with_name("backup") / own).glob("*"):
        if path.is_file():
            (data / own / path.name).write_bytes(path.read_bytes())

    with pytest.raises(CorruptFile, match="truncated"):
        put(store, "x")


def test_a_change_of_names_is_noticed_whatever_becomes_of_the_times(
    tmp_path: Path,
) -> None:
    own = DirectoryHandle(tmp_path)
    times = tmp_path.stat()
    os.utime(tmp_path, ns=(times.st_atime_ns, times.st_mtime_ns - 10**12))
    before = own.verify_path()
    assert own.verify_path() != before, (
        "a change is too recent to differ from the next one"
    )
    time.sleep(2.1)
    own.verify_path()
    before = own.verify_path()
    assert own.verify_path() == before

    (tmp_path / "new").touch()
    os.utime(tmp_path, ns=(times.st_atime_ns, times.st_mtime_ns - 10**12))

    assert own.verify_path() != before
    own.close()
