"""A directory and a database behind one store: what only the real ones can get wrong."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pend_storage._transaction import Transaction
from pend_storage.backfill import backfill
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.dualwrite._replication_position import ReplicationPosition
from pend_storage.errors import ConfigError, Conflict, StaleEpoch
from pend_storage.phases import ROLE_META, Phase, Role, RoleState
from pend_storage.records import Advance
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.databases import Databases
from pend_storage.testing.domain import (
    SCHEMA,
    Berth,
    Log,
    Ship,
    Tally,
    a_berth,
    a_log,
    a_ship,
    a_tally,
)
from pend_storage.validation import validate

pytestmark = pytest.mark.timeout(120)
BOTH = [Phase.PARALLEL, Phase.POSTGRES_PRIMARY]


@pytest.fixture
def url(new_migrated_database: Callable[[Schema], str]) -> str:
    return new_migrated_database(SCHEMA)


def a_pair(directory: Path, url: str, **settings: Any) -> DualWriteStore:
    chosen = {"relay_interval": None, "secondary_timeout": None, "compare": 0.0}
    return DualWriteStore(
        json=JsonStore(SCHEMA, directory),
        postgres=PostgresStore(SCHEMA, url),
        backfill=backfill,
        validate=validate,
        **{**chosen, **settings},
    )


@pytest.fixture
def pair(tmp_path: Path, url: str) -> Iterator[DualWriteStore]:
    with a_pair(tmp_path / "data", url) as store:
        yield store


def assert_refused(directory: Path, url: str, match: str) -> None:
    with (
        JsonStore(SCHEMA, directory) as json,
        PostgresStore(SCHEMA, url) as postgres,
        pytest.raises(ConfigError, match=match),
    ):
        DualWriteStore(json=json, postgres=postgres)


def to(pair: DualWriteStore, phase: Phase) -> None:
    pair.switch(phase, accept=CODES)


def living(store: Store) -> dict[tuple[str, str], Any]:
    return {
        (spec.name, row.key): row for spec in SCHEMA for row in store.scan(spec.name)
    }


def assert_alike(pair: DualWriteStore) -> None:
    pair.catch_up()
    assert living(pair._pair.json) == living(pair._pair.postgres)
    assert pair.validate().ok


def name_of(url: str) -> str:
    return str(conninfo_to_dict(url)["dbname"])


@contextmanager
def commit_under_way(
    url: str, key: str, epoch: int
) -> Iterator[psycopg.Connection[Any]]:
    """A commit of another process: done, but not ended yet."""
    with psycopg.connect(url) as connection:
        body = f'{{"name":"{key}","value":1}}'
        row = connection.execute(
            "select pend_put_tallies(%s, %s, %s, null, null, null, null, false, null, false)",
            (epoch, key, body),
        ).fetchone()
        assert row is not None
        assert row[0].isdigit()
        yield connection


def wait_for_a_waiting_lock(url: str) -> None:
    """Wait until a session waits for a lock in this database."""
    deadline = time.monotonic() + 20
    with psycopg.connect(url, autocommit=True) as connection:
        while True:
            row = connection.execute(
                "select count(*) from pg_locks where not granted and database = "
                "(select oid from pg_database where datname = current_database())"
            ).fetchone()
            if row is not None and row[0]:
                return
            assert time.monotonic() < deadline, "no session waits for a lock"
            time.sleep(0.01)


# -- the change log of PostgreSQL is not in the order of its commits ----------------------


def test_the_mark_does_not_pass_a_commit_that_is_still_open(
    pair: DualWriteStore, url: str
) -> None:
    """The hole in the outbox: what was begun earlier ends later."""
    to(pair, Phase.POSTGRES_PRIMARY)
    with commit_under_way(url, "slow", pair._router.route.epoch) as slow:
        pair._breaker.failed("is tested")  # so that only the relay brings anything
        pair.collection(Tally).put(a_tally("quick"))
        pair.catch_up()
        assert pair._pair.json.collection(Tally).get("slow") is None
        slow.commit()
    pair.collection(Tally).put(a_tally("later"))

    pair.catch_up()

    assert pair._pair.json.collection(Tally).get("slow") == a_tally("slow", 1)
    assert_alike(pair)


def test_relays_that_never_rest_miss_nothing_of_writers_that_overtake_each_other(
    tmp_path: Path, url: str
) -> None:
    pair = a_pair(
        tmp_path / "data", url, relay_interval=0.001, secondary_timeout=0, compare=1.0
    )
    to(pair, Phase.POSTGRES_PRIMARY)
    stop = threading.Event()

    def write(me: int) -> None:
        rng = random.Random(me)
        for n in range(40):
            batch = [a_tally(f"{rng.randrange(30)}", n) for _ in range(5)]
            unique = {tally.name: tally for tally in batch}
            pair.collection(Tally).put_many(unique.values())

    def drain() -> None:
        while not stop.is_set():
            pair.catch_up()

    relays = [threading.Thread(target=drain) for _ in range(2)]
    writers = [threading.Thread(target=write, args=(me,)) for me in range(4)]
    for thread in (*relays, *writers):
        thread.start()
    for thread in writers:
        thread.join(60)
    stop.set()
    for thread in relays:
        thread.join(60)

    assert not any(thread.is_alive() for thread in (*relays, *writers))
    assert_alike(pair)
    assert pair.divergences() == ()
    pair.close()


def test_a_switch_waits_for_a_commit_that_is_still_open_and_takes_it_along(
    pair: DualWriteStore, url: str
) -> None:
    to(pair, Phase.POSTGRES_PRIMARY)
    switch = threading.Thread(target=to, args=(pair, Phase.PARALLEL))
    with commit_under_way(url, "slow", pair._router.route.epoch) as slow:
        switch.start()
        wait_for_a_waiting_lock(url)
        assert pair._pair.json.role().role is Role.SECONDARY
        slow.commit()
    switch.join(30)

    assert not switch.is_alive()
    assert pair._pair.json.role().role is Role.PRIMARY
    assert pair.collection(Tally).get("slow") == a_tally("slow", 1)
    assert_alike(pair)


def test_a_store_that_begins_to_follow_gets_what_was_open_then(
    pair: DualWriteStore, url: str
) -> None:
    to(pair, Phase.POSTGRES_ONLY)
    pair._pair.postgres.prune(pair._pair.postgres.head())
    with commit_under_way(url, "slow", pair._router.route.epoch) as slow:
        pair.collection(Tally).put(a_tally("quick"))
        attach = threading.Thread(target=to, args=(pair, Phase.POSTGRES_PRIMARY))
        attach.start()
        wait_for_a_waiting_lock(url)  # the primary's role waits for the commit
        slow.commit()
    attach.join(30)

    assert not attach.is_alive()
    assert_alike(pair)


@pytest.mark.parametrize("verb", ["put", "put_many", "apply"])
def test_whoever_waited_for_a_change_of_roles_sees_it(url: str, verb: str) -> None:
    """The lock is taken in one statement, and the epoch is read in the next one."""
    before = Role.SECONDARY if verb == "apply" else Role.PRIMARY
    with PostgresStore(SCHEMA, url) as store, psycopg.connect(url) as other:
        store.compare_and_set_meta(ROLE_META, None, RoleState(before, 1).to_meta())
        errors: list[BaseException] = []

        def write() -> None:
            batch = SCHEMA.batch(
                [SCHEMA.put(Log, a_log(f"{n}")) for n in range(1 + (verb != "put"))]
            )
            try:
                if verb == "apply":
                    store.apply(
                        (), epoch=1, mark=Advance("mark", store.meta("mark"), 1)
                    )
                else:
                    store.commit(batch, epoch=1)
            except BaseException as error:  # noqa: BLE001 - looked at below
                errors.append(error)

        other.execute("lock table pend_store_lock in exclusive mode")
        other.execute(
            "update store_meta set value = jsonb_set(value, '{epoch}', '2') "
            "where name = 'role'"
        )
        writer = threading.Thread(target=write)
        writer.start()
        wait_for_a_waiting_lock(url)
        other.commit()
        writer.join(30)

        assert [type(error) for error in errors] == [StaleEpoch]
        assert store.meta("mark") is None
        assert store.collection(Log).count() == 0


# -- a secondary follows, it does not judge -----------------------------------------------


def swap(tx: Transaction, one: str, two: str) -> None:
    ships = tx.collection(Ship)
    left, right = ships.get(one), ships.get(two)
    assert left is not None
    assert right is not None
    ships.put(a_ship(one, call_sign=right.call_sign, berth_id=right.berth_id))
    ships.put(a_ship(two, call_sign=left.call_sign, berth_id=left.berth_id))


def work(pair: DualWriteStore, seed: int) -> None:
    """Unique values go round, and what is referred to comes and goes."""
    rng = random.Random(seed)
    names = [f"s{n}" for n in range(6)]
    for n in range(15):
        one, two = rng.sample(names, 2)
        pair.run(lambda tx, a=one, b=two: swap(tx, a, b), attempts=1_000)  # type: ignore[misc]
        fresh = f"{seed}-{n}"

        def move(tx: Transaction, key: str = one, berth: str = fresh) -> None:
            ship = tx.collection(Ship).get(key)
            assert ship is not None
            tx.collection(Berth).put(a_berth(berth, pier=berth))
            tx.collection(Ship).put(
                a_ship(key, call_sign=ship.call_sign, berth_id=berth)
            )

        pair.run(move, attempts=1_000)


@pytest.mark.parametrize("phase", BOTH)
@pytest.mark.parametrize("timeout", [0.0, 5.0])
def test_values_that_go_round_arrive_in_any_order_and_the_rules_hold_afterwards(
    tmp_path: Path, url: str, phase: Phase, timeout: float
) -> None:
    pair = a_pair(
        tmp_path / "data", url, relay_interval=0.01, secondary_timeout=timeout
    )
    to(pair, phase)
    ships = pair.collection(Ship)
    ships.put_many(a_ship(f"s{n}", call_sign=f"AB{n}") for n in range(6))
    workers = [threading.Thread(target=work, args=(pair, n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    assert not any(worker.is_alive() for worker in workers)
    assert_alike(pair)
    for store in (pair._pair.json, pair._pair.postgres):
        found = list(store.collection(Ship).scan())
        assert {ship.call_sign for ship in found} == {f"AB{n}" for n in range(6)}
        berths = {berth.id for berth in store.collection(Berth).scan()}
        assert {ship.berth_id for ship in found} - {None} <= berths
    pair.close()
    with psycopg.connect(url) as connection:  # and what was deferred is judged again
        rows = connection.execute(
            "select conname from pg_constraint where not convalidated"
        ).fetchall()
        assert rows == []
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("update ships set call_sign = 'AB0'")


@pytest.mark.parametrize("phase", BOTH)
def test_write_skew_ends_in_one_conflict_where_the_keys_were_absent(
    pair: DualWriteStore, phase: Phase
) -> None:
    to(pair, phase)
    one, two = pair.transaction(), pair.transaction()
    assert one.collection(Log).get("b") is None
    assert two.collection(Log).get("a") is None
    one.collection(Log).put(a_log("a"))
    two.collection(Log).put(a_log("b"))
    outcomes = []
    for tx in (one, two):
        try:
            tx.commit()
        except Conflict:
            outcomes.append("conflict")
        else:
            outcomes.append("done")

    assert sorted(outcomes) == ["conflict", "done"]
    assert_alike(pair)
    assert pair.collection(Log).count() == 1


# -- deleted is deleted, and past is past -------------------------------------------------


@pytest.mark.parametrize("phase", BOTH)
def test_what_was_deleted_does_not_come_back(
    pair: DualWriteStore, phase: Phase
) -> None:
    """Not by a late apply, a backfill, a repair, or a change of phase."""
    to(pair, phase)
    pair.collection(Log).put(a_log("a"))
    route = pair._router.route
    follower = route.follower
    assert follower is not None
    late = [record for change in route.store.changes() for record in change.records]
    pair.collection(Log).delete("a")

    follower.apply(late, epoch=route.epoch)
    pair.backfill()
    pair.repair()
    for other in (Phase.PARALLEL, Phase.POSTGRES_PRIMARY, Phase.JSON_ONLY, phase):
        to(pair, other)
        pair.backfill() if other in BOTH else None
        assert pair.collection(Log).get("a") is None

    assert_alike(pair)


def test_a_database_from_before_a_switch_is_refused(
    tmp_path: Path, databases: Databases, url: str
) -> None:
    with a_pair(tmp_path / "data", url) as pair:
        to(pair, Phase.PARALLEL)
        pair.collection(Log).put(a_log("a", "1"))
    backup = databases.make(template=name_of(url))
    with a_pair(tmp_path / "data", url) as pair:
        to(pair, Phase.POSTGRES_PRIMARY)
        pair.collection(Log).put(a_log("a", "2"))

    assert_refused(tmp_path / "data", backup, r"JSON secondary at epoch 3.*elect")


def test_a_database_that_lost_its_last_hour_is_refused(
    tmp_path: Path, databases: Databases, url: str
) -> None:
    """Its roles are the same, and its log ends before the place that JSON has seen."""
    with a_pair(tmp_path / "data", url) as pair:
        to(pair, Phase.POSTGRES_PRIMARY)
        pair.collection(Log).put(a_log("a", "1"))
        pair.catch_up()
    backup = databases.make(template=name_of(url))
    with a_pair(tmp_path / "data", url) as pair:
        pair.collection(Log).put(a_log("a", "2"))
        pair.catch_up()

    assert_refused(tmp_path / "data", backup, r"number \d+ of 20.*elect")


def test_json_knows_where_it_is_after_everything_was_closed(
    tmp_path: Path, url: str
) -> None:
    """Role, epoch and mark of the directory are records of its journal."""
    for n, phase in enumerate([*Phase, *reversed(Phase)]):
        with a_pair(tmp_path / "data", url) as pair:
            to(pair, phase)
            pair.collection(Log).put(a_log("a", f"{n}"))
        with a_pair(tmp_path / "data", url) as pair:
            assert pair.phase is phase
            assert pair.collection(Log).get("a") == a_log("a", f"{n}")
            if phase is Phase.POSTGRES_PRIMARY:
                pair.catch_up()
                mark = ReplicationPosition.load(pair._pair.json)
                assert mark is not None
                assert mark.source == pair._pair.postgres.identity()


def test_another_process_sees_a_fence_in_the_directory_at_once(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with JsonStore(SCHEMA, directory) as one, JsonStore(SCHEMA, directory) as two:
        primary, fenced = RoleState(Role.PRIMARY, 1), RoleState(Role.FENCED, 1)
        one.compare_and_set_meta(ROLE_META, None, primary.to_meta())
        assert two.read("logs", ["a"], epoch=1) == {}

        one.compare_and_set_meta(ROLE_META, primary.to_meta(), fenced.to_meta())

        with pytest.raises(StaleEpoch):
            two.read("logs", ["a"], epoch=1)
        with pytest.raises(StaleEpoch):
            two.commit(SCHEMA.batch([SCHEMA.put(Log, a_log("a"))]), epoch=1)
