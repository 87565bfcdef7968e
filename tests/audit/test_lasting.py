"""Entries outlast what happens to a store: phases, rollback, relay, processes, restores."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pend_storage._audit_chain import seal, seals
from pend_storage._audit_record import record
from pend_storage._audit_verification import AuditReport, verify_chain
from pend_storage._model.audit import AUDIT
from pend_storage.aio import AsyncStore
from pend_storage.dualwrite import CODES
from pend_storage.dualwrite import _relay as relays
from pend_storage.errors import SchemaOutOfDate
from pend_storage.factory import DualWriteStore
from pend_storage.phases import Phase
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.json import _store_directory as directories
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.stores.postgres._client import schema_revision as revisions
from tests.audit.stores import (
    KEYS,
    SCHEMA,
    Note,
    edited,
    entry_rows,
    in_database,
    pair_of,
)

_WRITER = """
import sys
from pend_storage._audit_chain import seal
from pend_storage.stores.json import JsonStore
from tests.audit.stores import SCHEMA, Note
name, directory = sys.argv[1:]
with JsonStore(SCHEMA, directory, checkpoint_interval=None) as store:
    with store.acting(by=name):
        for number in range(40):
            store.collection(Note).put(Note("shared", f"{name} {number}"))
            if number % 8 == 0:
                seal(store, most=5)
