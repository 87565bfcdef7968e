"""Records that some store could not hold: refused alike, and set aside by adoption."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pend_storage._model import sizes
from pend_storage._model.sizes import SizeLimits, jsonb_bytes
from pend_storage.backfill import backfill
from pend_storage.codec import dump_json
from pend_storage.errors import CorruptFile, InvalidRecord
from pend_storage.pend import LAYOUTS, Document
from pend_storage.pend import SCHEMA as PEND
from pend_storage.records import ChangedRecord, QuarantinedRecord
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import SCHEMA, Log, Ship, a_log, a_ship
from pend_storage.testing.strategies import json_values

FILE = "explorer-data/identity-map.json"
SMALL = SizeLimits(record=60_000, commit=80_000, value=20_000, items=5_000, members=900)
HUGE = "x" * 20_001


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that are met without gigabytes."""
    monkeypatch.setattr(sizes, "STORABLE", SMALL)
    monkeypatch.setattr(sizes, "CLOSER_LOOK", 5_000)


@pytest.fixture
def stores(
    tmp_path: Path, new_migrated_database: Callable[[Schema], str]
) -> Iterator[list[Store]]:
    with (
        MemoryStore(SCHEMA) as memory,
        JsonStore(SCHEMA, tmp_path / "data") as files,
        PostgresStore(SCHEMA, new_migrated_database(SCHEMA)) as database,
    ):
        yield [memory, files, database]


@pytest.mark.usefixtures("small_limits")
def test_every_store_refuses_the_same_sizes_and_writes_nothing(
    stores: list[Store],
) -> None:
    for store in stores:
        ships, logs = store.collection(Ship), store.collection(Log)
        for values in (
            {"anything": HUGE},
            {"tags": [None] * 5_001},
            {"extra": {"inside": ["x" * 15_000, "y" * 15_000]}},
            {"remark": "x" * 30_000, "seal": b"x" * 30_000},
        ):
            with pytest.raises(InvalidRecord) as caught:
                ships.put(a_ship("s1", **values))
            assert (caught.value.code, caught.value.key) == ("too-large", "s1")
        with pytest.raises(InvalidRecord):
            logs.put_many([a_log(f"l{number}", "x" * 25_000) for number in range(4)])
        assert (ships.count(), logs.count()) == (0, 0)
        ships.put(a_ship("s1", remark="x" * 30_000, anything="x" * 19_000))
        assert ships.count() == 1


@pytest.mark.usefixtures("small_limits")
def test_adoption_sets_the_one_record_aside_and_the_others_migrate(
    tmp_path: Path, new_migrated_database: Callable[[Schema], str]
) -> None:
    path = tmp_path / FILE
    path.parent.mkdir()
    members = {"a": 1, "huge": HUGE, "many": [0] * 5_001, "z": "x" * 15_000}
    path.write_text(json.dumps(members))
    text = path.read_bytes()

    with (
        JsonStore(PEND, tmp_path, layouts=LAYOUTS) as source,
        PostgresStore(PEND, new_migrated_database(PEND)) as target,
    ):
        backfill(source, target)
        source.collection(Document).put(next(source.collection(Document).scan()))

        for store in (source, target):
            assert {d.key for d in store.collection(Document).scan()} == {"a", "z"}
            aside = {r.place: r for r in store.collection(QuarantinedRecord).scan()}
            assert set(aside) == {"huge", "many"}
            assert {r.code for r in aside.values()} == {"too-large"}
            assert aside["huge"].reason.startswith("body: a text of 20,001 bytes")
        assert source.legacy(FILE)["huge"] == HUGE
        assert path.read_bytes() == text

        path.write_text(json.dumps({**members, "b": 2, "late": HUGE + "y"}))
        os.utime(path, ns=(0, path.stat().st_mtime_ns - 2_000_000_000))
        source.checkpoint()
        assert source.legacy(FILE)["b"] == 2
        assert {r.place for r in source.collection(QuarantinedRecord).scan()} == {
            "huge",
            "many",
            "late",
        }


@pytest.mark.usefixtures("small_limits")
def test_a_text_that_quarantine_cannot_hold_either_is_named_and_left_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / FILE
    path.parent.mkdir()
    path.write_text(json.dumps({"a": 1, "huge": "x" * 60_000}))
    text = path.read_bytes()

    with pytest.raises(
        CorruptFile, match="the record 'huge' cannot be placed"
    ) as caught:
        JsonStore(PEND, tmp_path, layouts=LAYOUTS)

    assert (caught.value.path, caught.value.offset) == (FILE, text.index(b'"huge"'))
    assert "its text of 60,010 bytes is too large for quarantine" in str(caught.value)
    assert path.read_bytes() == text
    path.write_text(json.dumps({"a": 1}))
    with JsonStore(PEND, tmp_path, layouts=LAYOUTS) as store:
        assert store.legacy(FILE) == {"a": 1}


def test_what_an_older_version_has_stored_is_named_when_it_is_applied(
    stores: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, files, database = stores
    files.collection(Ship).put_many(
        [a_ship(f"s{n}", anything=HUGE if n == 7 else n) for n in range(600)]
    )
    rows = files.scan("ships")
    changes = [ChangedRecord("ships", r.key, r.version, r.record) for r in rows]
    monkeypatch.setattr(sizes, "STORABLE", SMALL)
    monkeypatch.setattr(sizes, "CLOSER_LOOK", 5_000)

    for part in (changes, [c for c in changes if c.key == "s7"]):  # copied, and called
        with pytest.raises(InvalidRecord) as caught:
            database.apply(part)
        assert (caught.value.key, caught.value.field) == ("s7", "anything")
    assert database.collection(Ship).count() == 0


@settings(deadline=None)
@given(values=st.lists(json_values(), min_size=1, max_size=20))
def test_a_value_is_measured_as_at_least_what_the_server_takes(
    connection: psycopg.Connection[Any], values: list[Any]
) -> None:
    texts = [dump_json(value).decode() for value in values]
    found = connection.execute(
        "select array_agg(pg_column_size(t::jsonb) order by n)"
        " from unnest(%s::text[]) with ordinality as u (t, n)",
        [texts],
    ).fetchone()

    assert found is not None
    for value, size in zip(values, found[0], strict=True):
        measured = jsonb_bytes(value)
        assert size - 4 <= measured <= 3 * size + 30  # its own length takes four


@pytest.fixture(scope="module")
def connection(postgres_server: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_server) as connection:
        yield connection


@pytest.mark.deep
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(lambda: "x" * (1 << 28), id="text"),
        pytest.param(lambda: [0] * ((1 << 24) + 1), id="items"),
        pytest.param(lambda: {f"{n}": 0 for n in range((1 << 23) + 1)}, id="members"),
        pytest.param(lambda: ["x" * (90 << 20)] * 3, id="together"),
    ],
)
def test_the_server_refuses_what_is_refused_here_and_takes_a_little_less(
    new_migrated_database: Callable[[Schema], str], value: Callable[[], Any]
) -> None:
    big = value()
    with PostgresStore(
        SCHEMA, new_migrated_database(SCHEMA), statement_timeout=600.0
    ) as store:
        ships = store.collection(Ship)
        with pytest.raises(InvalidRecord) as caught:
            ships.put(a_ship("s1", anything=big))
        assert (caught.value.code, caught.value.field) == ("too-large", "anything")

        if isinstance(big, dict):
            big.popitem()
        else:
            big = big[: len(big) - (100 if isinstance(big, str) else 1)]
        ships.put(a_ship("s1", anything=big))
        assert ships.get("s1") == a_ship("s1", anything=big)
