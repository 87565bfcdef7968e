"""Exclusive use: one at a time, over threads, stores, processes and phases."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pend_storage import ConfigError, DualWriteStore, LockTimeout, StoreUnavailable
from pend_storage._whole_files import exclusive_use
from pend_storage._whole_files.exclusive_use import ExclusiveUses
from pend_storage.dualwrite import CODES
from pend_storage.phases import Phase
from pend_storage.store import Store
from pend_storage.stores.wrapper import WrapperStore
from pend_storage.testing.crash import Child

from .children import create, hold, hold_and_fork
from .places import ANY, ANY_TOO, Place

pytestmark = pytest.mark.timeout(120)

NOT_HAD = "consents-db.json was still locked by another caller of exclusive"


@pytest.fixture
def other(place: Place, store: Store) -> Iterator[Store]:
    """The same data, opened once more."""
    if place.kind == "memory":
        yield store
        return
    with place.open() as opened:
        yield opened


def is_free(store: Store, file: str = ANY) -> bool:
    """Return True if another caller could acquire it now."""
    found: list[bool] = []

    def attempt() -> None:
        try:
            with store.exclusive(file, timeout=0):
                found.append(True)
        except LockTimeout:
            found.append(False)

    run_in_thread(attempt)
    return found[0]


def run_in_thread(fn: Callable[[], Any]) -> None:
    thread = threading.Thread(target=fn)
    thread.start()
    thread.join()


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_one_caller_at_a_time(store: Store, other: Store) -> None:
    with store.exclusive(ANY):
        assert not is_free(store)
        assert not is_free(other)
        assert is_free(other, ANY_TOO)
    assert is_free(store)
    assert is_free(other)


def test_it_ends_with_an_exception(store: Store, other: Store) -> None:
    with pytest.raises(KeyError), store.exclusive(ANY):
        raise KeyError

    assert is_free(other)


def test_its_caller_may_take_it_again(store: Store, other: Store) -> None:
    with store.exclusive(ANY):
        with store.exclusive(ANY, timeout=0):
            store.update(ANY, lambda data: data.update(a=1), timeout=0)
        assert not is_free(other)
    assert is_free(other)


def test_the_wait_is_bounded_and_names_the_file(store: Store, other: Store) -> None:
    def wait() -> None:
        with pytest.raises(LockTimeout, match=NOT_HAD) as info:
            other.exclusive(ANY, timeout=0.2).__enter__()
        assert (info.value.path, info.value.seconds) == (ANY, 0.2)
        waited.append(True)

    waited: list[bool] = []
    with store.exclusive(ANY):
        run_in_thread(wait)
    assert waited


def test_who_waits_gets_it(store: Store, other: Store) -> None:
    def wait() -> None:
        with other.exclusive(ANY):
            order.append("second")

    order: list[str] = []
    thread = threading.Thread(target=wait)
    with store.exclusive(ANY):
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_others_may_read_and_write_meanwhile(store: Store, other: Store) -> None:
    with store.exclusive(ANY):
        run_in_thread(lambda: other.save(ANY, {"a": 1}))
        assert store.load(ANY) == {"a": 1}


def test_code_that_gives_the_next_number(place: Place, store: Store) -> None:
    """Threads of three processes; of ``memory`` of one."""
    places = [place] * (1 if place.kind == "memory" else 2)
    children = [Child(create, p, ANY, 4) for p in places if p.kind != "memory"]
    for child in children:
        child.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Place, "open", lambda _: store)
        patch.setattr(type(store), "__exit__", lambda *_: None)
        create(lambda _: None, place, ANY, 4)
    for child in children:
        child.finish()

    ids = [record["id"] for record in store.load(ANY)]
    assert ids == list(range(1, 12 * (1 + len(children)) + 1))


def test_it_ends_with_its_process(place: Place, store: Store) -> None:
    if place.kind == "memory":
        pytest.skip("of one process")
    with Child(hold, place, ANY, 30.0) as child:
        child.wait_for_reports(1)
        assert not is_free(store)
        child.kill()
        assert eventually(lambda: is_free(store))


def test_a_forked_child_does_not_keep_it(place: Place, store: Store) -> None:
    if place.kind == "memory":
        pytest.skip("of one process")
    with Child(hold_and_fork, place, ANY) as child:
        (grandchild,) = child.wait_for_reports(1)
        try:
            assert not is_free(store)
            child.kill()
            assert eventually(lambda: is_free(store))
            os.kill(grandchild, 0)  # it lives
        finally:
            os.kill(grandchild, signal.SIGKILL)


# -- from a load to a save -----------------------------------------------------------------


def test_a_load_until_the_save(store: Store, other: Store) -> None:
    data = store.load(ANY, {}, exclusive=True)
    assert not is_free(other)
    data["a"] = 1
    store.save(ANY_TOO, {})
    assert not is_free(other)

    store.save(ANY, data)

    assert is_free(other)
    assert store.load(ANY) == {"a": 1}


def test_a_load_and_a_load_are_one(store: Store, other: Store) -> None:
    for _ in range(3):
        store.load(ANY, {}, exclusive=True)
    store.save(ANY, {})

    assert is_free(other)


def test_a_save_that_fails_ends_it_too(store: Store, other: Store) -> None:
    store.load(ANY, {}, exclusive=True)
    with pytest.raises(TypeError):
        store.save(ANY, {1, 2})

    assert is_free(other)


def test_a_load_that_fails_does_not_begin_it(store: Store, other: Store) -> None:
    with pytest.raises(FileNotFoundError):
        store.load(ANY, exclusive=True)

    assert is_free(other)


def test_a_load_waits_for_the_save_of_another(store: Store, other: Store) -> None:
    def add() -> None:
        for _ in range(5):
            data = other.load(ANY, {"n": 0}, exclusive=True)
            data["n"] += 1
            other.save(ANY, data)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert store.load(ANY) == {"n": 20}


def test_it_ends_with_the_thread_that_never_saves(store: Store, other: Store) -> None:
    run_in_thread(lambda: store.load(ANY, {}, exclusive=True))

    assert eventually(lambda: is_free(other))


def test_it_is_taken_back_from_who_does_not_save_in_time(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exclusive_use, "LEASE_SECONDS", 0.1)
    data = store.load(ANY, {}, exclusive=True)
    assert eventually(lambda: is_free(other))
    data["a"] = 1

    with pytest.raises(LockTimeout, match="not saved in time"):
        store.save(ANY, data)

    assert not store.exists(ANY)
    store.save(ANY, data)  # he knows now
    assert store.load(ANY) == {"a": 1}


# -- when things change meanwhile ----------------------------------------------------------


@pytest.mark.parametrize("begin", [Phase.JSON_ONLY, Phase.POSTGRES_ONLY], ids=str)
def test_it_survives_every_switch(
    begin: Phase, tmp_path: Any, new_migrated_database: Any
) -> None:
    """The others come in whatever phase, and cannot have it."""
    place = Place.make(begin, tmp_path / "data", new_migrated_database)
    phases = list(Phase) if begin is Phase.JSON_ONLY else list(Phase)[::-1]
    store, other = place.open_first(), place.open()
    assert isinstance(other, DualWriteStore)
    with store, other:
        with store.exclusive(ANY):
            for phase in phases:
                other.switch(phase, accept=CODES)
                assert not is_free(other), phase
            store.save(ANY, {"still": "here"})
        assert is_free(other)


def test_a_pair_takes_the_locks_of_both_stores(place: Place, store: Store) -> None:
    """On one machine they have the directory in common, on several the database."""
    if not isinstance(store, DualWriteStore):
        pytest.skip("not a pair")
    with store.exclusive(ANY):
        taken = [not is_free(side) for side in (store._pair.json, store._pair.postgres)]

    assert taken == [True, store.phase != Phase.JSON_ONLY]


def test_the_database_down_in_parallel_costs_nothing(
    place: Place, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not isinstance(store, DualWriteStore):
        pytest.skip("not a pair")
    postgres = store._pair.postgres

    def away(*_: Any) -> Any:
        raise StoreUnavailable("away", store="PostgreSQL")

    monkeypatch.setattr(postgres, "lock", away)
    if store.phase in {Phase.JSON_ONLY, Phase.PARALLEL}:
        with store.exclusive(ANY):
            assert not is_free(store)
    else:
        with pytest.raises(StoreUnavailable):
            store.exclusive(ANY).__enter__()
    assert not store.__dict__["_holds"]._held


def test_a_lock_that_the_server_has_let_go(place: Place, store: Store) -> None:
    if place.kind not in {"postgres", Phase.POSTGRES_ONLY}:
        pytest.skip("no server alone")
    with pytest.raises(StoreUnavailable, match="exclusive use of consents-db"):
        lose_connections(store, place.url)
    assert not store.exists(ANY)
    assert is_free(store)


def lose_connections(store: Store, url: str) -> None:
    with store.exclusive(ANY):
        data = store.load(ANY, {})
        data["a"] = 1
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(
                "select pg_terminate_backend(pid, 5000) from pg_locks"
                " where locktype = 'advisory' and pid <> pg_backend_pid()"
                " and database = (select oid from pg_database"
                " where datname = current_database())"
            )
        store.save(ANY, data)


def test_those_who_wait_hold_one_connection(place: Place, store: Store) -> None:
    if place.kind != "postgres":
        pytest.skip("no server alone")

    def wait() -> None:
        with store.exclusive(ANY):
            pass

    threads = [threading.Thread(target=wait) for _ in range(8)]
    with store.exclusive(ANY):
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        with psycopg.connect(place.url) as admin:
            row = admin.execute(
                "select count(*) from pg_stat_activity where datname ="
                " current_database() and pid <> pg_backend_pid()"
                " and state = 'idle in transaction'"
            ).fetchone()
        assert row == (1,)
    for thread in threads:
        thread.join()


def test_a_store_without_locks_says_so(store: Store) -> None:
    class Bare(WrapperStore):
        lock = Store.lock

    with pytest.raises(ConfigError, match=r"write its method lock\(\)"):
        Bare(store).exclusive(ANY).__enter__()


def test_a_closed_store_gives_none(place: Place) -> None:
    store = place.open_first()
    store.close()

    with pytest.raises(StoreUnavailable, match="closed"):
        store.exclusive(ANY).__enter__()


def test_what_is_held_is_forgotten_in_a_forked_child(store: Store) -> None:
    holds = ExclusiveUses(store)
    with holds.exclusive(ANY, 1.0):
        holds.after_fork()
        assert holds.held_by(exclusive_use.caller(), ANY) is None
