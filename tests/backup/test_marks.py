"""Named marks: before each step that may be regretted there is one to restore to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pend_storage._model.marks import (
    MARKS_META,
    Mark,
    automatic_name,
    marks_in,
    marks_of,
    with_mark,
)
from pend_storage.backup._marks import set_mark
from pend_storage.config import JsonSettings, PostgresSettings, Settings
from pend_storage.config._backup import BackupSettings
from pend_storage.config._settings import Declared
from pend_storage.dualwrite import CODES
from pend_storage.dualwrite._pair_metadata import PAIR_META
from pend_storage.errors import ConfigError
from pend_storage.factory import open_json, open_pair, open_postgres
from pend_storage.operations.backup.archive import archive_once
from pend_storage.operations.backup.create import create_backup
from pend_storage.operations.backup.promote import promote
from pend_storage.operations.backup.restore import restore
from pend_storage.operations.backup.undo import undo
from pend_storage.operations.evolve import migrate_database
from pend_storage.operations.marks import mark
from pend_storage.operations.prune import prune_log
from pend_storage.phases import Phase
from pend_storage.schema import AUDIT, Schema
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, a_log
from tests.dualwrite.processes import Place, Process


def at(number: int) -> Mark:
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    return Mark(sequence=number, epoch=1, at=moment.isoformat())


def names(store: Store) -> set[str]:
    meta = {name: store.meta(name) for name in (MARKS_META, PAIR_META)}
    return {name.rsplit("-", 1)[0] for name in marks_of(meta)}


def test_the_oldest_marks_go_first() -> None:
    value: Any = None
    for number in range(205):
        value = with_mark(value, f"m{number}", at(number))
    kept = marks_in(value)
    assert len(kept) == 200
    assert "m4" not in kept
    assert kept["m204"] == at(204)


def test_a_name_is_used_again() -> None:
    value = with_mark(with_mark(None, "m", at(1)), "m", at(2))
    assert marks_in(value) == {"m": at(2)}


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "x" * 101, "a\nb"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no name of a mark"):
        with_mark(None, name, at(1))


def test_what_cannot_be_read_is_left_out() -> None:
    assert marks_in([1]) == {}
    assert marks_in({"m": {"sequence": "1"}, "n": 4}) == {}
    assert automatic_name("x", datetime(2026, 1, 2, tzinfo=UTC)) == (
        "before-x-20260102T000000Z"
    )


def test_a_mark_lies_between_two_commits() -> None:
    store = MemoryStore(SCHEMA)
    before = store.collection(Log).put(a_log("l1", "x"))
    made = set_mark(store, store, "here")
    after = store.collection(Log).put(a_log("l1", "y"))
    assert before <= made.sequence < after
    assert marks_of({MARKS_META: store.meta(MARKS_META)}) == {"here": made}


def test_each_change_of_the_phase_is_marked_in_what_is_primary_afterwards() -> None:
    place = Place()
    process = Process(place)
    process.put("l1", "x")
    process.store.switch(Phase.POSTGRES_PRIMARY, accept=CODES)
    assert names(place.postgres) == {"before-parallel", "before-postgres-primary"}
    [mark] = [
        found
        for name, found in marks_of({PAIR_META: place.postgres.meta(PAIR_META)}).items()
        if "postgres-primary" in name
    ]
    assert mark.sequence < process.put("l1", "y")
    process.store.close()


@pytest.fixture
def live(tmp_path: Path, new_migrated_database: Callable[[Schema], str]) -> Settings:
    settings = Settings(
        environment="test",
        file=None,
        declared=Declared(schema=SCHEMA, layouts=()),
        json=JsonSettings(directory=tmp_path / "data", unclaimed="ignore"),
        postgres=PostgresSettings(url=new_migrated_database(SCHEMA)),
        backup=BackupSettings(repository=str(tmp_path / "repository")),
        is_from_code=True,
    )
    with open_pair(settings, create=True) as pair:
        pair.collection(Log).put(a_log("l1", "right"))
    return settings


def test_commands_mark_the_position_before_they_change_something(
    live: Settings,
) -> None:
    migrate_database(live)
    prune_log(live)
    made = mark(live, "mine")
    with open_json(live) as store:
        assert names(store) >= {"before-db-migrate", "before-db-prune", "mine"}
        assert made.sequence >= 1
        assert store.meta(MARKS_META) is None  # the pair has them


def test_a_restore_to_a_mark_undoes_a_step(live: Settings, tmp_path: Path) -> None:
    create_backup(live)
    with open_pair(live) as pair:
        pair.switch(Phase.POSTGRES_PRIMARY, accept=CODES)
        [entry] = pair.scan(AUDIT)
        pair.collection(Log).put(a_log("l1", "wrong"))
        shared: Any = pair.postgres.meta(PAIR_META)
        [name] = [n for n in shared["values"][MARKS_META] if "postgres-primary" in n]
    archive_once(live)
    restore(live, f"point:{name}", str(tmp_path / "side"))
    done = promote(live, str(tmp_path / "side"))
    assert done.done is not None
    # What came after the mark: the entry of the switch, and the wrong record.
    assert done.done.lost.commits == 2
    assert done.done.lost.keys == ((AUDIT, entry.key), ("logs", "l1"))
    from dataclasses import replace

    moved = replace(live, json=JsonSettings(directory=tmp_path / "side"))
    with open_pair(moved) as pair:
        found = pair.collection(Log).get("l1")
        assert found is not None
        assert found.text == "right"
        assert pair.phase is Phase.JSON_ONLY


def test_an_undo_reads_the_archive_where_the_log_is_pruned(live: Settings) -> None:
    create_backup(live)
    with open_pair(live) as pair:
        pair.switch(Phase.POSTGRES_PRIMARY, accept=CODES)
        pair.switch(Phase.POSTGRES_ONLY, accept=CODES)
        logs = pair.collection(Log)
        logs.put(a_log("l1", "better"))
        wrong = logs.put(a_log("l1", "wrong"))
        end = logs.put(a_log("l2", "another"))
    archive_once(live)
    alone = Settings(
        environment="test",
        file=None,
        phase=Phase.POSTGRES_ONLY,
        declared=Declared(schema=SCHEMA, layouts=()),
        postgres=live.postgres,
        backup=live.backup,
        is_from_code=True,
    )
    with open_postgres(alone) as store:
        store.prune(end)
    done = undo(alone, "logs", "l1")
    assert done.undo.earlier.source == "the archive"
    assert done.undo.present == wrong
    with open_postgres(alone) as store:
        found = store.collection(Log).get("l1")
        assert found is not None
        assert found.text == "better"
        first = store.meta(MARKS_META)
    assert first is None or isinstance(first, dict)
