"""A directory that an older version of the library wrote is taken along, whole.

``json_format_1`` was written by the version whose change log had no tokens: a snapshot,
two segments of the journal, a tombstone, a named value, two legacy files.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pend_storage._audit_chain import seal
from pend_storage._audit_record import record
from pend_storage._audit_verification import verify_chain
from pend_storage.records import Row
from pend_storage.stores.json import JsonStore
from pend_storage.stores.json._journal.snapshot import FORMAT
from pend_storage.testing.domain import (
    SCHEMA,
    Log,
    Ship,
    Tally,
    a_log,
    a_ship,
    a_tally,
)

OLD = Path(__file__).with_name("json_format_1")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "data"))


def test_everything_in_it_is_still_there(old: Path) -> None:
    with JsonStore(SCHEMA, old, checkpoint_interval=None) as store:
        assert list(store.collection(Tally).scan()) == [
            a_tally("t", 3),
            a_tally("u", 2),
        ]
        assert list(store.collection(Ship).scan()) == [a_ship("s1", call_sign="AB")]
        assert list(store.scan("logs", deleted=True)) == [Row("a", 4, None)]
        assert store.meta("note") == {"kept": True}
        log = list(store.changes())

    assert [change.sequence for change in log] == [1, 2, 3, 4, 5]
    assert {(change.token, change.by, change.reason) for change in log} == {
        (None, None, None)
    }


def test_it_is_marked_as_new_before_anything_is_written(old: Path) -> None:
    before = json.loads((old / ".pend-storage" / "format").read_text())

    JsonStore(SCHEMA, old, checkpoint_interval=None).close()

    after = json.loads((old / ".pend-storage" / "format").read_text())
    assert before == {"format": 1, "id": after["id"]}
    assert after["format"] == FORMAT > 1


def test_it_goes_on_with_tokens(old: Path) -> None:
    with JsonStore(SCHEMA, old, checkpoint_interval=None) as store:
        batch = store.schema.batch([store.schema.put(Log, a_log("b"))])
        versions = store.commit(batch)

    with JsonStore(SCHEMA, old, checkpoint_interval=None) as store:
        assert store.commit(batch) == versions
        assert store.pending(0).commits == 6
        found = store.find_commit(batch.token)
        assert found is not None
        assert found.sequence == 6


@pytest.fixture
def without_purges(tmp_path: Path) -> Path:
    """A directory of the version that could not purge: it would bring tombstones back."""
    place = Path(__file__).with_name("json_format_3")
    return Path(shutil.copytree(place, tmp_path / "data"))


def test_a_directory_that_knows_no_purge_is_taken_along(without_purges: Path) -> None:
    with JsonStore(SCHEMA, without_purges, checkpoint_interval=None) as store:
        assert list(store.collection(Tally).scan()) == [
            a_tally("t", 3),
            a_tally("u", 2),
        ]
        assert list(store.collection(Ship).scan()) == [a_ship("s1", call_sign="AB")]
        (tombstone,) = store.scan("logs", deleted=True)
        assert (tombstone.key, tombstone.record) == ("a", None)
        assert store.meta("note") == {"kept": True}
        log = list(store.changes())
        assert [change.sequence for change in log] == [1, 2, 3, 4, 5, 6]
        assert [change.by for change in log] == [None, None, None, "ann", None, None]


def test_it_is_marked_before_a_purge(without_purges: Path) -> None:
    mark = without_purges / ".pend-storage" / "format"
    assert json.loads(mark.read_text())["format"] == 3

    with JsonStore(SCHEMA, without_purges, checkpoint_interval=None) as store:
        assert json.loads(mark.read_text())["format"] == FORMAT > 3
        assert store.purge("logs", ["a"])
        assert list(store.scan("logs", deleted=True)) == []


@pytest.fixture
def without_audit(tmp_path: Path) -> Path:
    """A directory of the version that had no audit."""
    place = Path(__file__).with_name("json_format_4")
    return Path(shutil.copytree(place, tmp_path / "data"))


def test_a_directory_without_audit_is_taken_along(without_audit: Path) -> None:
    mark = without_audit / ".pend-storage" / "format"
    assert json.loads(mark.read_text())["format"] == 4

    with JsonStore(SCHEMA, without_audit, checkpoint_interval=None) as store:
        assert json.loads(mark.read_text())["format"] == FORMAT > 4
        assert [t.value for t in store.collection(Tally).scan()] == [3, 2]
        assert len(list(store.changes())) == 6
        assert list(store.scan("audit")) == []
        record(store, "switch", by="ann", reason=None)
        assert seal(store) == 1
        assert verify_chain(store).ok
