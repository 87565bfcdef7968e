"""Reserved numbers, histories of records, and named points of PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest

from pend_storage.errors import UnknownCollection
from pend_storage.schema import Schema
from pend_storage.stores.postgres import PostgresStore
from pend_storage.stores.postgres._functions.sequence_numbers import OFFSET_META
from pend_storage.testing.domain import SCHEMA, Tally, a_tally
from tests.security.database_roles import new_roles

FAR = 1 << 40


@pytest.fixture
def url(new_migrated_database: Callable[[Schema], str]) -> str:
    return new_migrated_database(SCHEMA)


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with PostgresStore(SCHEMA, url) as store:
        yield store


def put(store: PostgresStore, name: str, value: int = 0) -> int:
    return store.collection(Tally).put(a_tally(name, value))


def keys(store: PostgresStore, after: int = 0) -> list[str]:
    return [r.key for change in store.changes(after) for r in change.records]


class TestReservedNumbers:
    def test_later_numbers_are_above_and_the_log_stays(
        self, store: PostgresStore
    ) -> None:
        put(store, "a")
        b = put(store, "b")
        store.reserve_numbers(FAR)

        assert keys(store) == ["a", "b"]
        assert keys(store, b) == []
        assert keys(store, FAR) == []
        assert store.head() >= FAR
        assert put(store, "c") > FAR
        assert keys(store, FAR) == ["c"]
        assert keys(store, b) == ["c"]
        assert keys(store) == ["a", "b", "c"]

    @pytest.mark.parametrize("within", [0, 1, 1022, 1023])
    def test_the_very_next_number_is_above(
        self, store: PostgresStore, within: int
    ) -> None:
        base = put(store, "a") // 1024 * 1024 + 1024 * 1000
        store.reserve_numbers(base + within)
        assert base + within < put(store, "b") <= base + within + 4 * 1024

    def test_a_lower_number_changes_nothing(self, store: PostgresStore) -> None:
        put(store, "a")
        store.reserve_numbers(FAR)
        offset = store.meta(OFFSET_META)
        store.reserve_numbers(5)
        store.reserve_numbers(FAR - 1024)
        assert store.meta(OFFSET_META) == offset

    def test_it_holds_after_a_move_to_another_server(
        self, store: PostgresStore, url: str
    ) -> None:
        store.reserve_numbers(FAR)
        with psycopg.connect(url, autocommit=True) as admin:  # ids begin anew there
            admin.execute("delete from store_meta where name = %s", (OFFSET_META,))
            admin.execute(
                "update store_meta set value = '\"elsewhere\"' where name = 'postgres.home'"
            )
        with PostgresStore(SCHEMA, url) as moved:
            assert put(moved, "a") > FAR

    def test_commits_under_way_do_not_slip_below(self, store: PostgresStore) -> None:
        stop = threading.Event()
        below: list[int] = []

        def write() -> None:
            while not stop.is_set():
                was_reserved = reserved.is_set()
                version = put(store, "a")
                if was_reserved and version <= FAR:
                    below.append(version)

        reserved = threading.Event()
        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        store.reserve_numbers(FAR)
        reserved.set()
        put(store, "b")
        stop.set()
        for thread in threads:
            thread.join()
        assert below == []


class TestRecordHistory:
    def test_the_newest_change_comes_first(self, store: PostgresStore) -> None:
        first = put(store, "a", 1)
        put(store, "b", 1)
        with store.acting(by="ann", reason="a mistake"):
            second = put(store, "a", 2)
        store.collection(Tally).delete("a")
        third = put(store, "a", 3)

        found = list(store.record_history("tallies", "a"))

        assert [change.record for change in found] == [
            a_tally("a", 3),
            None,
            a_tally("a", 2),
            a_tally("a", 1),
        ]
        assert [c.version for c in found if c.record] == [third, second, first]
        assert (found[2].by, found[2].reason) == ("ann", "a mistake")
        sequences = [change.sequence for change in found]
        assert sequences == sorted(sequences, reverse=True)
        log = {change.sequence: change for change in store.changes()}
        assert all(log[change.sequence].at == change.at for change in found)

    def test_before_is_exclusive(self, store: PostgresStore) -> None:
        put(store, "a", 1)
        second = put(store, "a", 2)
        history = store.record_history("tallies", "a", before=second)
        assert [change.record for change in history] == [a_tally("a", 1)]

    def test_every_page_is_searched(self, store: PostgresStore) -> None:
        names = [f"{number % 5}" for number in range(2_500)]
        for start in range(0, len(names), 100):
            store.commit_each(
                [
                    SCHEMA.batch([SCHEMA.put("tallies", a_tally(name, start + n))])
                    for n, name in enumerate(names[start : start + 100])
                ]
            )
        values = [c.record.value for c in store.record_history("tallies", "3")]
        assert values == list(range(2_498, 0, -5))

    @pytest.mark.parametrize("key", ['"', "\\", "ü\t\u2028", "é", "a'b", "x" * 200])
    def test_any_key_is_found_and_no_other(
        self, store: PostgresStore, key: str
    ) -> None:
        put(store, key, 1)
        put(store, key + "x", 2)
        put(store, "x" + key, 3)
        put(store, key, 4)
        found = [c.record.value for c in store.record_history("tallies", key)]
        assert found == [4, 1]

    def test_the_same_key_elsewhere_is_another_record(
        self, store: PostgresStore
    ) -> None:
        put(store, "a", 1)
        assert list(store.record_history("logs", "a")) == []
        assert list(store.record_history("tallies", "\0")) == []
        with pytest.raises(UnknownCollection):
            store.record_history("talies", "a")


class TestNamedPoints:
    def test_a_superuser_marks_the_log(self, store: PostgresStore) -> None:
        assert store.create_restore_point("before the change")

    def test_without_the_privilege_there_is_none(
        self, postgres_server: str, url: str
    ) -> None:
        with new_roles(postgres_server) as roles:
            roles.grant(url, SCHEMA)
            with PostgresStore(SCHEMA, roles.url(url, "owner")) as store:
                assert not store.create_restore_point("before the change")
