"""Cancelling, deadlines, room, closing, loops: what happens to a call on its way."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from pend_storage import AsyncStore
from pend_storage.errors import ConfigError, InvalidRecord, StoreUnavailable
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, Tally, a_log, a_tally

from .watching import WatchedStore, run, settled


@pytest.fixture
def watched() -> WatchedStore:
    return WatchedStore()


# -- cancelling -----------------------------------------------------------------------


def test_a_write_that_is_cancelled_while_it_waits_never_happens(
    watched: WatchedStore,
) -> None:
    async def cancel() -> None:
        async with AsyncStore(watched) as db:
            logs = db.collection(Log)
            under_way = await watched.occupy(db)
            gone, stays = (asyncio.create_task(logs.put(a_log(key))) for key in "ab")
            await settled()
            gone.cancel()
            await settled()
            assert gone.cancelled()
            watched.let_go()
            await asyncio.gather(*under_way, stays)
            assert set(await logs.get_many(["a", "b"])) == {"b"}

    run(cancel)


def test_a_write_that_is_cancelled_under_way_happens_as_a_whole(
    watched: WatchedStore,
) -> None:
    async def cancel() -> None:
        async with AsyncStore(watched) as db:
            watched.hold()
            put = asyncio.create_task(db.collection(Log).put_many(map(a_log, "abc")))
            await watched.until_arrived()
            put.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await put
            assert put.cancelled()  # at once, though the store is still at it
            watched.let_go()

    run(cancel)

    assert set(watched.inner.collection(Log).get_many("abc")) == set("abc")


def test_a_transaction_that_is_cancelled_inside_writes_nothing(
    watched: WatchedStore,
) -> None:
    async def cancel() -> None:
        async with AsyncStore(watched) as db:

            async def work() -> None:
                async with db.transaction() as tx:
                    await tx.collection(Log).put(a_log("a"))
                    await asyncio.sleep(60)

            task = asyncio.create_task(work())
            await settled()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await db.collection(Log).count() == 0

    run(cancel)


# -- deadlines ------------------------------------------------------------------------


def test_a_call_that_takes_too_long_says_whether_it_may_have_happened(
    watched: WatchedStore,
) -> None:
    async def late() -> None:
        async with AsyncStore(watched, timeout=0.2) as db:
            logs = db.collection(Log)
            watched.hold()
            under_way = asyncio.create_task(logs.put(a_log("a")))
            await watched.until_arrived()
            waiting = asyncio.create_task(logs.put(a_log("a", "later")))
            with pytest.raises(StoreUnavailable, match=r"0\.2 s") as doubtful:
                await under_way
            with pytest.raises(StoreUnavailable, match="Nothing was changed") as sure:
                await waiting
            assert not doubtful.value.outcome_known
            assert sure.value.outcome_known
            watched.let_go()

    run(late)

    assert watched.inner.collection(Log).get("a") == a_log("a")


def test_a_single_call_may_have_a_deadline_of_its_own(watched: WatchedStore) -> None:
    async def late() -> None:
        async with AsyncStore(watched) as db:
            watched.hold()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await db.collection(Log).get("a")
            watched.let_go()
            assert await db.collection(Log).get("a") is None

    run(late)


# -- room -----------------------------------------------------------------------------


def test_no_more_calls_than_there_is_room_for_wait_at_the_store(
    watched: WatchedStore,
) -> None:
    async def crowd() -> None:
        async with AsyncStore(watched, max_waiting=10) as db:
            logs = db.collection(Log)
            under_way = await watched.occupy(db)
            tasks = [asyncio.create_task(logs.put(a_log(f"{n}"))) for n in range(200)]
            await settled()
            assert db._engine is not None
            assert len(db._engine.commits._waiting) == 8
            watched.let_go()
            await asyncio.gather(*under_way, *tasks)
            assert await logs.count() == 202

    run(crowd)

    assert max(watched.commits) <= 10


def test_one_who_is_cancelled_outside_leaves_the_room_to_the_others(
    watched: WatchedStore,
) -> None:
    async def crowd() -> None:
        async with AsyncStore(watched, max_waiting=1) as db:
            logs = db.collection(Log)
            watched.hold()
            first = asyncio.create_task(logs.put(a_log("first")))
            await watched.until_arrived()
            gone, stays = (asyncio.create_task(logs.put(a_log(key))) for key in "ab")
            await settled()
            gone.cancel()
            watched.let_go()
            await asyncio.gather(first, stays)
            assert await logs.get("a") is None

    run(crowd)


# -- closing --------------------------------------------------------------------------


def test_closing_carries_out_what_was_let_in_and_refuses_the_rest(
    watched: WatchedStore,
) -> None:
    async def close() -> None:
        db = AsyncStore(watched, max_waiting=3)
        logs = db.collection(Log)
        watched.hold()
        inside = [asyncio.create_task(logs.put(a_log(f"{n}"))) for n in range(3)]
        await watched.until_arrived()
        outside = asyncio.create_task(logs.put(a_log("outside")))
        await settled()
        closing = [asyncio.create_task(db.close()) for _ in range(2)]
        await settled()
        with pytest.raises(StoreUnavailable, match="closed"):
            await logs.get("late")
        was_closed_too_soon = watched.is_closed
        watched.let_go()
        await asyncio.gather(*inside, *closing)
        with pytest.raises(StoreUnavailable, match="closed"):
            await outside
        assert (was_closed_too_soon, watched.is_closed) == (False, True)
        await db.close()

    run(close)


def test_a_store_that_was_never_used_is_closed_too(watched: WatchedStore) -> None:
    async def close() -> None:
        async with AsyncStore(watched):
            pass

    run(close)

    assert watched.is_closed


# -- loops ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_a_thousand_clients_lose_no_increment(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def increments() -> int:
        async with AsyncStore(MemoryStore(SCHEMA)) as db:
            tallies = db.collection(Tally)

            async def increment(n: int) -> None:
                async def work(tx: Any) -> None:
                    inside = tx.collection(Tally)
                    tally = await inside.get(f"{n % 50}") or a_tally(f"{n % 50}")
                    await inside.put(a_tally(tally.name, tally.value + 1))

                await db.run(work, attempts=100)

            await asyncio.gather(*map(increment, range(1000)))
            assert len(await tallies.get_many(map(str, range(50)))) == 50
            return sum([tally.value async for tally in tallies.scan()])

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(increments()) == 1000


def test_one_store_serves_one_loop_at_a_time() -> None:
    db = AsyncStore(MemoryStore(SCHEMA))

    async def use() -> None:
        await db.collection(Log).put(a_log("a"))

    async def use_twice() -> None:
        await use()
        with pytest.raises(ConfigError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, use())

    run(use_twice)
    run(use)  # the former loop is closed
    run(db.close)


FORKING = """
import asyncio, os, sys
from pend_storage import AsyncStore, MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, a_log

