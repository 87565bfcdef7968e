"""Merging: waiting calls share a batch, others go alone, and each gets its own answer."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from typing_extensions import override

from pend_storage import AsyncStore
from pend_storage.errors import (
    Conflict,
    CorruptFile,
    InvalidQuery,
    ReferenceViolation,
    StoreUnavailable,
    UniqueViolation,
)
from pend_storage.records import Batch, Outcome, Row
from pend_storage.testing.domain import (
    Cargo,
    Log,
    Ship,
    Tally,
    a_cargo,
    a_log,
    a_ship,
    a_tally,
)

from .watching import WatchedStore, run, settled

LANES = 2
"""Reads that go alone before the others wait."""


@pytest.fixture
def watched() -> WatchedStore:
    return WatchedStore()


def test_an_idle_store_is_asked_at_once_and_alone(watched: WatchedStore) -> None:
    async def one_by_one() -> None:
        async with AsyncStore(watched) as db:
            logs = db.collection(Log)
            for n in range(5):
                await logs.put(a_log(f"{n}"))
                assert await logs.get(f"{n}") == a_log(f"{n}")

    run(one_by_one)

    assert watched.commits == [1] * 5
    assert watched.reads == [[f"{n}"] for n in range(5)]


def test_reads_that_wait_are_one_call_for_each_collection(
    watched: WatchedStore,
) -> None:
    watched.inner.collection(Log).put_many(a_log(f"{n}", f"of {n}") for n in range(50))
    watched.inner.collection(Tally).put_many(a_tally(f"{n}", n) for n in range(50))

    async def many() -> None:
        async with AsyncStore(watched) as db:
            logs, tallies = db.collection(Log), db.collection(Tally)
            watched.hold()
            first = [asyncio.create_task(logs.get("x")) for _ in range(LANES)]
            await watched.until_arrived()
            some = [asyncio.create_task(logs.get(f"{n}")) for n in range(60)]
            more = [
                asyncio.create_task(tallies.get_many([f"{n}", f"{n + 1}"]))
                for n in range(40)
            ]
            await settled()
            watched.let_go()
            assert await asyncio.gather(*first) == [None] * LANES
            assert await asyncio.gather(*some) == [
                a_log(f"{n}", f"of {n}") if n < 50 else None for n in range(60)
            ]
            for n, found in enumerate(await asyncio.gather(*more)):
                assert found == {f"{m}": a_tally(f"{m}", m) for m in (n, n + 1)}

    run(many)

    assert len(watched.reads) <= LANES + 4
    assert max(map(len, watched.reads)) > 20


def test_two_who_ask_for_one_record_do_not_get_one_object(
    watched: WatchedStore,
) -> None:
    watched.inner.collection(Ship).put(
        a_ship("s1", extra={"a": [1]}, call_sign="ABC", fingerprint=b"xyz")
    )

    async def same() -> None:
        async with AsyncStore(watched) as db:
            ships = db.collection(Ship)
            watched.hold()
            first = [asyncio.create_task(ships.get("x")) for _ in range(LANES)]
            await watched.until_arrived()
            asked: list[Any] = [ships.get("s1") for _ in range(3)]
            asked += [ships.get_by("call_sign", "ABC") for _ in range(3)]
            asked += [ships.get_by("fingerprint", b"xyz") for _ in range(2)]
            tasks = [asyncio.create_task(each) for each in asked]
            await settled()
            watched.let_go()
            await asyncio.gather(*first)
            found = await asyncio.gather(*tasks)
            assert len({id(ship.extra["a"]) for ship in found}) == len(found)
            assert all(ship == found[0] for ship in found)

    run(same)


def test_lookups_that_wait_are_one_query(watched: WatchedStore) -> None:
    watched.inner.collection(Ship).put_many(
        a_ship(f"s{n}", call_sign=f"SIGN{n}") for n in range(30)
    )

    async def many() -> None:
        async with AsyncStore(watched) as db:
            ships = db.collection(Ship)
            watched.hold()
            first = [
                asyncio.create_task(ships.get_by("call_sign", "SIGN0"))
                for _ in range(LANES)
            ]
            await watched.until_arrived()
            tasks = [
                asyncio.create_task(ships.get_by("call_sign", f"SIGN{n}"))
                for n in range(40)
            ]
            await settled()
            watched.let_go()
            await asyncio.gather(*first)
            found = await asyncio.gather(*tasks)
            assert [ship.id if ship else None for ship in found] == [
                f"s{n}" if n < 30 else None for n in range(40)
            ]

    run(many)

    assert len(watched.queries) <= LANES + 2


def test_a_lookup_that_makes_no_sense_is_refused() -> None:
    async def odd() -> None:
        async with AsyncStore(WatchedStore()) as db:
            ships = db.collection(Ship)
            await ships.put(a_ship("s1"))
            assert await ships.get_by("id", "s1") == a_ship("s1")
            with pytest.raises(InvalidQuery, match="None"):
                await ships.get_by("call_sign", None)
            with pytest.raises(InvalidQuery, match="not declared unique"):
                await ships.get_by("name", "s1")

    run(odd)


def test_commits_that_wait_are_one_call_and_keep_their_order(
    watched: WatchedStore,
) -> None:
    async def many() -> list[int]:
        async with AsyncStore(watched) as db:
            logs = db.collection(Log)
            watched.hold()
            first = asyncio.create_task(logs.put(a_log("a", "first")))
            await watched.until_arrived()
            tasks = [
                asyncio.create_task(logs.put(a_log("a", f"{n}"))) for n in range(200)
            ]
            await settled()
            watched.let_go()
            return [await first, *await asyncio.gather(*tasks)]

    versions = run(many)

    assert watched.commits == [1, 200]
    assert versions == sorted(set(versions))
    assert watched.inner.collection(Log).versioned("a") == (
        a_log("a", "199"),
        versions[-1],
    )
    assert len(list(watched.inner.changes())) == 201


class Dawdling(WatchedStore):
    """Takes its time, sometimes."""

    def __init__(self) -> None:
        super().__init__()
        self._random = random.Random(3)

    @override
    def commit_each(
        self, batches: Sequence[Batch], *, epoch: int | None = None
    ) -> list[Outcome]:
        time.sleep(self._random.random() * 0.01)
        return super().commit_each(batches, epoch=epoch)


def test_writes_of_one_key_keep_their_order_on_whatever_lane() -> None:
    store = Dawdling()
    keys = [f"{random.Random(n).randrange(20)}" for n in range(2000)]

    async def many() -> None:
        async with AsyncStore(store) as db:
            logs = db.collection(Log)

            async def one(n: int, key: str) -> None:
                await asyncio.sleep(n // 100 * 0.001)
                await logs.put(a_log(key, f"{n:04}"))

            await asyncio.gather(*(one(n, key) for n, key in enumerate(keys)))

    run(many)

    written: dict[str, list[str]] = {}
    for change in store.inner.changes():
        for record in change.records:
            written.setdefault(record.key, []).append(record.record.text)
    assert sum(map(len, written.values())) == 2000
    assert all(texts == sorted(texts) for texts in written.values())


def test_who_is_passed_over_is_not_overtaken(watched: WatchedStore) -> None:
    async def three() -> None:
        async with AsyncStore(watched) as db:
            logs = db.collection(Log)
            watched.hold()
            first = asyncio.create_task(logs.put(a_log("a")))
            await watched.until_arrived()
            both = [a_log("a", "both"), a_log("b", "both")]
            waits = asyncio.create_task(logs.put_many(both))
            later = asyncio.create_task(logs.put(a_log("b", "later")))
            other = asyncio.create_task(logs.put(a_log("c")))
            await watched.until_arrived()  # the other one, on the second lane
            watched.let_go()
            await asyncio.gather(first, waits, later, other)
            assert await logs.get("b") == a_log("b", "later")

    run(three)

    assert watched.commits[:2] == [1, 1]


def test_each_caller_gets_its_own_error(watched: WatchedStore) -> None:
    watched.inner.collection(Ship).put(a_ship("s0", call_sign="ABC"))

    async def mixed() -> list[Any]:
        async with AsyncStore(watched) as db:
            ships, cargo = db.collection(Ship), db.collection(Cargo)
            logs = db.collection(Log)
            under_way = await watched.occupy(db)
            calls: list[Any] = [logs.put(a_log(f"{n}")) for n in range(20)]
            calls += [
                ships.put(a_ship("s1", call_sign="ABC")),
                cargo.put(a_cargo("c1", ship_id="absent")),
                logs.put(a_log("x"), if_version=77),
                logs.delete("absent"),
            ]
            tasks = [asyncio.create_task(call) for call in calls]
            await settled()
            watched.let_go()
            await asyncio.gather(*under_way)
            return await asyncio.gather(*tasks, return_exceptions=True)

    answers = run(mixed)

    assert watched.commits == [1, 1, 24]
    assert all(isinstance(version, int) for version in answers[:20])
    assert list(map(type, answers[20:])) == [
        *(UniqueViolation, ReferenceViolation, Conflict, bool)
    ]


class Damaged(WatchedStore):
    """One record of it cannot be read, and at times nothing can be."""

    is_down = False

    @override
    def read(
        self,
        collection: str,
        keys: Iterable[str],
        *,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> dict[str, Row]:
        wanted = list(keys)
        rows = super().read(collection, wanted, deleted=deleted, epoch=epoch)
        if self.is_down:
            raise StoreUnavailable("gone", store="it")
        if "bad" in wanted:
            raise CorruptFile("a record is damaged", path="somewhere")
        return rows


def read_together(store: Damaged, keys: list[str]) -> list[Any]:
    async def together() -> list[Any]:
        async with AsyncStore(store) as db:
            logs = db.collection(Log)
            store.hold()
            first = [asyncio.create_task(logs.get("x")) for _ in range(LANES)]
            await store.until_arrived()
            tasks = [asyncio.create_task(logs.get(key)) for key in keys]
            await settled()
            store.let_go()
            await asyncio.gather(*first, return_exceptions=True)
            return await asyncio.gather(*tasks, return_exceptions=True)

    return run(together)


def test_a_record_that_cannot_be_read_spoils_no_other_one() -> None:
    store = Damaged()
    store.inner.collection(Log).put_many([a_log("a"), a_log("b")])

    found = read_together(store, ["a", "bad", "b"])

    assert found[0] == a_log("a")
    assert isinstance(found[1], CorruptFile)
    assert found[2] == a_log("b")


def test_a_store_that_is_down_is_not_asked_once_for_each_caller() -> None:
    store = Damaged()
    store.is_down = True

    found = read_together(store, [f"{n}" for n in range(100)])

    assert [type(error) for error in found] == [StoreUnavailable] * 100
    assert len({id(error) for error in found}) == 100
    assert len(store.reads) <= LANES + 2


def test_big_calls_are_not_piled_up(watched: WatchedStore) -> None:
    async def many() -> None:
        async with AsyncStore(watched) as db:
            logs = db.collection(Log)
            watched.hold()
            first = asyncio.create_task(logs.put(a_log("first")))
            await watched.until_arrived()
            tasks = [
                asyncio.create_task(
                    logs.put_many(a_log(f"{n}-{m}") for m in range(100))
                )
                for n in range(10)
            ]
            await settled()
            watched.let_go()
            await asyncio.gather(first, *tasks)

    run(many)

    assert sum(watched.commits) == 11
    assert max(watched.commits) <= 3
