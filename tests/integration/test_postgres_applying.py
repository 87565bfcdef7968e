"""Following another store: few rows by a function, many by COPY, with the same outcome."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pend_storage.errors import (
    ReferenceViolation,
    StaleEpoch,
    UniqueViolation,
)
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.records import Advance, ChangedRecord
from pend_storage.schema import Schema
from pend_storage.stores.postgres import PostgresStore
from pend_storage.stores.postgres._writes.bulk_copy import BulkCopier
from pend_storage.testing.domain import (
    SCHEMA,
    Ship,
    Tally,
    a_berth,
    a_cargo,
    a_ship,
)

MANY = 700


@pytest.fixture
def url(new_migrated_database: Callable[[Schema], str]) -> str:
    return new_migrated_database(SCHEMA)


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with PostgresStore(SCHEMA, url) as store:
        yield store


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Row counts of each COPY."""
    taken: list[int] = []
    copy = BulkCopier.copy

    def counted(self: BulkCopier, link: Any, records: Any) -> None:
        taken.append(len(records))
        copy(self, link, records)

    monkeypatch.setattr(BulkCopier, "copy", counted)
    return taken


def tallies(
    count: int = MANY, *, start: int = 0, version: int = 5, value: int = 0
) -> list[ChangedRecord]:
    return [
        ChangedRecord("tallies", f"{n:06}", version, Tally(name=f"{n:06}", value=value))
        for n in range(start, start + count)
    ]


def grave(number: int, version: int) -> ChangedRecord:
    return ChangedRecord("tallies", f"{number:06}", version, None)


def test_many_new_rows_are_copied_chunk_by_chunk(
    store: PostgresStore, copies: list[int]
) -> None:
    for chunk in range(3):
        rows = tallies(start=chunk * MANY)
        assert (
            store.apply(rows, mark=Advance("mark", store.meta("mark"), chunk)) == MANY
        )

    assert copies == [MANY] * 3
    assert store.collection(Tally).count() == 3 * MANY
    assert store.meta("mark") == 2
    assert list(store.changes()) == []


def test_rows_that_are_there_are_only_replaced_by_newer_ones(
    store: PostgresStore, copies: list[int]
) -> None:
    store.apply([*tallies(1, start=3, version=9, value=9), grave(4, 9), grave(5, 2)])

    written = store.apply(tallies(version=5))

    assert written == MANY - 2
    assert copies == []
    rows = store.read("tallies", ["000003", "000004", "000005"], deleted=True)
    assert [(r.version, r.record) for r in rows.values()] == [
        (9, Tally(name="000003", value=9)),
        (9, None),
        (5, Tally(name="000005")),
    ]
    assert store.apply(tallies(version=5)) == 0


def test_a_tombstone_in_the_range_keeps_the_row_out(
    store: PostgresStore, copies: list[int]
) -> None:
    store.apply([grave(10, 7)])

    assert store.apply(tallies(version=5)) == MANY - 1
    assert store.collection(Tally).get("000010") is None
    assert copies == []


def test_of_one_key_many_times_the_highest_version_stays(store: PostgresStore) -> None:
    rows = [*tallies(version=5), *tallies(version=7, value=7), *tallies(version=6)]
    rows += [grave(n, 8) for n in range(10)]

    assert store.apply(rows) == MANY

    found = list(store.scan("tallies", deleted=True))
    assert [row.version for row in found] == [8] * 10 + [7] * (MANY - 10)
    assert {row.record.value for row in found[10:]} == {7}


def test_a_mark_moves_only_with_its_rows(store: PostgresStore) -> None:
    ships = [ChangedRecord("ships", f"s{n}", 5, a_ship(f"s{n}")) for n in range(MANY)]
    broken = ChangedRecord("ships", "s0", 6, a_ship("s0", berth_id="nowhere"))

    with pytest.raises(ReferenceViolation) as told:
        store.apply([*ships, broken], mark=Advance("mark", None, 1))

    assert told.value.value == "nowhere"
    assert store.meta("mark") is None
    assert store.read("ships", [f"s{n}" for n in range(MANY)]) == {}


def test_uniqueness_is_judged_at_the_end(store: PostgresStore) -> None:
    def ship(number: int, sign: str | None, version: int) -> ChangedRecord:
        record = a_ship(f"s{number:05}", call_sign=sign)
        return ChangedRecord("ships", record.id, version, record)

    def sign(number: int) -> str:
        return f"S{number}A"

    store.apply([ship(n, sign(n), 1) for n in range(MANY)])

    turned = [ship(n, sign((n + 1) % MANY), 2) for n in range(MANY)]
    assert store.apply(turned) == MANY
    with pytest.raises(UniqueViolation) as told:
        store.apply([ship(n, "AA", 3) for n in range(MANY)])
    assert (told.value.fields, told.value.key) == (("call_sign",), "s00001")


