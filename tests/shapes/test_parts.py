"""Several collections in one file, as lowdb and json-server keep them."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import pend_storage as ps
from pend_storage.backfill import backfill
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.phases import Phase
from pend_storage.schema import QUARANTINE, Schema
from pend_storage.stores.postgres import PostgresStore
from pend_storage.validation import validate
from tests.ages import age

J, PAR, PG, P = Phase


@dataclass(frozen=True)
class Post:
    id: int
    title: str = ""


@dataclass(frozen=True)
class Author:
    id: str
    name: str = ""


LAYOUTS = (
    ps.records("db.json", Post, path="posts"),
    ps.records("db.json", Author, path="authors", key=ps.MEMBER_NAME),
)
SCHEMA = ps.schema_of(LAYOUTS)
TEXT = (
    '{"version": 3, "posts": [{"id": 1,   "x":2}, {"id":2}],\n "n":1,'
    ' "authors": {"ann": {}}, "z": {"a": 1}}\n'
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "db.json"
    found.write_text(TEXT)
    age(found)
    return found


def opened(directory: Path, interval: float | None = None) -> ps.JsonStore:
    return ps.JsonStore(
        SCHEMA, directory, layouts=LAYOUTS, checkpoint_interval=interval
    )


def test_each_part_is_a_collection_and_the_rest_are_documents(
    path: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        with opened(tmp_path) as store:
            assert store.legacy("db.json").snapshot() == json.loads(TEXT)
            assert [p.id for p in store.collection(Post).scan()] == [1, 2]
            assert store.collection(Author).get("ann") == Author("ann")
            documents = store.collection(ps.Document).scan()
            assert {d.key for d in documents} == {"version", "n", "z"}
        assert path.read_text() == TEXT


def test_a_write_to_one_part_leaves_the_bytes_of_the_others(
    path: Path, tmp_path: Path
) -> None:
    with opened(tmp_path) as store:
        store.collection(Author).put(Author("bob", "Bob"))
        store.checkpoint()
        now = path.read_text()
        assert now.startswith(TEXT[: TEXT.index('{"ann"')])
        assert now.endswith(', "z": {"a": 1}}\n')
        store.legacy("db.json")["n"] = 7
        store.checkpoint()
    assert path.read_text() == now.replace('"n":1', '"n": 7')


def test_one_edit_of_old_code_changes_several_parts(path: Path, tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        value = json.loads(path.read_text())
        value["posts"].append({"id": 5})
        value["authors"]["eve"] = {"name": "Eve"}
        value["n"] += 1
        del value["version"]
        value["tags"] = ["a"]
        path.write_text(json.dumps(value))
        age(path)
        store.collection(Post).put(Post(9, "meanwhile"))
        store.checkpoint()
        value["posts"].append({"id": 9, "title": "meanwhile"})
        assert store.legacy("db.json").snapshot() == value
    assert json.loads(path.read_text()) == value


def test_the_view_writes_every_part(path: Path, tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        view = store.legacy("db.json")
        view["posts"].append({"id": 3})
        view["authors"]["eve"] = {"name": "Eve"}
        view["posts"] = [{"id": 3, "title": "t"}]
        view["n"] = {"more": [1]}
        del view["version"]
        assert view.pop("z") == {"a": 1}
        assert "version" not in view
        assert set(view) == {"posts", "authors", "n"}
        del view["authors"]
        expected = {
            "posts": [{"id": 3, "title": "t"}],
            "authors": {},
            "n": {"more": [1]},
        }
        assert view.snapshot() == expected
    assert json.loads(path.read_text()) == expected


def test_a_new_file_and_a_new_part_are_made(tmp_path: Path) -> None:
    path = tmp_path / "db.json"
    with opened(tmp_path) as store:
        store.checkpoint()
        assert not path.exists()
        assert dict(store.legacy("db.json")) == {}
        store.collection(Author).put(Author("ann"))
        store.checkpoint()
        assert json.loads(path.read_text()) == {"authors": {"ann": {"name": ""}}}
        store.collection(Post).put(Post(1))
        store.legacy("db.json")["n"] = 1
    expected = {
        "authors": {"ann": {"name": ""}},
        "posts": [{"id": 1, "title": ""}],
        "n": 1,
    }
    assert json.loads(path.read_text()) == expected
    with opened(tmp_path) as store:
        assert store.legacy("db.json").snapshot() == expected


def test_an_empty_part_stands_in_the_file_where_it_stood(tmp_path: Path) -> None:
    path = tmp_path / "db.json"
    path.write_text('{"posts": []}')
    age(path)
    with opened(tmp_path) as store:
        assert store.legacy("db.json").snapshot() == {"posts": []}
        store.legacy("db.json")["authors"] = {}
    assert json.loads(path.read_text()) == {"posts": [], "authors": {}}


@pytest.mark.parametrize("broken", ["null", '"text"', "{}"])
def test_a_part_of_another_shape_waits_and_the_others_go_on(
    path: Path, tmp_path: Path, broken: str
) -> None:
    text = TEXT.replace('[{"id": 1,   "x":2}, {"id":2}]', broken)
    path.write_text(text)
    age(path)
    with opened(tmp_path) as store:
        if broken != "{}":  # which says as much as an empty list
            (waiting,) = store.collection(ps.QuarantinedRecord).find().items
            assert (waiting.file, waiting.raw) == ("db.json#posts", broken.encode())
        store.collection(Author).put(Author("bob"))
        store.checkpoint()
        store.checkpoint()
        before = path.stat().st_ino
        store.checkpoint()
        assert path.stat().st_ino == before
    now = json.loads(path.read_text())
    assert now == {
        **json.loads(text),
        "authors": {"ann": {}, "bob": {"name": ""}},
    }


def test_a_broken_file_breaks_every_part_and_keeps_its_bytes(
    path: Path, tmp_path: Path
) -> None:
    with opened(tmp_path) as store:
        path.write_text("{half")
        age(path)
        store.checkpoint()
        store.collection(Post).put(Post(3))
        store.checkpoint()
        assert path.read_text() == "{half"
        assert store.collection(QUARANTINE).count() == 3
        path.write_text(TEXT)
        age(path)
        store.checkpoint()
        expected = json.loads(TEXT)
        now = store.legacy("db.json").snapshot()
        assert now["authors"] == expected["authors"]
    assert json.loads(path.read_text())["n"] == 1


def test_files_are_not_written_again_and_again(path: Path, tmp_path: Path) -> None:
    with opened(tmp_path, 0.05) as store:
        store.collection(Post).put(Post(3))
        store.collection(Author).put(Author("bob"))
        time.sleep(1.5)
        before = path.stat()
        sequence = store.head()
        time.sleep(1.5)
        after = path.stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
        assert store.head() == sequence


def test_a_pair_goes_to_postgresql_and_back(
    path: Path, tmp_path: Path, new_migrated_database: Callable[[Schema], str]
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
            pair.collection(Post).put(Post(10 + number, phase))
            pair.collection(Author).put(Author(f"a{number}"))
            pair.legacy("db.json")["n"] = number
        expected = pair.legacy("db.json").snapshot()
    assert json.loads(path.read_text()) == expected
    assert expected["n"] == 4
    assert len(expected["posts"]) == 7
    assert len(expected["authors"]) == 6


def test_two_processes_worth_of_writers_lose_nothing(
    path: Path, tmp_path: Path
) -> None:
    """The store writes each part, old code the whole file, in turns."""
    dice = random.Random(5)
    with opened(tmp_path) as store:
        posts, authors = {1, 2}, {"ann"}
        for number in range(40):
            if dice.random() < 0.5:
                store.checkpoint()
                value: dict[str, Any] = json.loads(path.read_text())
                value["posts"].append({"id": 100 + number})
                value["authors"][f"o{number}"] = {}
                path.write_text(json.dumps(value))
                age(path)
                posts.add(100 + number)
                authors.add(f"o{number}")
            if dice.random() < 0.5:
                store.collection(Post).put(Post(200 + number))
                posts.add(200 + number)
            if dice.random() < 0.5:
                store.collection(Author).put(Author(f"n{number}"))
                authors.add(f"n{number}")
            if dice.random() < 0.3:
                store.checkpoint()
        store.checkpoint()
        assert {post.id for post in store.collection(Post).scan()} == posts
        assert {author.id for author in store.collection(Author).scan()} == authors
    now = json.loads(path.read_text())
    assert {post["id"] for post in now["posts"]} == posts
    assert set(now["authors"]) == authors


def test_two_layouts_of_one_whole_file_are_refused(tmp_path: Path) -> None:
    layouts = (ps.records("a.json", Post), ps.records("a.json", Author))
    with pytest.raises(ps.ConfigError, match="2 layouts claim this file"):
        ps.JsonStore(ps.schema_of(layouts), tmp_path, layouts=layouts)


def test_a_put_of_a_record_keeps_what_only_its_file_tells(
    path: Path, tmp_path: Path
) -> None:
    with opened(tmp_path) as store:
        first = store.collection(Post).get(1)
        assert first == Post(1)
        store.collection(Post).put(replace(first, title="new"))
        store.checkpoint()
        assert json.loads(path.read_text())["posts"][0] == {
            "id": 1,
            "x": 2,
            "title": "new",
        }


def test_no_part_tidies_up_what_another_left_beside_the_file(
    path: Path, tmp_path: Path
) -> None:
    with opened(tmp_path) as store:
        assert store._session.checkpointer is not None
        places = [keeper._file for keeper in store._session.checkpointer._syncs]
        assert {place.target for place in places} == {path}
        assert len({place._suffix for place in places}) == len(places) == 3
