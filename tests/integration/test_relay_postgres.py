"""The relay in front of a real database: batches that are too slow, logs that change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.errors import StoreUnavailable
from pend_storage.events import Event
from pend_storage.phases import Phase
from pend_storage.records import ChangedRecord
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.databases import Databases
from pend_storage.testing.domain import SCHEMA, Log, Ship, a_log, a_ship

from .test_dualwrite_servers import living, name_of

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def url(new_migrated_database: Callable[[Schema], str], databases: Databases) -> str:
    """A database of this test alone, because it changes more than rows."""
    return databases.make(template=name_of(new_migrated_database(SCHEMA)))


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def pair(tmp_path: Path, url: str, events: list[Event]) -> Iterator[DualWriteStore]:
    with DualWriteStore(
        json=JsonStore(SCHEMA, tmp_path / "data", checkpoint_interval=None),
        postgres=PostgresStore(SCHEMA, url, statement_timeout=1),
        relay_interval=None,
        secondary_timeout=None,
        compare=0.0,
        hook=events.append,
    ) as store:
        store.switch(Phase.PARALLEL)
        yield store


def behind(pair: DualWriteStore, count: int, text: str = "") -> None:
    """Commits of one record each, that only JSON has."""
    epoch = pair._router.route.epoch
    puts = [SCHEMA.put(Log, a_log(f"{n:05}", text)) for n in range(count)]
    batches = [SCHEMA.batch([put]) for put in puts]
    for start in range(0, count, 100):
        pair._pair.json.commit_each(batches[start : start + 100], epoch=epoch)


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def slow_down(url: str, seconds: float) -> None:
    """Each row costs time: a trigger, a slow disk, a swollen index."""
    run(
        url,
        "create function slow() returns trigger language plpgsql as "
        f"$$ begin perform pg_sleep({seconds}); return new; end $$",
        "create trigger slow before insert or update on logs "
        "for each row execute function slow()",
    )


def test_a_batch_that_takes_too_long_is_made_smaller_until_it_passes(
    pair: DualWriteStore, url: str, events: list[Event]
) -> None:
    behind(pair, 700)
    slow_down(url, 0.003)

    pair.catch_up()

    assert living(pair._pair.json) == living(pair._pair.postgres)
    assert [event.name for event in events] == []
    assert pair.lag().commits == 0


def test_a_single_commit_that_takes_too_long_is_named(
    pair: DualWriteStore, url: str, events: list[Event]
) -> None:
    behind(pair, 2)
    slow_down(url, 1.5)

    for _ in range(3):
        pair._relay.wake()
        pair._relay._run_once(mine=True)

    (event,) = events
    assert event.name == "relay-blocked"
    for part in ("logs['00000']", "statement_timeout"):
        assert part in event.message
    lag = pair.lag()
    assert (lag.commits, lag.secondary_up) == (2, True)
    assert "logs['00000']" in (lag.blocked or "")
    run(url, "drop trigger slow on logs")
    pair._relay.wake()
    pair._relay._run_once(mine=True)
    assert [e.name for e in events] == ["relay-blocked", "relay-resumed"]


def test_large_records_arrive_though_all_of_them_are_too_much_for_one_call(
    pair: DualWriteStore, events: list[Event]
) -> None:
    behind(pair, 40, "x" * 1_000_000)

    assert pair.catch_up() == 40

    assert pair._pair.postgres.collection(Log).count() == 40
    assert [event.name for event in events] == []


def test_a_row_made_by_hand_is_named_and_what_came_out_of_turn_heals(
    pair: DualWriteStore, url: str, events: list[Event]
) -> None:
    json, epoch = pair._pair.json, pair._router.route.epoch
    for ship in (
        a_ship("s1", call_sign="AB"),
        a_ship("s1", call_sign="CD"),
        a_ship("s2", call_sign="AB"),
    ):
        json.commit(SCHEMA.batch([SCHEMA.put(Ship, ship)]), epoch=epoch)
    last = list(json.changes())[-1]
    pair._pair.postgres.apply(last.records, epoch=epoch)
    assert pair.catch_up() == 3
    assert living(json) == living(pair._pair.postgres)

    ghost = ChangedRecord("ships", "ghost", 1, a_ship("ghost", call_sign="EF"))
    pair._pair.postgres.apply([ghost], epoch=epoch)
    json.commit(
        SCHEMA.batch([SCHEMA.put(Ship, a_ship("s3", call_sign="EF"))]), epoch=epoch
    )
    for _ in range(3):
        pair._relay.wake()
        pair._relay._run_once(mine=True)
    (event,) = events
    assert event.name == "relay-blocked"
    for part in ("ships['s3']", "ships['ghost'], unknown to the primary"):
        assert part in event.message


def test_a_log_whose_server_is_exchanged_while_it_is_read_is_not_read_on(
    databases: Databases, url: str
) -> None:
    """The second server's log does not continue the first one's from that position on."""
    with PostgresStore(SCHEMA, url) as store:
        _fill(store, "both", 100)
    other = databases.make(template=name_of(url))
    with PostgresStore(SCHEMA, other) as there:
        _fill(there, "other", 300)
    with PostgresStore(SCHEMA, url) as store:
        _fill(store, "lost", 300)
        log = store.changes()
        assert len(list(islice(log, 200))) == 200
        _exchange(url, name_of(other))

        with pytest.raises(StoreUnavailable, match="another server"):
            list(log)

        texts = {change.records[0].record.text for change in store.changes()}
        assert texts == {"both", "other"}


def _fill(store: Store, text: str, count: int) -> None:
    puts = [SCHEMA.put(Log, a_log(f"{text}{n:03}", text)) for n in range(count)]
    store.commit_each([SCHEMA.batch([put]) for put in puts])


def _exchange(url: str, other: str) -> None:
    """Two databases take each other's names."""
    one = name_of(url)
    with psycopg.connect(url, dbname="postgres", autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname in (%s, %s)",
            (one, other),
        )
        for before, after in ((one, "aside"), (other, one), ("aside", other)):
            connection.execute(
                sql.SQL("alter database {} rename to {}").format(
                    sql.Identifier(before), sql.Identifier(after)
                )
            )


def test_the_lag_of_thirty_thousand_commits_is_counted_without_reading_them(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DualWriteStore(
        json=JsonStore(SCHEMA, tmp_path / "data", checkpoint_interval=None),
        postgres=PostgresStore(SCHEMA, url),
        relay_interval=None,
        compare=0.0,
    ) as store:
        store.switch(Phase.POSTGRES_PRIMARY, accept=CODES)
        store.collection(Log).put(a_log("first"))
        store.catch_up()
        postgres, epoch = store._pair.postgres, store._router.route.epoch
        for start in range(0, 30_000, 2_000):
            puts = [
                SCHEMA.put(Log, a_log(f"{n:05}")) for n in range(start, start + 2_000)
            ]
            batches = [SCHEMA.batch([put]) for put in puts]
            postgres.commit_each(batches, epoch=epoch)
        with monkeypatch.context() as patched:
            patched.setattr(PostgresStore, "changes", None)  # the log is not walked
            assert store.lag().commits == 30_000
