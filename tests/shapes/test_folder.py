"""One file for each record."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import pend_storage as ps
from pend_storage.backfill import backfill
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.phases import Phase
from pend_storage.schema import QUARANTINE, Schema
from pend_storage.stores.json._legacy_sync.synced_folder import SyncedFolder
from pend_storage.stores.postgres import PostgresStore
from pend_storage.validation import render_check, validate
from tests.ages import age

J, PAR, PG, P = Phase


@dataclass(frozen=True)
class User:
    id: str
    coins: int = 0


LAYOUTS = (ps.records("users/*.json", User),)
SCHEMA = ps.schema_of(LAYOUTS)
FILES = {
    "ann.json": '{\n    "coins": 5,\n    "x": [1]\n}\n',
    "bob.json": '{"id": "bob"}',
    "50%.json": '{"coins": 1}',
    ".hidden.json": "not ours",
    "notes.txt": "not ours",
}


@pytest.fixture
def users(tmp_path: Path) -> Path:
    found = tmp_path / "users"
    found.mkdir()
    for name, text in FILES.items():
        write(found / name, text)
    return found


def write(path: Path, text: str) -> None:
    path.write_text(text)
    age(path)


def opened(directory: Path) -> ps.JsonStore:
    return ps.JsonStore(SCHEMA, directory, layouts=LAYOUTS, checkpoint_interval=None)


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_every_file_is_a_record_and_keeps_its_bytes(
    users: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        with opened(tmp_path) as store:
            found = list(store.collection(User).scan())
            assert found == [User("50%", 1), User("ann", 5), User("bob")]
            assert store.legacy("users/*.json").snapshot() == {
                "50%": {"coins": 1},
                "ann": {"coins": 5, "x": [1]},
                "bob": {"id": "bob"},
            }
            assert store.unclaimed_files() == ()
        assert texts(users) == FILES


def test_only_the_files_of_changed_records_are_written(
    users: Path, tmp_path: Path
) -> None:
    users.joinpath("ann.json").chmod(0o640)
    untouched = users.joinpath("50%.json").stat()
    with opened(tmp_path) as store:
        verbs = store.collection(User)
        verbs.put(User("ann", 6))
        verbs.put(User("a/b: c", 2))
        assert verbs.delete("bob")
    now = texts(users)
    assert json.loads(now.pop("a%2Fb%3A c.json")) == {"id": "a/b: c", "coins": 2}
    assert json.loads(now.pop("ann.json")) == {"coins": 6, "x": [1]}
    assert now == {n: FILES[n] for n in ("50%.json", ".hidden.json", "notes.txt")}
    assert users.joinpath("ann.json").stat().st_mode & 0o777 == 0o640
    assert users.joinpath("50%.json").stat() == untouched
    with opened(tmp_path) as store:
        assert store.collection(User).get("a/b: c") == User("a/b: c", 2)


def test_old_code_adds_changes_and_deletes_files(users: Path, tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        write(users / "new.json", '{"coins": 9}')
        write(users / "ann.json", '{"coins": 1}')
        (users / "bob.json").unlink()
        store.collection(User).put(User("meanwhile"))
        store.checkpoint()
        assert {u.id: u.coins for u in store.collection(User).scan()} == {
            "50%": 1,
            "ann": 1,
            "new": 9,
            "meanwhile": 0,
        }
        assert (users / "new.json").read_text() == '{"coins": 9}'


def test_a_file_that_is_no_json_waits_alone(users: Path, tmp_path: Path) -> None:
    write(users / "bad.json", "{half")
    with opened(tmp_path) as store:
        (waiting,) = store.collection(ps.QuarantinedRecord).find().items
        assert waiting.place == "bad"
        store.collection(User).put(User("ann", 7))
        store.checkpoint()
        assert (users / "bad.json").read_text() == "{half"
        write(users / "bad.json", '{"coins": 3}')
        store.checkpoint()
        assert store.collection(User).get("bad") == User("bad", 3)
        assert store.collection(QUARANTINE).count() == 0


def test_a_folder_that_is_not_there_is_made_with_the_first_record(
    tmp_path: Path,
) -> None:
    with opened(tmp_path) as store:
        assert store.legacy("users/*.json") == {}
        store.checkpoint()
        assert not (tmp_path / "users").exists()
        store.legacy("users/*.json")["ann"] = {"coins": 1}
    assert json.loads((tmp_path / "users" / "ann.json").read_text()) == {"coins": 1}


def test_a_writer_that_dies_on_the_way_has_done_no_harm(
    users: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace: Any = SyncedFolder._replace
    written: list[object] = []

    def dies(place: SyncedFolder, *new: object) -> None:
        if written:
            raise OSError("killed")
        replace(place, *new)
        written.append(new)

    store = opened(tmp_path)
    monkeypatch.setattr(SyncedFolder, "_replace", dies)
    store.collection(User).put_many([User("ann", 7), User("bob", 7), User("eve", 7)])
    store.close()
    monkeypatch.undo()
    assert len(written) == 1
    with opened(tmp_path) as store:
        assert {u.id: u.coins for u in store.collection(User).scan()} == {
            "50%": 1,
            "ann": 7,
            "bob": 7,
            "eve": 7,
        }
    for name in ("ann", "bob", "eve"):
        assert json.loads((users / f"{name}.json").read_text())["coins"] == 7
    assert not [path for path in users.iterdir() if "pend-new" in path.name]


def test_an_edit_at_the_last_moment_is_kept(
    users: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as store:
        replace: Any = SyncedFolder._replace

        def late(place: SyncedFolder, *new: object) -> None:
            monkeypatch.undo()
            replace(place, *new)
            write(users / "bob.json", '{"id": "bob", "coins": 99}')

        monkeypatch.setattr(SyncedFolder, "_replace", late)
        store.collection(User).put_many([User("ann", 7), User("bob", 7)])
        store.checkpoint()
        bob = store.collection(User).get("bob")
        assert bob == User("bob", 99)
        assert json.loads((users / "ann.json").read_text())["coins"] == 7
    assert json.loads((users / "bob.json").read_text())["coins"] == 99


def test_a_pair_goes_to_postgresql_and_back(
    users: Path, tmp_path: Path, new_migrated_database: Callable[[Schema], str]
) -> None:
    with DualWriteStore(
        json=opened(tmp_path),
        postgres=PostgresStore(SCHEMA, new_migrated_database(SCHEMA)),
        backfill=backfill,
        validate=validate,
    ) as pair:
        pair.switch(PAR, accept=CODES)
        pair.backfill()
        assert pair.validate().ok
        for number, phase in enumerate((PG, P, PG, PAR, J)):
            pair.switch(phase, accept=CODES)
            pair.collection(User).put(User(f"u{number}", number))
        pair.collection(User).delete("bob")
    now = {p.stem: json.loads(p.read_text()) for p in users.glob("[!.]*.json")}
    assert now == {
        "50%": {"coins": 1},
        "ann": {"coins": 5, "x": [1]},
        **{f"u{n}": {"id": f"u{n}", "coins": n} for n in range(5)},
    }
    with opened(tmp_path) as store:
        (check,) = render_check(store, tmp_path)
        assert check.result == "identical"


def test_documents_may_be_files_of_a_folder(users: Path, tmp_path: Path) -> None:
    layouts = ps.documents("users/*.json")
    with ps.JsonStore(ps.schema_of(layouts), tmp_path, layouts=layouts) as store:
        view = store.legacy("users/*.json")
        assert view["ann"] == {"coins": 5, "x": [1]}
        view["list"] = [1, 2]
    now = texts(users)
    assert json.loads(now.pop("list.json")) == [1, 2]
    assert now == FILES


@pytest.mark.parametrize("file", ["*/a.json", "a/**.json", "a/*-*.json"])
def test_a_star_stands_once_in_the_last_part(file: str) -> None:
    with pytest.raises(ps.ConfigError, match="once, in the last part"):
        ps.records(file, User)


def test_a_file_between_others_moves_none_of_them(users: Path, tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        before = {row.key: row.version for row in store.scan("users")}
        write(users / "aaa.json", "{}")
        store.checkpoint()
        after = {row.key: row.version for row in store.scan("users")}
    assert after.pop("aaa") > max(before.values())
    assert after == before


def test_names_that_are_spelled_in_two_ways_are_two_files(
    users: Path, tmp_path: Path
) -> None:
    write(users / "a b.json", '{"coins": 1}')
    write(users / "a%20b.json", '{"coins": 2}')
    write(users / "50%25.json", '{"coins": 3}')  # as the store spells 50%
    with opened(tmp_path) as store:
        verbs = store.collection(User)
        assert verbs.get("a b") == User("a b", 1)
        assert verbs.get("a%20b") == User("a%20b", 2)
        assert verbs.get("50%") == User("50%", 3)
        verbs.put(User("50%", 4))
        verbs.put(User("a%20b", 5))
        assert store.unclaimed_files() == (users / "50%.json",)
    now = texts(users)
    assert json.loads(now["50%25.json"])["coins"] == 4
    assert json.loads(now["a%20b.json"])["coins"] == 5
    assert now["50%.json"] == FILES["50%.json"]
    assert now["a b.json"] == '{"coins": 1}'