"""


def proven(store: Store) -> AuditReport:
    report = verify_chain(store)
    assert report.problems == []
    return report


def keys_by(store: Store) -> list[tuple[str | None, str | None]]:
    rows = sorted(entry_rows(store, "put"), key=lambda row: row.version)
    return [(row.record.key, row.record.by) for row in rows]


@pytest.mark.parametrize("is_sealed", [True, False], ids=["sealed", "unsealed"])
def test_a_way_forth_and_back_loses_no_entry(
    tmp_path: Path, postgres_url: str, *, is_sealed: bool
) -> None:
    wanted = []
    with pair_of(SCHEMA, tmp_path, postgres_url, Phase.JSON_ONLY) as pair:

        def write(phase: str) -> None:
            with pair.acting(by=phase):
                pair.collection(Note).put(Note(phase))
                record(pair, "step", by=phase, reason=None)
            wanted.append((phase, phase))
            if is_sealed:
                seal(pair)

        write("json-only")
        pair.switch(Phase.PARALLEL)
        pair.backfill()
        write("parallel")
        pair.validate()
        for number, phase in enumerate(
            [
                Phase.POSTGRES_PRIMARY,
                Phase.POSTGRES_ONLY,
                Phase.POSTGRES_PRIMARY,
                Phase.PARALLEL,
                Phase.JSON_ONLY,
            ]
        ):
            pair.switch(phase, accept=CODES)
            assert keys_by(pair) == wanted
            proven(pair)
            write(f"{phase.value} {number}")

        assert keys_by(pair) == wanted
        assert len(entry_rows(pair, "step")) == len(wanted)
        seal(pair)
        report = proven(pair)
    assert (report.sealed, report.unproven) == (2 * len(wanted), 0)
    assert not (tmp_path / "audit.json").exists()
    assert b"commitment" not in (tmp_path / "notes.json").read_bytes()


def test_both_stores_of_a_pair_have_the_same_entries(
    tmp_path: Path, postgres_url: str
) -> None:
    with pair_of(SCHEMA, tmp_path, postgres_url, Phase.PARALLEL) as pair:
        pair.collection(Note).put_many([Note("a"), Note("b")])
        pair.collection(Note).delete("a")
        seal(pair)
        pair.catch_up()

        assert entry_rows(pair._pair.json) == entry_rows(pair._pair.postgres)
        assert len(entry_rows(pair)) == 4
        assert pair.validate().ok


def test_the_relay_seals(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "_SEAL_EVERY", 0.0)
    with pair_of(
        SCHEMA, tmp_path, postgres_url, Phase.PARALLEL, relay_interval=0.01
    ) as pair:
        pair.collection(Note).put(Note("a"))
        until = time.monotonic() + 20
        while verify_chain(pair).sealed == 0:
            assert time.monotonic() < until
            time.sleep(0.02)
        pair.catch_up()

        assert proven(pair).sealed == 1
        assert proven(pair._pair.postgres).sealed == 1


def test_an_entry_changed_in_the_secondary_is_found_and_repaired(
    tmp_path: Path, postgres_url: str
) -> None:
    with pair_of(SCHEMA, tmp_path, postgres_url, Phase.PARALLEL) as pair:
        pair.collection(Note).put(Note("a"))
        pair.catch_up()
        (row,) = entry_rows(pair._pair.postgres)
        in_database(postgres_url)(pair._pair.postgres, row, edited(row))

        (divergence,) = pair.validate().divergences
        pair.repair()

        assert (divergence.collection, divergence.key) == (AUDIT, row.key)
        (repaired,) = entry_rows(pair._pair.postgres)
        assert repaired.record == row.record
        assert pair.validate().ok


def test_the_secondary_follows_an_erasure_and_a_pruning(
    tmp_path: Path, postgres_url: str
) -> None:
    from datetime import UTC, datetime

    from pend_storage._audit_retention import erase, prune
    from pend_storage._model.attribution import Actor

    with pair_of(SCHEMA, tmp_path, postgres_url, Phase.POSTGRES_PRIMARY) as pair:
        pair.collection(Note).put(Note("a", "private"))
        seal(pair)
        pair.collection(Note).put(Note("b"))
        pair.catch_up()

        assert erase(pair, "notes", ["a"], author=Actor("dpo")).entries == 1
        pair.catch_up()
        for store in (pair, pair._pair.json, pair._pair.postgres):
            assert "private" not in str(entry_rows(store))
            assert proven(store).erased == 1

        done = prune(pair, before=datetime.now(UTC), author=Actor("cron"))
        pair.catch_up()
        assert done.entries > 0
        assert entry_rows(pair._pair.json) == entry_rows(pair._pair.postgres)
        proven(pair)


def test_an_author_is_kept_through_awaited_calls(
    tmp_path: Path, postgres_url: str
) -> None:
    async def write(store: AsyncStore, name: str) -> None:
        with store.acting(by=name, reason="async", request=f"r-{name}"):
            await store.collection(Note).put(Note(name))
            await asyncio.sleep(0)
            async with store.transaction() as tx:
                await tx.collection(Note).get(name)
                await tx.collection(Note).put(Note(name, "again"))

    async def run(pair: DualWriteStore) -> None:
        store = AsyncStore(pair)
        await asyncio.gather(*(write(store, name) for name in ("ann", "bob", "cee")))

    with pair_of(SCHEMA, tmp_path, postgres_url, Phase.POSTGRES_PRIMARY) as pair:
        asyncio.run(run(pair))

        found = [row.record for row in entry_rows(pair, "put")]
        assert len(found) == 6
        for entry in found:
            assert (entry.by, entry.request) == (entry.key, f"r-{entry.key}")
        proven(pair)


def test_processes_that_write_and_seal_at_once_make_one_chain(tmp_path: Path) -> None:
    names = ["ann", "bob", "cee"]
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, name, str(tmp_path)])
        for name in names
    ]
    assert [writer.wait(100) for writer in writers] == [0, 0, 0]

    with JsonStore(SCHEMA, tmp_path, checkpoint_interval=None) as store:
        seal(store)
        report = proven(store)
        authors = [row.record.by for row in entry_rows(store, "put")]
        numbers = [known.seal.number for known in seals(store)]
    assert report.sealed == 120
    assert sorted(authors) == sorted(names * 40)
    assert numbers == list(range(len(numbers), 0, -1))


def test_an_edit_of_a_legacy_file_has_entries_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "notes.json"
    with JsonStore(SCHEMA, tmp_path, checkpoint_interval=None) as store:
        store.collection(Note).put(Note("a", "old"))
        store.checkpoint()
        with store.acting(by="ann", request="r-1"):
            file.write_text(file.read_text().replace("old", "new"))
            store.checkpoint()

        assert store.collection(Note).get("a") == Note("a", "new")
        last = max(entry_rows(store, "put"), key=lambda row: row.version).record
        assert (last.by, last.reason) == ("file edit", "notes.json was edited")
        assert last.request is None
        assert '"before":{"id":"a","text":"old"}' in last.content
        proven(store)


def test_the_first_import_of_files_has_no_entries(tmp_path: Path) -> None:
    with JsonStore(SCHEMA, tmp_path) as store:
        store.collection(Note).put(Note("a", "old"))
    text = (tmp_path / "notes.json").read_text()
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.json").write_text(text)

    with JsonStore(SCHEMA, other) as store:
        assert store.collection(Note).get("a") == Note("a", "old")
        assert entry_rows(store) == []
        proven(store)


def test_a_restored_store_continues_the_chain(
    tmp_path: Path, postgres_url: str
) -> None:
    with (
        JsonStore(SCHEMA, tmp_path) as source,
        PostgresStore(SCHEMA, postgres_url) as target,
    ):
        target.migrate()
        source.collection(Note).put(Note("a"))
        seal(source)
        source.collection(Note).put(Note("b"))
        with source.snapshot() as reader:
            target.load_snapshot(
                (spec.name, row) for spec in SCHEMA for row in reader.rows(spec.name)
            )
        before = proven(target)
        target.collection(Note).put(Note("c"))
        seal(target)
        after = proven(target)

    assert (before.sealed, before.unproven) == (1, 1)
    assert (after.sealed, after.unproven, after.seals) == (3, 0, 2)


def test_a_log_that_was_pruned_before_a_seal_loses_no_entry(postgres_url: str) -> None:
    with PostgresStore(KEYS, postgres_url) as store:
        store.migrate()
        for number in range(7):
            store.collection(Note).put(Note(f"{number}"))
        last = max(change.sequence for change in store.changes())
        store.prune(last)
        store.collection(Note).put(Note("last"))

        assert proven(store).unproven == 7
        assert seal(store, most=3) == 8
        assert proven(store).sealed == 8


def test_a_program_of_before_is_refused(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PostgresStore(SCHEMA, postgres_url).migrate()
    JsonStore(SCHEMA, tmp_path).close()
    with monkeypatch.context() as before:
        before.setattr(revisions, "CORE_REVISION", "0004")
        before.setattr(revisions, "KNOWN_REVISIONS", revisions.KNOWN_REVISIONS[:-1])
        before.setattr(directories, "FORMAT", 4)
        with (
            PostgresStore(SCHEMA, postgres_url) as store,
            pytest.raises(SchemaOutOfDate, match="newer program has migrated"),
        ):
            store.collection(Note).count()
        with pytest.raises(SchemaOutOfDate, match="this version knows 4"):
            JsonStore(SCHEMA, tmp_path)


def test_memory_is_the_reference() -> None:
    store = MemoryStore(KEYS)
    store.collection(Note).put(Note("a"))

    assert keys_by(store) == [("a", None)]


def test_entries_of_another_primary_are_sealed_in_parts(
    tmp_path: Path, postgres_url: str
) -> None:
    with pair_of(KEYS, tmp_path, postgres_url, Phase.PARALLEL) as pair:
        for number in range(7):
            pair.collection(Note).put(Note(f"{number}"))
        pair.switch(Phase.POSTGRES_PRIMARY, accept=CODES)

        assert proven(pair).unproven == 7
        assert seal(pair, most=3) == 7
        assert proven(pair).sealed == 7
        pair.collection(Note).put(Note("last"))
        assert seal(pair, most=3) == 1
        assert (proven(pair).sealed, proven(pair).unproven) == (8, 0)