db = AsyncStore(MemoryStore(SCHEMA))

async def use(key):
    await db.collection(Log).put(a_log(key))
    return await db.collection(Log).count()

async def fork():
    assert await use("a") == 1
    child = os.fork()
    if child == 0:
        os._exit(0 if in_child() else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert await use("c") == 2
    await db.close()

def in_child():
    asyncio.events._set_running_loop(None)
    return asyncio.run(use("b")) == 2

asyncio.run(fork())
print("both are fine")
"""


def test_a_forked_child_begins_anew() -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ran.stdout, ran.stderr) == ("both are fine\n", "")


# -- everything else ------------------------------------------------------------------


def test_iterators_fetch_a_page_at_a_time_and_may_be_left(
    watched: WatchedStore,
) -> None:
    watched.inner.collection(Log).put_many(a_log(f"{n:04}") for n in range(1000))
    watched.inner.collection(Tally).put_many(a_tally(f"{n}") for n in range(3))

    async def iterate() -> None:
        async with AsyncStore(watched) as db:
            logs = db.collection(Log)
            keys = [log.id async for log in logs.scan()]
            assert keys == [f"{n:04}" for n in range(1000)]
            async for log in logs.scan(after="0500"):
                assert log.id == "0501"
                break
            changes = [change async for change in db.changes()]
            assert list(map(len, (change.records for change in changes))) == [1000, 3]
            later = [change async for change in db.changes(changes[0].sequence)]
            assert later == changes[1:]

    run(iterate)


def test_what_has_no_verb_is_called_in_a_thread() -> None:
    async def call() -> None:
        async with AsyncStore(MemoryStore(SCHEMA)) as db:
            assert await db.call(
                lambda store, key: store.collection(Log).put(a_log(key)) > 0, "a"
            )
            assert await db.collection(Log).get("a") == a_log("a")

            def stop(_: object) -> None:
                raise StopIteration

            with pytest.raises(RuntimeError, match="StopIteration"):
                await db.call(stop)
            with pytest.raises(ZeroDivisionError):
                await db.call(lambda _: 1 / 0)

    run(call)


def test_a_record_that_breaks_the_schema_costs_no_call(watched: WatchedStore) -> None:
    async def put() -> None:
        async with AsyncStore(watched) as db:
            with pytest.raises(InvalidRecord):
                await db.collection(Log).put(a_log("a\x00"))

    run(put)

    assert watched.commits == []


@pytest.mark.parametrize(
    "settings", [{"timeout": 0}, {"max_waiting": 0}, {"threads": 0}]
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="1 or more"):
        AsyncStore(MemoryStore(SCHEMA), **settings)


@pytest.mark.parametrize(
    "verb",
    [
        lambda db: db.phase(),
        lambda db: db.switch("parallel"),
        lambda db: db.lag(),
        lambda db: db.validate(),
    ],
    ids=["phase", "switch", "lag", "validate"],
)
def test_the_verbs_of_a_pair_need_a_pair(
    verb: Callable[[AsyncStore], Coroutine[Any, Any, Any]],
) -> None:
    async def ask() -> None:
        async with AsyncStore(MemoryStore(SCHEMA)) as db:
            with pytest.raises(ConfigError, match="MemoryStore"):
                await verb(db)

    run(ask)
