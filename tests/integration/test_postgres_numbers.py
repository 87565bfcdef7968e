"""Numbers never run backwards, whatever the transaction ids of a server are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from pend_storage.records import Batch
from pend_storage.schema import Schema
from pend_storage.stores.postgres import PostgresStore
from pend_storage.stores.postgres._functions.sequence_numbers import (
    OFFSET_META,
    PRUNED_META,
)
from pend_storage.testing.domain import SCHEMA, Log, Tally, a_log, a_tally
from tests.integration.activity import run

FAR = 10**12


@pytest.fixture
def url(new_migrated_database: Callable[[Schema], str]) -> str:
    return new_migrated_database(SCHEMA)


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with PostgresStore(SCHEMA, url) as store:
        store.collection(Tally).put(Tally(name="a"))
        yield store


def batch(*records: object) -> Batch:
    return SCHEMA.batch([SCHEMA.put(type(r), r) for r in records])


def put(store: PostgresStore) -> int:
    return store.collection(Tally).put(Tally(name="b"))


def commit(store: PostgresStore) -> int:
    return min(store.commit(batch(a_tally("b", 1), a_log("l"))))


def commit_each(store: PostgresStore) -> int:
    first, *_ = store.commit_each([batch(a_log(key)) for key in "xyz"])
    assert isinstance(first, tuple)
    return first[0]


WAYS = pytest.mark.parametrize("write", [put, commit, commit_each])


@WAYS
def test_under_a_running_process(
    url: str, store: PostgresStore, write: Callable[[PostgresStore], int]
) -> None:
    run(url, f"update changes set sequence = sequence + {FAR}")
    last = [change.sequence for change in store.changes()][-1]
    head = store.head()

    version = write(store)

    assert version > last
    assert version > head >= last
    assert next(store.changes(last)).sequence == version
    assert store.pending(last).commits >= 1


@WAYS
def test_below_what_was_pruned(
    url: str, store: PostgresStore, write: Callable[[PostgresStore], int]
) -> None:
    run(url, "delete from changes")
    run(
        url, f"insert into store_meta values ('{PRUNED_META}', to_jsonb({FAR}::bigint))"
    )
    assert store.head() >= FAR

    assert write(store) > FAR
    assert len(list(store.changes(FAR))) >= 1


@WAYS
@pytest.mark.parametrize("place", ["row", "tombstone", "mark"])
def test_a_database_that_comes_without_its_log_goes_on_above_its_rows(
    url: str, place: str, write: Callable[[PostgresStore], int]
) -> None:
    run(
        url,
        "insert into store_meta values ('postgres.home', '\"elsewhere\"') "
        "on conflict (name) do update set value = excluded.value",
    )
    run(
        url,
        {
            "row": f"insert into tallies (name, value, version) values ('z', 1, {FAR})",
            "tombstone": f"insert into tombstones values ('tallies', 'z', {FAR})",
            "mark": f"insert into store_meta values ('mark', '{{\"after\": {FAR}}}')",
        }[place],
    )

    with PostgresStore(SCHEMA, url) as moved:
        assert write(moved) > FAR
        assert moved.head() > FAR


def test_commits_at_once_are_no_alarm(url: str, store: PostgresStore) -> None:
    def work(name: str) -> None:
        with PostgresStore(SCHEMA, url) as own:
            for n in range(40):
                own.collection(Log).put(a_log(f"{name}{n}"))
                own.commit_each([batch(a_log(f"{name}{n}")), batch(a_log(name))])

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert store.meta(OFFSET_META) is None
    sequences = [change.sequence for change in store.changes()]
    assert len(sequences) == 1 + 4 * 40 * 3
    assert sequences == sorted(set(sequences))


def test_a_count_is_kept_up_and_counted_anew_where_the_log_changed(
    url: str, store: PostgresStore
) -> None:
    for n in range(20):
        store.collection(Tally).put(Tally(name="a", value=n))
    log = list(store.changes())

    for after in (0, 0, log[3].sequence, log[3].sequence, log[1].sequence):
        rest = [c for c in store.changes() if c.sequence > after]
        assert store.pending(after) == (len(rest), rest[0].at)
    store.collection(Tally).put(Tally(name="b"))
    assert store.pending(log[3].sequence).commits == 18
    run(url, "delete from changes where sequence > %s", log[9].sequence)
    assert store.pending(log[3].sequence).commits == 6
    store.collection(Tally).put(Tally(name="c"))
    assert store.pending(log[3].sequence).commits == 7
    store.prune(log[5].sequence)
    assert store.pending(log[5].sequence).commits == 5
