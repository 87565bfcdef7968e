"""System collections that a later version added come with the normal migration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

import pend_storage as ps
from pend_storage import schema as schemas
from pend_storage.dualwrite import DualWriteStore
from pend_storage.errors import SchemaOutOfDate
from pend_storage.phases import Phase
from pend_storage.records import FindingRecord
from pend_storage.schema import FINDINGS, Schema
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore


@dataclass(frozen=True)
class Note:
    id: str
    text: str = ""


def declare() -> Schema:
    return Schema([ps.collection("notes", Note)])


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Schema:
    """The schema as it was before there were findings."""
    with monkeypatch.context() as patch:
        known = tuple(spec for spec in schemas._SYSTEM if spec.name != FINDINGS)
        patch.setattr(schemas, "_SYSTEM", known)
        return declare()


def test_a_database_gets_them_by_its_migration(
    before: Schema, postgres_url: str
) -> None:
    with PostgresStore(before, postgres_url) as store:
        store.migrate()
        store.collection(Note).put(Note("n", "kept"))

    with PostgresStore(declare(), postgres_url) as store:
        with pytest.raises(SchemaOutOfDate, match="migrate"):
            store.collection(FindingRecord).count()
        store.migrate()

        assert store.collection(FindingRecord).count() == 0
        assert store.collection(Note).get("n") == Note("n", "kept")


def test_a_directory_gets_them_by_being_opened(before: Schema, tmp_path: Path) -> None:
    with JsonStore(before, tmp_path) as store:
        store.collection(Note).put(Note("n", "kept"))

    with JsonStore(declare(), tmp_path) as store:
        assert store.collection(FindingRecord).count() == 0
        assert store.collection(Note).get("n") == Note("n", "kept")
    assert not (tmp_path / "findings.json").exists()


def test_a_pair_that_was_in_use_goes_on(
    before: Schema, tmp_path: Path, postgres_url: str
) -> None:
    def stores(schema: Schema) -> DualWriteStore:
        database = PostgresStore(schema, postgres_url)
        database.migrate()
        return DualWriteStore(json=JsonStore(schema, tmp_path), postgres=database)

    with stores(before) as pair:
        pair.switch(Phase.PARALLEL)
        pair.collection(Note).put(Note("n", "kept"))

    with stores(declare()) as pair:
        assert pair.phase is Phase.PARALLEL
        assert pair.divergences() == ()
        pair.collection(Note).put(Note("n", "again"))
        pair.catch_up()
        assert pair._pair.postgres.collection(Note).get("n") == Note("n", "again")
