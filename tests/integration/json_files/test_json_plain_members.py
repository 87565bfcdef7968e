"""Files of plain records: what stands there twice, and names that no store can hold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

import pend_storage as ps
from pend_storage.records import QuarantinedRecord
from tests.ages import age


@dataclass(frozen=True)
class Note:
    id: str
    n: int = 0


SCHEMA = ps.Schema([ps.collection("notes", Note)])


def opened(directory: Path) -> ps.JsonStore:
    return ps.JsonStore(SCHEMA, directory, checkpoint_interval=None)


def aside(store: ps.JsonStore) -> list[tuple[str, str, bytes]]:
    found = store.collection(QuarantinedRecord).scan()
    return [(one.code, one.place, one.raw) for one in found]


@pytest.mark.parametrize("live", [False, True])
def test_the_last_of_equal_names_counts_and_the_others_wait(
    tmp_path: Path, live: bool
) -> None:
    """So at the first opening and for an edit, and a deletion restores none."""
    file = tmp_path / "notes.json"
    text = (
        '{"a": {"id": "a", "n": 1}, "b": {"id": "b"}, "\\u0061": {"id": "a", "n": 3}}'
    )
    if not live:
        file.write_text(text)
    with opened(tmp_path) as store:
        notes = store.collection(Note)
        if live:
            notes.put(Note("b", 5))
            store.checkpoint()
            file.write_text(text)
            age(file)
            store.checkpoint()
        assert notes.get("a") == Note("a", 3)
        assert aside(store) == [("superseded", "a", b'"a": {"id": "a", "n": 1}')]
        notes.delete("a")
        store.checkpoint()
        assert list(json.loads(file.read_bytes())) == ["b"]
    with opened(tmp_path) as store:
        assert store.collection(Note).get("a") is None
        assert len(aside(store)) == 1


def test_a_quarantined_text_never_stands_behind_the_record_of_its_name(
    tmp_path: Path,
) -> None:
    """A parser would take it for the record, and a deletion would restore it."""
    file = tmp_path / "notes.json"
    file.write_text('{"a": {"id": "a", "n": "bad"}, "b": {"id": "b"}}')
    with opened(tmp_path) as store:
        notes = store.collection(Note)
        notes.put(Note("a", 7))
        store.checkpoint()
        assert json.loads(file.read_bytes())["a"]["n"] == 7
        notes.delete("a")
        store.checkpoint()
        assert list(json.loads(file.read_bytes())) == ["b"]
        assert [code for code, _, _ in aside(store)] == ["superseded"]


@pytest.mark.parametrize("name", ["b\0", "b\ud800"])
def test_one_name_that_cannot_be_stored_is_one_quarantined_record(
    tmp_path: Path, name: str
) -> None:
    """The others are served, and all of them stay in the file."""
    file = tmp_path / "notes.json"
    content = {"a": {"id": "a", "n": 1}, name: {"id": name, "n": 2}}
    file.write_text(json.dumps(content))
    with opened(tmp_path) as store:
        assert store.collection(Note).get("a") == Note("a", 1)
        assert name not in store.legacy("notes.json")
        ((_, place, _),) = aside(store)
        assert place == name.encode("utf-8", "backslashreplace").decode().replace(
            "\0", "\\u0000"
        )
        store.collection(Note).put(Note("c"))
        store.checkpoint()
    assert json.loads(file.read_bytes()) == {**content, "c": {"id": "c", "n": 0}}