@pytest.mark.parametrize("count", [1, MANY])
def test_a_value_that_a_delete_frees_is_taken_in_the_same_call(
    store: PostgresStore, count: int
) -> None:
    """Though what is put is written before what is deleted."""
    signs = [f"S{n}A" for n in range(count)]
    old = [a_ship(f"a{n:05}", call_sign=sign) for n, sign in enumerate(signs)]
    new = [a_ship(f"b{n:05}", call_sign=sign) for n, sign in enumerate(signs)]
    store.apply([ChangedRecord("ships", ship.id, 1, ship) for ship in old])

    gone = [ChangedRecord("ships", ship.id, 2, None) for ship in old]
    taken = [ChangedRecord("ships", ship.id, 3, ship) for ship in new]
    assert store.apply([*gone, *taken]) == 2 * count

    assert [ship.id for ship in store.collection(Ship).scan()] == [s.id for s in new]


def test_references_are_judged_at_the_end(
    store: PostgresStore, copies: list[int]
) -> None:
    cargo = [
        ChangedRecord("cargo", f"c{n}", 1, a_cargo(f"c{n}", ship_id=f"s{n}"))
        for n in range(MANY)
    ]
    ships = [ChangedRecord("ships", f"s{n}", 1, a_ship(f"s{n}")) for n in range(MANY)]
    berths = [
        ChangedRecord("berths", f"b{n}", 1, a_berth(f"b{n}", neighbour_id=f"b{n + 1}"))
        for n in range(MANY - 1)
    ]
    last = ChangedRecord("berths", f"b{MANY - 1}", 1, a_berth(f"b{MANY - 1}"))

    assert store.apply([*cargo, *ships, *berths, last]) == 3 * MANY
    assert copies == [MANY] * 3


@pytest.mark.parametrize("count", [1, MANY])
def test_only_a_secondary_at_that_epoch_follows(
    store: PostgresStore, count: int
) -> None:
    def become(role: Role, epoch: int) -> None:
        state = RoleState(role, epoch).to_meta()
        assert store.compare_and_set_meta(ROLE_META, store.meta(ROLE_META), state)

    with pytest.raises(StaleEpoch):
        store.apply(tallies(count), epoch=0)
    become(Role.SECONDARY, 3)
    with pytest.raises(StaleEpoch) as told:
        store.apply(tallies(count), epoch=2, mark=Advance("mark", None, 1))
    assert (told.value.role, told.value.epoch) == ("secondary", 3)
    assert store.apply(tallies(count, version=1), epoch=3) == count
    assert store.apply(tallies(count, version=2)) == count
    become(Role.FENCED, 3)
    with pytest.raises(StaleEpoch):
        store.apply(tallies(count, version=4), epoch=3)
    assert store.meta("mark") is None


def test_a_chunk_and_live_changes_at_once_leave_the_newest(url: str) -> None:
    """The same keys by COPY, by the function, and deleted, in threads of their own."""
    chunks = [tallies(300, version=1), tallies(300, version=2, value=2)]
    chunks += [tallies(20, start=n, version=3, value=3) for n in range(0, 300, 40)]
    chunks += [[grave(n, 4)] for n in range(0, 300, 30)]
    begin = threading.Barrier(len(chunks))
    with PostgresStore(SCHEMA, url) as store:

        def work(rows: list[ChangedRecord]) -> None:
            begin.wait()
            store.apply(rows)

        threads = [threading.Thread(target=work, args=(rows,)) for rows in chunks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        newest = {row.key: row for chunk in chunks for row in chunk}
        for chunk in chunks:
            for row in chunk:
                if row.version > newest[row.key].version:
                    newest[row.key] = row
        found = store.read("tallies", newest, deleted=True)
        assert {k: (r.version, r.record) for k, r in found.items()} == {
            k: (r.version, r.record) for k, r in newest.items()
        }


def test_applied_rows_are_below_the_versions_of_later_commits(
    store: PostgresStore,
) -> None:
    far = 10**15
    store.apply([*tallies(1, version=far), grave(1, far)])

    first = store.collection(Tally).put(Tally(name="000000", value=1))
    second = store.collection(Tally).put(Tally(name="000001", value=1))

    assert second > first > far
    # Not only of these keys: a secondary that becomes primary goes on above all.
    assert store.collection(Tally).put(Tally(name="new", value=1)) > second
    assert store.collection(Tally).delete("000001")
    row = store.read("tallies", ["000001"], deleted=True)["000001"]
    assert row.version > second


def test_locks_of_many_keys_fit_into_the_servers_table(url: str) -> None:
    """More keys than the server has room for locks, twice at once, and small ones."""
    many = [Tally(name=f"k{number}") for number in range(12_000)]
    with PostgresStore(SCHEMA, url) as store:
        records = store.collection(Tally)
        threads = [
            threading.Thread(target=records.put_many, args=(many[::step],))
            for step in (1, -1)
        ]
        threads += [
            threading.Thread(target=records.put, args=(Tally(name=f"x{n}"),))
            for n in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert records.count() == 12_010
        assert len(list(store.changes())) == 12
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "select count(*) from pg_locks where locktype = 'advisory'"
        ).fetchone()
    assert row == (0,)
