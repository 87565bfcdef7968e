"""Files with a great many bad records: one entry in quarantine, and nothing is lost."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import pend_storage as ps
from pend_storage._model import limits
from pend_storage.errors import InvalidRecord, PendStorageError
from pend_storage.pend import LAYOUTS, Document
from pend_storage.pend import SCHEMA as PEND
from pend_storage.records import QuarantinedRecord
from pend_storage.stores.json import JsonStore

FILE = "explorer-data/identity-map.json"
MOST = 20


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that is met by short files."""
    monkeypatch.setattr(limits, "MAX_QUARANTINED", MOST)


@dataclass(frozen=True)
class Item:
    id: str
    price: int


def quarantined(store: Any) -> list[QuarantinedRecord]:
    return list(store.collection(QuarantinedRecord).scan())


def bad_members(count: int, good: str = '"good":1') -> bytes:
    bad = ",".join(f'"bad{number}":NaN' for number in range(count))
    return f"{{{good},{bad}}}".encode()


def duplicates(count: int) -> bytes:
    pairs = ",".join(f'"n{number}":1,"n{number}":2' for number in range(count))
    return f'{{"good":1,{pairs}}}'.encode()


def write(path: Path, content: bytes) -> None:
    """Write a file as another program does, some time ago."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(0, path.stat().st_mtime_ns - 2_000_000_000))


@pytest.mark.parametrize("make", [bad_members, duplicates])
def test_bad_records_up_to_the_limit_have_an_entry_each(
    tmp_path: Path, make: Callable[[int], bytes]
) -> None:
    write(tmp_path / FILE, make(MOST))

    with JsonStore(PEND, tmp_path, layouts=LAYOUTS) as store:
        assert len(quarantined(store)) == MOST
        assert store.legacy(FILE)["good"] == 1


@pytest.mark.parametrize("make", [bad_members, duplicates])
def test_more_are_one_entry_with_all_bytes_until_the_file_is_corrected(
    tmp_path: Path, make: Callable[[int], bytes]
) -> None:
    path, content = tmp_path / FILE, make(MOST + 5)
    write(path, content)
    write(tmp_path / "wallet-db.json", b'{"0x%s":"0x%s"}' % (b"1" * 64, b"a" * 40))

    with JsonStore(PEND, tmp_path, layouts=LAYOUTS) as store:
        (one,) = quarantined(store)
        assert (one.code, one.place, one.raw) == ("too-many", "", content)
        assert one.reason.startswith(f"more than {MOST} of its ")
        assert one.reason.count("'bad" if make is bad_members else "'n") == 10
        # Unreadable is not empty: a look-up is refused, and so is a write.
        for call in (
            lambda: store.legacy(FILE)["good"],
            lambda: "bad1" in store.legacy(FILE),
            lambda: store.legacy(FILE).__setitem__("new", 1),
            lambda: store.load(FILE),
        ):
            with pytest.raises(PendStorageError, match="identity-map"):
                call()
        assert len(store.legacy("wallet-db.json")) == 1
        store.checkpoint()
        assert path.read_bytes() == content

    with JsonStore(PEND, tmp_path, layouts=LAYOUTS) as store:
        assert len(quarantined(store)) == 1
        write(path, b'{"good":1,"more":2}')
        store.checkpoint()
        assert dict(store.legacy(FILE).items()) == {"good": 1, "more": 2}
        assert not any(record.is_waiting for record in quarantined(store))


@pytest.mark.parametrize("make", [bad_members, duplicates])
def test_a_live_edit_with_more_changes_nothing_of_what_was_known(
    tmp_path: Path, make: Callable[[int], bytes]
) -> None:
    path, content = tmp_path / FILE, make(MOST + 1)
    write(path, b'{"good":1,"other":2}')

    with JsonStore(PEND, tmp_path, layouts=LAYOUTS) as store:
        write(path, content)
        store.checkpoint()
        (one,) = quarantined(store)
        assert (one.code, one.raw, one.is_waiting) == ("too-many", content, True)
        assert {d.key for d in store.collection(Document).scan()} == {"good", "other"}
        assert path.read_bytes() == content

        write(path, b'{"good":1,"other":3}')
        store.checkpoint()
        assert dict(store.legacy(FILE).items()) == {"good": 1, "other": 3}


def test_a_save_with_more_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    items = [ps.records("items.json", Item, key=ps.MEMBER_NAME)]
    good = {"a": {"price": 1}}
    write(tmp_path / "items.json", json.dumps(good).encode())

    with JsonStore(ps.schema_of(items), tmp_path, layouts=items) as store:
        data = store.load("items.json")
        data |= {f"bad{number}": {"price": "x"} for number in range(MOST + 1)}
        with pytest.raises(InvalidRecord) as caught:
            store.save("items.json", data)
        assert caught.value.code == "too-many"
        assert store.load("items.json") == good
        assert not quarantined(store)


def test_a_list_is_kept_whole_as_well(tmp_path: Path) -> None:
    items = [ps.records("items.json", Item, key="id")]
    rows: list[Any] = [
        {"id": "a", "price": 1},
        *({"price": n} for n in range(MOST + 1)),
    ]
    content = json.dumps(rows, indent=2).encode()
    write(tmp_path / "items.json", content)

    with JsonStore(ps.schema_of(items), tmp_path, layouts=items) as store:
        assert [r.code for r in quarantined(store)] == ["too-many"]
    assert (tmp_path / "items.json").read_bytes() == content


@dataclass(frozen=True)
class Tag:
    id: str


def test_a_part_of_a_file_is_kept_whole_and_the_other_parts_are_served(
    tmp_path: Path,
) -> None:
    layouts = [
        ps.records("db.json", Item, path="items"),
        ps.records("db.json", Tag, path="tags"),
    ]
    value = {"items": [{"price": n} for n in range(MOST + 1)], "tags": [{"id": "a"}]}
    write(tmp_path / "db.json", json.dumps(value).encode())

    with JsonStore(ps.schema_of(layouts), tmp_path, layouts=layouts) as store:
        assert [r.code for r in quarantined(store)] == ["too-many"]
        assert store.collection(Tag).get("a") == Tag("a")
        store.collection(Tag).put(Tag("b"))
        store.checkpoint()
        written = json.loads((tmp_path / "db.json").read_text())
        assert written == {**value, "tags": [{"id": "a"}, {"id": "b"}]}

        repaired = {**written, "items": [{"id": "x", "price": 1}]}
        write(tmp_path / "db.json", json.dumps(repaired).encode())
        store.checkpoint()
        assert store.collection(Item).get("x") == Item("x", 1)


def test_a_file_of_the_store_itself_is_kept_whole(tmp_path: Path) -> None:
    schema = ps.Schema([ps.collection("items", Item)])
    with JsonStore(schema, tmp_path) as store:
        store.collection(Item).put(Item("a", 1))
    (path,) = tmp_path.glob("*.json")
    bad = {f"b{n}": {"id": "c", "price": 1} for n in range(MOST + 1)}
    content = json.dumps({"a": {"id": "a", "price": 1}, **bad}).encode()

    with JsonStore(schema, tmp_path) as store:
        write(path, content)
        store.checkpoint()
        assert [r.code for r in quarantined(store)] == ["too-many"]
        assert store.collection(Item).get("a") == Item("a", 1)
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    "text", ["[" * 5_000 + "]" * 5_000, '"\x00x"', "NaN", '"\\x"', "1e999"]
)
def test_a_quarantined_value_can_be_looked_at_whatever_it_is(
    tmp_path: Path, text: str
) -> None:
    content = f'{{"good":1,"odd":{text}}}'.encode()
    write(tmp_path / FILE, content)

    with JsonStore(PEND, tmp_path, layouts=LAYOUTS) as store:
        view = store.legacy(FILE)
        assert list(view) == ["good", "odd"]
        assert view["good"] == 1
        assert view["odd"] is not None
        assert store.load(FILE)["good"] == 1
        assert (tmp_path / FILE).read_bytes() == content
