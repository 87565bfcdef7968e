"""Locks of other sessions block the calls that need them, and no others; calls have a size."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from pend_storage.errors import StalePosition, StoreUnavailable
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.records import Advance, Batch, ChangedRecord
from pend_storage.schema import Schema
from pend_storage.stores.postgres import PostgresStore
from pend_storage.stores.postgres._writes import applier, bulk_copy
from pend_storage.stores.postgres._writes.commit_batches import (
    MOST_BYTES,
    CommitBatches,
)
from pend_storage.testing.domain import SCHEMA, Log, Tally, a_log, a_tally
from tests.integration.activity import run, wait_until

LONGEST = 1.5
"""Seconds that a writer may wait for a row that is not its own."""
HELD = LONGEST + 0.5
"""Seconds for which the lock is held from when its waiters wait: no less can be noticed."""
UNTIL_FENCED = 1.0
"""Seconds until the first write has left its lane, and waits by itself."""
BY_HAND = "psql by hand"


@pytest.fixture
def url(new_migrated_database: Callable[[Schema], str]) -> str:
    return new_migrated_database(SCHEMA)


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with PostgresStore(SCHEMA, url) as store:
        store.collection(Tally).put(Tally(name="held"))
        yield store


def batch(*records: Any) -> Batch:
    return SCHEMA.batch([SCHEMA.put(type(r), r) for r in records])


@contextmanager
def held(url: str, statement: str) -> Iterator[None]:
    """Another session holds a lock, and is idle."""
    with psycopg.connect(url, application_name=BY_HAND) as connection:
        connection.execute(statement.encode())
        yield
        connection.rollback()


ROW = "update tallies set value = 7 where name = 'held'"
TABLE = "lock table tallies in share mode"


class Writers:
    """Threads that write, each its own keys, and how long that takes."""

    def __init__(self, store: PostgresStore, count: int) -> None:
        self._store = store
        self._stop = threading.Event()
        self.longest = 0.0
        self.done = 0
        self._threads = [
            threading.Thread(target=self._write, args=(n,)) for n in range(count)
        ]

    def _write(self, number: int) -> None:
        turn = 0
        while not self._stop.is_set():
            began = time.monotonic()
            self._store.collection(Log).put(a_log(f"{number}/{turn % 9}"))
            self.longest = max(self.longest, time.monotonic() - began)
            self.done += 1
            turn += 1

    @contextmanager
    def at_work(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()


def one(store: PostgresStore) -> None:
    store.collection(Tally).put(a_tally("held", 1))


def several(store: PostgresStore) -> None:
    threads = [threading.Thread(target=one, args=(store,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def together(store: PostgresStore) -> None:
    outcomes = store.commit_each([batch(a_tally(k, 1)) for k in ("a", "held", "b")])
    assert all(isinstance(outcome, tuple) for outcome in outcomes)


def many_keys(store: PostgresStore) -> None:
    store.commit(batch(a_tally("held", 1), *(a_log(f"m{n}") for n in range(300))))


def fence(store: PostgresStore) -> None:
    one_more = threading.Thread(target=one, args=(store,))
    one_more.start()
    time.sleep(UNTIL_FENCED)
    state = RoleState(Role.PRIMARY, 0).to_meta()
    assert store.compare_and_set_meta(ROLE_META, None, state)
    one_more.join()


def follow_the_log(store: PostgresStore) -> None:
    waiting = threading.Thread(target=one, args=(store,))
    waiting.start()
    while waiting.is_alive():
        list(store.changes())
        time.sleep(0.05)


@pytest.mark.parametrize("lock", [ROW, TABLE], ids=["row", "table"])
@pytest.mark.parametrize(
    "work", [one, several, together, many_keys, fence, follow_the_log]
)
def test_who_does_not_need_it_does_not_wait(
    url: str, store: PostgresStore, work: Callable[[PostgresStore], None], lock: str
) -> None:
    writers = Writers(store, 6)
    blocked = threading.Thread(target=work, args=(store,))
    with writers.at_work():
        with held(url, lock):
            blocked.start()
            time.sleep(HELD + (UNTIL_FENCED if work is fence else 0.0))
            assert blocked.is_alive()
            done = writers.done
        blocked.join()

    assert done > 100
    assert writers.longest < LONGEST  # those that were under way count too
    assert store.collection(Tally).get("held") == a_tally("held", 1)


def test_lanes_are_not_left_to_those_who_wait(url: str, store: PostgresStore) -> None:
    writers = Writers(store, 3)
    blocked = threading.Thread(target=several, args=(store,))
    with held(url, ROW):
        blocked.start()
        time.sleep(1.0)  # they have had every lane
        with writers.at_work():
            time.sleep(HELD)
            done = writers.done
    blocked.join()

    assert done > 100
    assert writers.longest < LONGEST  # those that were under way count too


def test_those_who_go_together_do_not_wait_for_the_one(
    url: str, store: PostgresStore
) -> None:
    outcomes: list[Any] = []
    keys = ["a", "b", "held", "c"]
    call = threading.Thread(
        target=lambda: outcomes.extend(
            store.commit_each([batch(a_tally(key, 1)) for key in keys])
        )
    )
    with held(url, ROW):
        call.start()
        wait_until(lambda: set(store.read("tallies", "ab")) == {"a", "b"}, "the others")
        assert call.is_alive()
    call.join()

    assert all(isinstance(outcome, tuple) for outcome in outcomes)


@pytest.mark.parametrize("work", [one, many_keys, together])
def test_the_error_names_who_is_in_the_way(
    url: str, work: Callable[[PostgresStore], None]
) -> None:
    with PostgresStore(SCHEMA, url, statement_timeout=0.7) as store:
        store.collection(Tally).put(a_tally("held", 0))
        with held(url, ROW):
            time.sleep(1.1)
            if work is together:
                outcomes = store.commit_each(
                    [batch(a_tally(k, 1)) for k in ("a", "held", "b")]
                )
                assert isinstance(outcomes[0], tuple)
                assert isinstance(outcomes[2], tuple)
                error = outcomes[1]
            else:
                with pytest.raises(StoreUnavailable) as caught:
                    work(store)
                error = caught.value
    assert isinstance(error, StoreUnavailable)
    assert error.outcome_known
    assert f"application '{BY_HAND}'" in error.reason
    assert "update" not in error.reason


def test_a_role_that_cannot_change_says_who_is_in_the_way(url: str) -> None:
    with PostgresStore(SCHEMA, url, statement_timeout=0.5) as store:
        store.head()
        with psycopg.connect(url, application_name=BY_HAND) as other:
            other.execute(
                'select pend_put_tallies(null, \'x\', \'{"name":"x","value":1}\', '
                "null, null, null, null, false, null, false)"
            )
            fenced = RoleState(Role.FENCED, 1).to_meta()
            with pytest.raises(StoreUnavailable, match=BY_HAND):
                store.compare_and_set_meta(ROLE_META, None, fenced)


def test_the_log_is_read_up_to_the_oldest_commit_under_way(
    url: str, store: PostgresStore
) -> None:
    """Also by a role that sees little of others, while foreign transactions are open."""
    run(url, "drop owned by onlooker") if role_exists(url) else run(
        url, "create role onlooker login"
    )
    run(url, "grant select on all tables in schema public to onlooker")
    run(url, "grant execute on all functions in schema public to onlooker")
    with psycopg.connect(url) as foreign, psycopg.connect(url) as slow:
        foreign.execute("select pg_current_xact_id()")
        store.collection(Tally).put(a_tally("a", 1))
        slow.execute(
            "select pend_put_tallies(null, 'slow', "
            '\'{"name":"slow","value":1}\', null, null, null, null, false, null, false)'
        )
        store.collection(Tally).put(a_tally("b", 1))
        with psycopg.connect(url, user="onlooker") as onlooker:
            row = onlooker.execute(
                "select array_agg(records -> 0 ->> 1 order by sequence) from changes "
                "where sequence <= pend_horizon()"
            ).fetchone()
            assert row == (["held", "a"],)
        slow.rollback()
        assert [c.records[0].key for c in store.changes()] == ["held", "a", "b"]


def role_exists(url: str) -> bool:
    return bool(run(url, "select from pg_roles where rolname = 'onlooker'"))


# -- sizes ----------------------------------------------------------------------------


def test_a_wave_has_a_size() -> None:
    waves = CommitBatches(SCHEMA)
    text = "x" * (MOST_BYTES // 3 - 100)
    batches = [batch(a_log(str(n), text)) for n in range(7)]

    assert list(waves.groups_of(batches)) == [range(3), range(3, 6), range(6, 7)]


def test_a_page_of_the_log_has_a_size(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    ask = store._client.fetch

    def watched(*args: Any) -> Any:
        result = ask(*args)
        if result.nfields > 5:
            sizes.append(
                sum(len(result.get_value(n, 3) or b"") for n in range(result.ntuples))
            )
        return result

    monkeypatch.setattr(store._client, "fetch", watched)
    texts = ["x" * 2_000_000, "y" * (MOST_BYTES + 10), *["z" * 2_000_000] * 18]
    for n, text in enumerate(texts):
        store.collection(Log).put(a_log(str(n), text))

    keys = [change.records[0].key for change in store.changes()]

    assert keys == ["held", *map(str, range(20))]
    assert len(sizes) >= 3
    assert max(sizes) < 2 * MOST_BYTES + 2_100_000


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applier, "MOST_BYTES", 2_000)
    monkeypatch.setattr(bulk_copy, "MOST_BYTES", 2_000)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("count", [90, 600])
def test_what_is_applied_in_parts_is_applied_as_a_whole(
    store: PostgresStore, count: int
) -> None:
    state = RoleState(Role.SECONDARY, 1).to_meta()
    assert store.compare_and_set_meta(ROLE_META, None, state)
    rows = [
        ChangedRecord("logs", f"{n:04}", 10**13 + n, a_log(f"{n:04}", "x" * 100))
        for n in range(count)
    ]
    graves = [ChangedRecord("logs", f"g{n}", 10**13, None) for n in range(5)]

    with pytest.raises(StalePosition):
        store.apply([*rows, *graves], mark=Advance("m", 1, 2))
    assert list(store.scan("logs", deleted=True)) == []

    assert store.apply([*rows, *graves], mark=Advance("m", None, 1)) == count + 5
    assert store.meta("m") == 1
    assert store.collection(Log).count() == count
    assert store.apply([*rows, *graves], mark=Advance("m", 1, 2)) == 0


def test_two_who_move_one_position_do_not_both_move_it(store: PostgresStore) -> None:
    state = RoleState(Role.SECONDARY, 1).to_meta()
    assert store.compare_and_set_meta(ROLE_META, None, state)
    moved: list[int] = []

    def move(number: int) -> None:
        row = ChangedRecord("tallies", f"{number}", 10**13, a_tally(f"{number}", 1))
        try:
            store.apply([row], mark=Advance("m", None, number))
        except StalePosition:
            return
        moved.append(number)

    threads = [threading.Thread(target=move, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert moved == [store.meta("m")]
    assert store.collection(Tally).count() == 1 + len(moved)
    wait_until(lambda: store.collection(Tally).get(str(moved[0])) is not None, "it")
