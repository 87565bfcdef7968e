"""Recovery of a JSON directory, beyond the contract: files, processes, crashes, schemas."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import pend_storage as ps
from pend_storage import crashpoints
from pend_storage._model.snapshots import StoredChange, StoredRecord, StoredRow
from pend_storage.errors import (
    ChangesExpired,
    CorruptFile,
    LockTimeout,
    SchemaOutOfDate,
)
from pend_storage.schema import Schema
from pend_storage.stores.json import JsonStore
from pend_storage.stores.json._journal.compaction import FORGET_ALL
from pend_storage.testing import Child, run_until_crash
from pend_storage.testing.contract import _children as children
from pend_storage.testing.contract._feeding import all_rows
from pend_storage.testing.contract._harness import commit
from pend_storage.testing.domain import SCHEMA, Log, Tally, a_log, a_tally

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENCODE = SCHEMA["logs"].codec.encode
OWN = ".pend-storage"


def opened(directory: Path, schema: Schema = SCHEMA, **options: Any) -> JsonStore:
    return JsonStore(schema, directory, **{"checkpoint_interval": None, **options})


def open_store(directory: Path) -> JsonStore:
    return opened(directory)


def some_rows(count: int, first: int = 1) -> Iterator[tuple[str, StoredRow]]:
    for n in range(count):
        yield "logs", StoredRow(f"{n:05}", first + n, ENCODE(a_log(f"{n:05}", str(n))))


def some_changes(count: int, first: int) -> Iterator[StoredChange]:
    for n, (name, row) in enumerate(some_rows(count, first)):
        records = (StoredRecord(name, *row),)
        yield StoredChange(sequence=first + n, epoch=0, at=AT, records=records)


def journal_size(directory: Path) -> int:
    return sum(p.stat().st_size for p in (directory / OWN).glob("journal-*"))


# -- snapshots ------------------------------------------------------------------------


def test_a_snapshot_never_has_a_part_of_a_commit_of_another_process(
    tmp_path: Path,
) -> None:
    with (
        opened(tmp_path / "data") as store,
        Child(children.write_pairs, open_store, (tmp_path / "data",)) as child,
    ):
        child.wait_for_reports(1)
        for _ in range(50):
            with store.snapshot() as reader:
                x, y = reader.rows("tallies")
            decode = SCHEMA["tallies"].codec.decode
            assert decode(x.body or b"").value == decode(y.body or b"").value
            assert x.version == y.version == reader.point.sequence
        child.kill()


def test_a_snapshot_waits_for_the_commit_lock_and_not_for_ever(tmp_path: Path) -> None:
    with (
        opened(tmp_path / "data") as store,
        opened(tmp_path / "data", lock_timeout=0.05) as other,
    ):
        other.identity()
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with store._opened().exclusive():
                held.set()
                done.wait(30)

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait(30)
        try:
            with pytest.raises(LockTimeout), other.snapshot():
                pass
        finally:
            done.set()
            holder.join()
        with other.snapshot() as reader:
            assert list(reader.rows("logs")) == []


def test_a_snapshot_writes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as store:
        commit(store, a_log("a"))
        store.identity()
        before = journal_size(tmp_path / "data")

        with store.snapshot() as reader:
            assert [row.key for row in reader.rows("logs")] == ["a"]

        assert journal_size(tmp_path / "data") == before
        assert len(list((tmp_path / "data" / OWN).glob("snapshot-*"))) == 1


@dataclass(frozen=True)
class Note:
    id: str
    text: str = ""


@dataclass(frozen=True)
class Tagged:
    id: str
    text: str = ""
    tag: str | None = None


V1 = Schema([ps.collection("notes", Note)])
V2 = Schema([ps.collection("notes", Tagged)])


def test_bodies_of_an_earlier_schema_are_encoded_anew(tmp_path: Path) -> None:
    with opened(tmp_path / "data", V1) as store:
        store.collection(Note).put(Note("a", "x"))

    with opened(tmp_path / "data", V2) as store, store.snapshot() as reader:
        (row,) = reader.rows("notes")

    assert row.body == V2["notes"].codec.encode(Tagged("a", "x"))


def test_a_program_whose_schema_is_behind_makes_no_backup(tmp_path: Path) -> None:
    with opened(tmp_path / "data", V1) as old:
        old.collection(Note).put(Note("a"))
        old.identity()
        with opened(tmp_path / "data", V2) as new:
            new.collection(Tagged).put(Tagged("b", tag="kept"))

        with pytest.raises(SchemaOutOfDate), old.snapshot():
            pass
        with pytest.raises(SchemaOutOfDate):
            list(old.record_history("notes", "a"))


# -- loading --------------------------------------------------------------------------


LAYOUTS = [
    ps.records("tallies.json", Tally, key=ps.MEMBER_NAME),
    ps.records("logs.json", Log, key="id"),
]
IN_FILES = ps.schema_of(LAYOUTS)


def test_the_files_of_a_restored_directory_are_those_of_its_source(
    tmp_path: Path,
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    text = '{\n   "b": {"value": 2},\n   "a": {"value": 1}\n}'
    (source / "tallies.json").write_text(text)
    (source / "logs.json").write_text(
        '[{"id": "x", "text": "\\u00e9"}, {"text": "who?"}]'
    )
    with (
        opened(source, IN_FILES, layouts=LAYOUTS) as store,
        opened(target, IN_FILES, layouts=LAYOUTS) as side,
    ):
        store.collection(Log).put(a_log("y", "new"))
        with store.snapshot() as reader:
            rows = [(s.name, r) for s in IN_FILES for r in reader.rows(s.name)]
        side.load_snapshot(rows)

    assert (target / "tallies.json").read_text() == text
    # By value: how a text was spelled is known to its file alone.
    wanted = json.loads((source / "logs.json").read_text())
    assert json.loads((target / "logs.json").read_text()) == wanted
    assert wanted[1:] == [{"text": "who?"}, {"id": "y", "text": "new"}]
    with (
        opened(source, IN_FILES, layouts=LAYOUTS) as store,
        opened(target, IN_FILES, layouts=LAYOUTS) as side,
    ):
        assert all_rows(side) == all_rows(store)
        assert side.collection("quarantine").count() == 1


def test_a_directory_with_legacy_files_is_not_loaded_over(tmp_path: Path) -> None:
    (tmp_path / "tallies.json").write_text('{"a": {"value": 1}}')
    with opened(tmp_path, IN_FILES, layouts=LAYOUTS) as store:
        with pytest.raises(ps.ConfigError, match="not empty"):
            store.load_snapshot(some_rows(3))
        assert store.collection(Tally).get("a") == a_tally("a", 1)


def test_another_process_that_has_the_directory_open_sees_what_was_loaded(
    tmp_path: Path,
) -> None:
    with opened(tmp_path) as store, opened(tmp_path) as other:
        assert other.collection(Log).count() == 0
        store.load_snapshot(some_rows(10))

        assert other.collection(Log).count() == 10
        (version,) = commit(other, a_log("mine"))
        assert version == 11
        assert store.collection(Log).get("mine") == a_log("mine")
        store.load_changes(some_changes(25_000, first=100))
        assert other.collection(Log).get("24999") == a_log("24999", "24999")
    with opened(tmp_path) as again:
        assert again.collection(Log).count() == 25_001


def test_a_writer_that_has_the_directory_open_goes_on_after_the_loaded_rows(
    tmp_path: Path,
) -> None:
    with opened(tmp_path) as store, opened(tmp_path) as other:
        store.load_snapshot(some_rows(10))

        assert commit(other, a_log("00003", "mine")) == (11,)
        assert store.collection(Log).get("00003") == a_log("00003", "mine")
        assert [c.sequence for c in store.changes()] == [11]
    with opened(tmp_path) as again:
        assert again.collection(Log).count() == 10
        assert [c.sequence for c in again.changes()] == [11]


@pytest.mark.parametrize("compact", [False, True])
def test_a_loaded_directory_lives_on_through_compaction(
    tmp_path: Path, *, compact: bool
) -> None:
    with opened(tmp_path, retain=FORGET_ALL) as store:
        store.load_snapshot(some_rows(10))
        store.checkpoint()
        commit(store, a_log("a"))
        if compact:
            store.compact()
        commit(store, a_log("b"))
        store.checkpoint()
        store.compact()
        commit(store, a_log("c"))
    with opened(tmp_path) as again:
        assert again.collection(Log).count() == 13
        assert not (tmp_path / OWN / "snapshot-00000003.jsonl").exists()
        assert not (tmp_path / OWN / "journal-00000003.jsonl").exists()
        with pytest.raises(ChangesExpired):
            list(again.changes(9))


def test_loading_does_not_fill_the_journal(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.load_snapshot(some_rows(5_000))
        assert store.load_changes(some_changes(30_000, first=10_000)) == 30_000

        assert journal_size(tmp_path) < 10_000
        assert store.collection(Log).count() == 30_000


def test_of_many_changes_of_few_keys_only_the_last_ones_are_written(
    tmp_path: Path,
) -> None:
    entries = (
        change for n in range(100) for change in some_changes(50, first=1 + 50 * n)
    )
    with opened(tmp_path) as store:
        before = journal_size(tmp_path)
        assert store.load_changes(entries) == 5_000

        assert journal_size(tmp_path) - before < 50 * 100
        assert store.read("logs", ["00049"])["00049"].version == 5_000


def test_a_store_with_a_log_of_its_own_keeps_it_through_a_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pend_storage.stores.json._recovery._MOST_APPENDED", 5)
    with opened(tmp_path) as store:
        commit(store, a_log("mine"))
        store.load_changes(some_changes(20, first=100))

        assert store.collection(Log).count() == 21
        assert [r.key for c in store.changes() for r in c.records] == ["mine"]


def test_a_body_of_several_lines_becomes_one_line(tmp_path: Path) -> None:
    body = b'{\n "id": "a",\n "text": "x\\ny"\n}'
    with opened(tmp_path) as store:
        store.load_snapshot([("logs", StoredRow("a", 1, body)), *some_rows(2, first=2)])
    with opened(tmp_path) as again:
        assert again.collection(Log).get("a") == a_log("a", "x\ny")
        assert again.collection(Log).count() == 3


def test_a_row_under_another_key_is_refused(tmp_path: Path) -> None:
    row = StoredRow("b", 1, ENCODE(a_log("a")))
    with opened(tmp_path) as store:
        with pytest.raises(CorruptFile, match="another key"):
            store.load_snapshot([("logs", row)])
        assert store.collection(Log).count() == 0


def load_rows(report: Callable[[Any], None], directory: Path) -> None:
    with opened(directory) as store:
        report(store.load_snapshot(some_rows(100)))


LOADING = [
    ("json.segment-made", 0),
    ("json.segment-ended", 0),
    ("json.segment-made", 1),
    ("json.segment-ended", 1),
    ("json.load-written", 0),
]


@pytest.mark.parametrize(("point", "skip"), LOADING)
def test_a_load_that_is_killed_leaves_all_rows_or_none(
    tmp_path: Path, point: str, skip: int
) -> None:
    assert point in crashpoints.points("json.")
    outcome = run_until_crash(load_rows, tmp_path, point=point, skip=skip)
    assert outcome.reports == ()

    with opened(tmp_path) as store:
        if point == "json.load-written":
            assert store.collection(Log).count() == 100
        else:
            assert store.collection(Log).count() == 0
            assert store.load_snapshot(some_rows(100)) == 100
        assert commit(store, a_log("a")) == (101,)
    with opened(tmp_path) as again:
        assert again.collection(Log).count() == 101


# -- reserved numbers -----------------------------------------------------------------


def test_reserved_numbers_survive_snapshots_of_the_journal(tmp_path: Path) -> None:
    with opened(tmp_path, retain=FORGET_ALL) as store:
        commit(store, a_log("a"))
        store.reserve_numbers(10**9)
        store.checkpoint()
        store.compact()
    with opened(tmp_path, retain=FORGET_ALL) as store:
        store.compact()
    with opened(tmp_path) as store:
        assert commit(store, a_log("b")) == (10**9 + 1,)


def test_reserving_is_one_record_in_the_journal_and_no_row(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.reserve_numbers(10**9)
        before = journal_size(tmp_path)

        store.reserve_numbers(10**9)
        store.reserve_numbers(5)

        assert journal_size(tmp_path) == before
        assert all(not rows for rows in all_rows(store).values())
        assert store.load_snapshot(some_rows(3)) == 3
        assert commit(store, a_log("b")) == (10**9 + 1,)


# -- histories ------------------------------------------------------------------------


def texts(store: JsonStore, key: str, **options: Any) -> list[str | None]:
    return [
        change.record and change.record.text
        for change in store.record_history("logs", key, **options)
    ]


def test_a_history_reaches_back_through_all_segments(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for n in range(4):
            commit(store, a_log("a", str(n)), a_log("b"))
            store.compact()
            commit(store, a_log("b", "between"))
        assert texts(store, "a") == ["3", "2", "1", "0"]
        second = list(store.record_history("logs", "a"))[1]
        assert texts(store, "a", before=second.sequence) == ["1", "0"]
    with opened(tmp_path) as again:
        assert texts(again, "a") == ["3", "2", "1", "0"]


def test_a_history_ends_where_the_log_was_dropped(tmp_path: Path) -> None:
    with opened(tmp_path, retain=FORGET_ALL) as store:
        commit(store, a_log("a", "1"))
        store.compact()
        commit(store, a_log("a", "2"))

        assert texts(store, "a") == ["2"]


def test_a_purged_record_has_no_history(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        commit(store, a_log("a", "1"), a_log("b"))
        commit(store, delete=[("logs", "a")])
        assert store.purge("logs", ["a"])

        assert texts(store, "a") == []


def test_rows_that_were_loaded_are_no_history(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.load_changes(some_changes(10, first=1))
        commit(store, a_log("00003", "mine"))

        assert texts(store, "00003") == ["mine"]


def test_a_history_finds_keys_at_every_place_of_a_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pend_storage.stores.json._journal.segments._CHUNK", 64)
    keys = [f"{n:02}" for n in range(60)]
    with opened(tmp_path) as store:
        for key in keys:
            commit(store, a_log(key, key))
        # Windows of 64 bytes end inside of many of these.
        assert [texts(store, key) for key in keys] == [[key] for key in keys]


def test_a_history_in_a_damaged_segment_names_the_file(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        commit(store, a_log("a", "first"), a_log("c"))
        commit(store, a_log("b", "second"))
        commit(store, a_log("a", "third"))
        store.compact()
        commit(store, a_log("a", "fourth"))
        path = tmp_path / OWN / "journal-00000001.jsonl"
        path.write_bytes(path.read_bytes().replace(b"second", b"zecond"))

        history = store.record_history("logs", "a")
        assert next(history).record == a_log("a", "fourth")
        with pytest.raises(CorruptFile, match="journal-00000001"):
            list(history)


def test_a_history_ends_at_a_migration_of_the_schema(tmp_path: Path) -> None:
    renamed = Schema(
        [ps.collection("notes", Named, evolve=ps.Evolve(renamed_from={"body": "text"}))]
    )
    with opened(tmp_path, V1) as store:
        store.collection(Note).put(Note("a", "old"))
    JsonStore.migrate(renamed, tmp_path)
    with opened(tmp_path, renamed) as store:
        store.collection(Named).put(Named("a", "new"))

        found = [c.record for c in store.record_history("notes", "a")]
        assert found == [Named("a", "new")]


@dataclass(frozen=True)
class Named:
    id: str
    body: str = ""
