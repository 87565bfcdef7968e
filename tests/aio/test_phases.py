"""Many coroutines over two stores while phases change, and some of them give up."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from pend_storage import AsyncStore, AsyncTransaction
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.phases import Phase
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.stores.wrapper import WrapperStore
from pend_storage.testing.databases import Databases
from pend_storage.testing.domain import SCHEMA, Tally, a_tally

from .watching import run

pytestmark = pytest.mark.timeout(120)

ROUND_TRIP = [*Phase, *reversed(Phase)][1:]
CLIENTS = 60
KEYS = 12


class KeptStore(WrapperStore):
    """Outlives the pair that it belongs to."""

    @override
    def close(self) -> None:
        pass


@pytest.fixture(params=["memory", "real"])
def pair(
    request: pytest.FixtureRequest, tmp_path: Path, databases: Databases
) -> Iterator[Callable[[], DualWriteStore]]:
    url = databases.lend(SCHEMA) if request.param == "real" else ""
    kept = [KeptStore(MemoryStore(SCHEMA)) for _ in range(2)]

    def open_pair() -> DualWriteStore:
        if not url:
            return DualWriteStore(json=kept[0], postgres=kept[1])
        return DualWriteStore(
            json=JsonStore(SCHEMA, tmp_path), postgres=PostgresStore(SCHEMA, url)
        )

    yield open_pair
    if url:
        databases.give_back(url)


class Crowd:
    """Clients that count their acknowledged increments."""

    def __init__(self, db: AsyncStore, seed: int) -> None:
        self._db = db
        self._random = random.Random(seed)
        self.told: Counter[str] = Counter()
        """Increments that certainly happened."""
        self.doubtful: Counter[str] = Counter()
        """Increments that were cancelled before their answer."""
        self.is_over = False

    async def client(self) -> None:
        while not self.is_over:
            key = f"{self._random.randrange(KEYS)}"
            task = asyncio.create_task(self._increment(key))
            if self._random.random() < 0.2:
                await asyncio.sleep(self._random.random() * 0.01)
                task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            if task.cancelled():
                self.doubtful[key] += 1
            else:
                self.told[key] += 1
            await asyncio.sleep(0)

    async def _increment(self, key: str) -> None:
        async def work(tx: AsyncTransaction) -> None:
            tallies = tx.collection(Tally)
            tally = await tallies.get(key) or a_tally(key)
            await tallies.put(a_tally(key, tally.value + 1))

        await self._db.run(work, attempts=1000)

    async def reader(self) -> None:
        """Monotonic reads: a counter does not go back."""
        seen: Counter[str] = Counter()
        while not self.is_over:
            found = await self._db.collection(Tally).get_many(map(str, range(KEYS)))
            for key, tally in found.items():
                assert tally.value >= seen[key]
                seen[key] = tally.value
            await asyncio.sleep(0.001)


def test_every_increment_is_counted_once_through_every_phase(
    pair: Callable[[], DualWriteStore],
) -> None:
    async def all_phases() -> Crowd:
        async with AsyncStore(pair()) as db:
            crowd = Crowd(db, seed=7)
            clients = [asyncio.create_task(crowd.client()) for _ in range(CLIENTS)]
            clients += [asyncio.create_task(crowd.reader()) for _ in range(3)]
            for phase in ROUND_TRIP:
                await asyncio.sleep(0.1)
                await db.switch(phase, accept=CODES)
                assert await db.phase() is phase
            crowd.is_over = True
            await asyncio.gather(*clients)
            return crowd

    crowd = run(all_phases)

    assert crowd.told.total() > 200
    assert crowd.doubtful.total() > 20
    with pair() as store:
        store.switch(Phase.PARALLEL, accept=CODES)
        store.catch_up()
        for side in (store._pair.json, store._pair.postgres):
            for key, tally in side.collection(Tally).get_many(told(crowd)).items():
                most = crowd.told[key] + crowd.doubtful[key]
                assert crowd.told[key] <= tally.value <= most
        assert contents(store._pair.json) == contents(store._pair.postgres)


def told(crowd: Crowd) -> list[str]:
    return list(crowd.told)


def contents(store: Store) -> list[Any]:
    return list(store.scan("tallies", deleted=True))
