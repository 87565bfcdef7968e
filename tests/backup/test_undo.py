"""Undo of changes of one record: its earlier value is written again, as a new commit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pend_storage._model.snapshots import StoredRow
from pend_storage.backup._undo import Earlier, Undo, Wanted, plan_undo, write_undo
from pend_storage.cli._app import run as run_command
from pend_storage.config import JsonSettings, PostgresSettings, Settings
from pend_storage.config._settings import Declared
from pend_storage.dualwrite import CODES
from pend_storage.errors import (
    ConfigError,
    Conflict,
    UniqueViolation,
)
from pend_storage.factory import open_pair
from pend_storage.operations.backup.create import create_backup
from pend_storage.operations.backup.undo import parse_wanted, undo
from pend_storage.phases import Phase
from pend_storage.records import ChangedRecord
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import SCHEMA, Log, a_log, a_ship

from .environments import an_environment


def put(store: Store, text: str, key: str = "l1") -> int:
    return store.collection(Log).put(a_log(key, text))


def text_of(store: Store, key: str = "l1") -> str | None:
    found = store.collection(Log).get(key)
    return None if found is None else found.text


def nothing(*_: object) -> Earlier | None:
    return None


def plan(store: Store, wanted: Wanted = Wanted(), key: str = "l1") -> Undo:  # noqa: B008
    return plan_undo(
        store, "logs", key, wanted, logs={store.identity(): store}, archived=nothing
    )


def undone(store: Store, wanted: Wanted = Wanted()) -> str | None:  # noqa: B008
    write_undo(store, plan(store, wanted), by="ann")
    return text_of(store)


@pytest.fixture(params=["memory", "json", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store
    if request.param == "memory":
        made = MemoryStore(SCHEMA)
    elif request.param == "json":
        made = JsonStore(SCHEMA, tmp_path, checkpoint_interval=None)
    else:
        make = request.getfixturevalue("new_migrated_database")
        made = PostgresStore(SCHEMA, make(SCHEMA))
    with made:
        yield made


def test_the_value_before_is_written_as_a_new_version(store: Store) -> None:
    first = put(store, "right")
    wrong = put(store, "wrong")
    assert undone(store) == "right"
    last = list(store.changes())[-1]
    assert last.records[0].version > wrong
    assert (last.by, last.reason) == ("ann", f"undo of version {wrong}")
    assert undone(store) == "wrong"  # the undo of the undo
    assert undone(store, Wanted(version=first)) == "right"
    assert undone(store, Wanted(before=wrong)) == "right"


def test_a_deletion_and_a_creation_are_undone(store: Store) -> None:
    put(store, "here")
    store.collection(Log).delete("l1")
    assert undone(store) == "here"
    assert undone(store) is None
    assert undone(store, Wanted(version=0)) is None
    put(store, "other", key="l2")
    write_undo(store, plan(store, key="l2"))
    assert text_of(store, "l2") is None


def test_nothing_is_to_be_done_where_the_value_is_the_same(store: Store) -> None:
    put(store, "same")
    put(store, "same")
    found = plan(store)
    assert not found.is_needed
    assert found.action == "nothing"
    assert not plan(store, key="none").is_needed


def test_a_change_in_between_is_not_overwritten() -> None:
    store = MemoryStore(SCHEMA)
    put(store, "right")
    put(store, "wrong")
    found = plan(store)
    put(store, "by another one")
    with pytest.raises(Conflict):
        write_undo(store, found)
    assert text_of(store) == "by another one"


def test_a_record_that_was_made_again_meanwhile_is_not_overwritten() -> None:
    store = MemoryStore(SCHEMA)
    put(store, "right")
    store.collection(Log).delete("l1")
    found = plan(store)
    put(store, "by another one")
    with pytest.raises(Conflict):
        write_undo(store, found)


def test_unique_values_are_checked() -> None:
    store = MemoryStore(SCHEMA)
    ships = store.collection("ships")
    ships.put(a_ship("s1", call_sign="AAAA"))
    ships.put(a_ship("s1", call_sign="BBBB"))
    ships.put(a_ship("s2", call_sign="AAAA"))
    found = plan_undo(store, "ships", "s1", Wanted(), logs={}, archived=nothing)
    with pytest.raises(UniqueViolation):
        write_undo(store, found)


def test_what_was_never_in_a_log_is_not_taken_for_missing() -> None:
    # The first value was copied from elsewhere: the log begins with the second.
    store = MemoryStore(SCHEMA)
    store.apply((ChangedRecord("logs", "l1", 5, a_log("l1", "copied")),))
    value: dict[str, Any] = {"source": "gone", "complete": True, "head": 5}
    store.compare_and_set_meta("backfill", None, value)
    put(store, "wrong")
    with pytest.raises(ConfigError, match="kept neither in the change log"):
        plan(store)
    assert plan(store, Wanted(version=0)).action == "delete"


def test_a_record_of_an_adopted_file_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    with JsonStore(SCHEMA, tmp_path, checkpoint_interval=None) as before:
        put(before, "1")
    shutil.rmtree(
        tmp_path / ".pend-storage"
    )  # only its file is left, as other code made it
    with JsonStore(SCHEMA, tmp_path, checkpoint_interval=None) as store:
        assert text_of(store) == "1"
        put(store, "2")
        with pytest.raises(ConfigError, match="--to 0"):
            plan(store)


def test_a_pruned_log_does_not_show_that_there_was_nothing() -> None:
    store = MemoryStore(SCHEMA)
    put(store, "first")
    second = put(store, "second")
    store.prune(second)
    put(store, "third", key="l2")
    with pytest.raises(ConfigError, match="kept neither"):
        plan(store)


def test_rows_that_were_loaded_are_found_in_the_archive_and_not_taken_for_new() -> None:
    with MemoryStore(SCHEMA) as store:
        body = SCHEMA["logs"].codec.encode(a_log("l1", "loaded"))
        store.load_snapshot([("logs", StoredRow("l1", 7, body))])
        put(store, "wrong")
        known = Earlier(7, a_log("l1", "loaded"), "the archive")

        found = plan_undo(
            store, "logs", "l1", Wanted(), logs={"m": store}, archived=lambda *_: known
        )

        assert (found.action, found.earlier) == ("write", known)


def test_the_archive_is_asked_for_what_the_log_does_not_have() -> None:
    store = MemoryStore(SCHEMA)
    put(store, "first")
    second = put(store, "second")
    store.prune(second)
    asked: list[Any] = []

    def archived(*question: Any) -> Earlier:
        asked.append(question)
        return Earlier(1, a_log("l1", "first"), "the archive")

    found = plan_undo(store, "logs", "l1", Wanted(), logs={}, archived=archived)
    assert asked == [("logs", "l1", Wanted(), second)]
    write_undo(store, found)
    assert text_of(store) == "first"


def test_a_change_that_is_not_archived_yet_is_undone_from_a_backup(
    tmp_path: Path,
) -> None:
    environment = an_environment(tmp_path)
    environment.put("l1", text="adopted")
    shutil.rmtree(environment.folder / "data" / ".pend-storage")
    create_backup(environment.settings)  # the record is in no log, as in a first import
    environment.put("l1", text="wrong")

    found = undo(environment.settings, "logs", "l1")

    assert (found.undo.action, found.undo.earlier.source) == ("write", "the archive")
    with environment.store() as store:
        assert text_of(store) == "adopted"


@pytest.mark.parametrize("text", ["", "x", "before:", "before:x", "-1", "4 7"])
def test_a_wrong_target_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="neither a version"):
        parse_wanted(text)


class TestOperation:
    @pytest.fixture
    def settings(
        self, tmp_path: Path, new_migrated_database: Callable[[Schema], str]
    ) -> Settings:
        return Settings(
            environment="test",
            file=None,
            declared=Declared(schema=SCHEMA, layouts=()),
            json=JsonSettings(directory=tmp_path / "data", unclaimed="ignore"),
            postgres=PostgresSettings(url=new_migrated_database(SCHEMA)),
            is_from_code=True,
        )

    def test_a_pair_looks_into_both_logs(self, settings: Settings) -> None:
        with open_pair(settings, create=True) as pair:
            put(pair, "right")
            pair.switch(Phase.POSTGRES_PRIMARY, accept=CODES)
            put(pair, "wrong")
        tried = undo(settings, "logs", "l1", dry_run=True)
        assert tried.version is None
        done = undo(settings, "logs", "l1")
        assert done.version
        with open_pair(settings) as pair:
            assert text_of(pair) == "right"
            # Made while JSON was primary, undone while PostgreSQL is.
        assert undo(settings, "logs", "l1", to="0").version == 0
        with open_pair(settings) as pair:
            assert text_of(pair) is None

    def test_the_command_shows_what_differs(
        self,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        directory = tmp_path / "data"
        with JsonStore(SCHEMA, directory, checkpoint_interval=None) as store:
            put(store, "right")
            wrong = put(store, "wrong")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PEND_SCHEMA", "pend_storage.testing.domain")
        monkeypatch.setenv("PEND_JSON_DIRECTORY", str(directory))

        def run(*arguments: str) -> tuple[int, str]:
            code: int = run_command(["backup", "undo", "logs", "l1", *arguments])
            return code, capsys.readouterr().out

        code, text = run("--dry-run")
        assert (code, "'wrong'" in text, "'right'" in text) == (0, True, True), text
        code, text = run("--json")
        assert code == 0, text
        document = json.loads(text)["result"]
        assert (document["action"], document["present"]) == ("write", str(wrong))
        assert run("--to", document["version"])[0] == 1
        assert run("--to", "soon")[0] == 2
