"""Backfill, validation and repair over a directory and a database, while others write."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from pend_storage.backfill import backfill
from pend_storage.dualwrite import DualWriteStore
from pend_storage.phases import Phase
from pend_storage.records import Row
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import SCHEMA, Log, Tally, a_log, a_tally
from pend_storage.validation import validate

NewDatabase = Callable[[Schema], str]
_RECORDS = 3_000


@pytest.fixture
def url(new_migrated_database: NewDatabase) -> str:
    return new_migrated_database(SCHEMA)


@pytest.fixture
def pair(tmp_path: Path, url: str) -> Iterator[DualWriteStore]:
    """In the phase parallel, with records of which the database has none yet."""
    json = JsonStore(SCHEMA, tmp_path / "data")
    logs = json.collection(Log)
    logs.put_many([a_log(f"{n:05}", "old") for n in range(_RECORDS)])
    logs.delete("00007")
    made = DualWriteStore(
        json=json,
        postgres=PostgresStore(SCHEMA, url),
        relay_interval=0.02,
        compare=0.2,
        backfill=backfill,
        validate=validate,
    )
    made.switch(Phase.PARALLEL)
    yield made
    made.close()


class Acknowledged:
    """Writers that put and delete, and what each key must hold after its last write."""

    def __init__(self, store: DualWriteStore) -> None:
        self.wanted: dict[str, str | None] = {}
        self.writes = 0
        self._store = store

    @contextmanager
    def writing(self, threads: int = 4) -> Iterator[None]:
        """Within the block they write without a pause, each to keys of its own."""
        stop = threading.Event()
        errors: list[BaseException] = []

        def write(number: int) -> None:
            lot = random.Random(number)
            logs = self._store.collection(Log)
            try:
                while not stop.is_set():
                    key = f"{lot.randrange(number, _RECORDS, threads):05}"
                    text = None if lot.random() < 0.3 else f"{lot.random()}"
                    if text is None:
                        logs.delete(key)
                    else:
                        logs.put(a_log(key, text))
                    self.wanted[key] = text
                    self._store.collection(Tally).put(a_tally("hot", self.writes))
                    self.writes += 1
            except BaseException as error:  # noqa: BLE001 - shown by the test
                errors.append(error)

        workers = [threading.Thread(target=write, args=(n,)) for n in range(threads)]
        for worker in workers:
            worker.start()
        try:
            yield
        finally:
            stop.set()
            for worker in workers:
                worker.join(60)
        assert not errors, errors


def rows(of: Store) -> dict[str, Row]:
    """Records and tombstones, with their versions."""
    return {row.key: row for row in of.scan("logs", deleted=True)}


def test_a_backfill_under_writers_and_deletes_ends_with_equal_stores(
    pair: DualWriteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small chunks, so that writes come between reading and applying each of them."""
    monkeypatch.setattr("pend_storage.backfill._pacing._FIRST", 50)
    monkeypatch.setattr("pend_storage.backfill._pacing._SMALLEST", 50)
    monkeypatch.setattr("pend_storage.backfill._pacing._LARGEST", 50)
    work = Acknowledged(pair)
    with work.writing():
        report = pair.backfill(rate=3_000)
    pair.catch_up()

    json, postgres = rows(pair._pair.json), rows(pair._pair.postgres)
    assert report.rows > 1_000
    assert work.writes > 10
    assert json == postgres
    for key, text in work.wanted.items():
        record = json[key].record
        assert (None if record is None else record.text) == text
    assert json["00007"].record is None
    assert pair.validate().ok


def test_validations_under_writers_find_nothing(pair: DualWriteStore) -> None:
    pair.backfill()
    work = Acknowledged(pair)
    with work.writing():
        reports = [pair.validate() for _ in range(5)]
        while work.writes < 50:  # on a busy machine, writers are the slower ones
            reports.append(pair.validate())

    assert {(r.found, r.unsettled) for r in reports} == {(0, 0)}
    assert pair.divergences(closed=True) == ()


def test_repairs_under_writers_put_nothing_old_back(
    pair: DualWriteStore, url: str
) -> None:
    """A repair restores lost rows and removes invented ones; writes stay."""
    pair.backfill()
    postgres = pair._pair.postgres
    work = Acknowledged(pair)
    with work.writing():
        for number in range(5):
            damage(url, number)
            pair.repair()
    pair.catch_up()

    assert rows(postgres).keys() >= rows(pair._pair.json).keys()
    assert {k: r.record for k, r in rows(postgres).items() if r.record} == {
        k: r.record for k, r in rows(pair._pair.json).items() if r.record
    }
    for key, text in work.wanted.items():
        found = postgres.collection(Log).get(key)
        assert (None if found is None else found.text) == text
    assert pair.validate().ok
    assert {f.state for f in pair.divergences(closed=True)} <= {"repaired", "gone"}


def damage(url: str, number: int) -> None:
    """By hand, in the database: versions stay as they are."""
    with psycopg.connect(url, autocommit=True) as connection:
        low, high = f"{number * 100:05}", f"{number * 100 + 5:05}"
        connection.execute(
            "update logs set text = 'by hand' where id between %s and %s", (low, high)
        )
        connection.execute("delete from logs where id = %s", (f"{number + 2000:05}",))
        connection.execute(
            "insert into logs (id, text, version) values (%s, 'ghost', 1)",
            (f"ghost {number}",),
        )


def test_findings_go_along_from_the_directory_to_the_database(
    pair: DualWriteStore, url: str
) -> None:
    pair.backfill()
    damage(url, 0)

    found = pair.validate().found
    pair.switch(Phase.POSTGRES_PRIMARY, accept=("validation", "backup"))
    kept = pair.divergences()
    kinds = {item.kind for item in pair.validate().divergences}
    pair.repair()

    assert found == len(kept) == 8
    assert kinds == {"missing", "extra", "different"}
    assert pair.divergences() == ()
    assert len(pair.divergences(closed=True)) == 8
