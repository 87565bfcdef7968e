"""The process that is soaked: a server of many clients over both stores."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg

from pend_storage import AsyncStore
from pend_storage.backfill import backfill
from pend_storage.dualwrite import CODES
from pend_storage.errors import (
    ChangesExpired,
    Conflict,
    PendStorageError,
    StaleEpoch,
    StoreUnavailable,
    SwitchRefused,
    SwitchTimeout,
)
from pend_storage.events import Event
from pend_storage.phases import Phase
from pend_storage.query import field as field_
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing import Report
from pend_storage.testing.domain import SCHEMA, Log, Tally, a_log, a_tally
from pend_storage.validation import validate

from .growth import Sample
from .leaky import Leak, LeakyStore

__all__ = ["PHASES", "Plan", "Verdict", "serve"]

PHASES: Final = (
    Phase.PARALLEL,
    Phase.POSTGRES_PRIMARY,
    Phase.POSTGRES_ONLY,
    Phase.POSTGRES_PRIMARY,
    Phase.PARALLEL,
    Phase.JSON_ONLY,
)
"""Again and again, from the beginning."""
_PURSES: Final = 20
_SHARED: Final = "shared"
_ATTEMPTS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Directory, duration and load of a run."""

    directory: Path
    url: str
    application: str
    """By which the connections of this process are known to the server."""
    seconds: float
    """At least: on a busy machine until there are enough samples and leaks."""
    between_samples: float
    between_phases: float
    clients: int = 200
    calls: float = 2.0
    """Of each client in a second, on average."""
    leaks: frozenset[Leak] = frozenset()
    """What the store leaks on purpose."""
    least_samples: int = 0
    least_leaks: Mapping[Leak, int] = field(default_factory=dict)

    @property
    def longest(self) -> float:
        """Seconds after which it ends in any case."""
        return self.seconds * 12


@dataclass(slots=True)
class Verdict:
    """Result of a run."""

    calls: dict[str, int] = field(default_factory=dict)
    """By what they did."""
    phases: int = 0
    """How many were entered."""
    conflicts: int = 0
    """Of transactions that met: as it should be."""
    errors: list[str] = field(default_factory=list)
    """What calls have failed with, other than that."""
    lost: list[str] = field(default_factory=list)
    """What was read, and what should have been there."""


def serve(report: Report, plan: Plan) -> None:
    """Serve for as long as the plan says; reports samples, and a verdict at the end."""
    logging.getLogger("pend_storage").setLevel(logging.CRITICAL)
    asyncio.run(_serve(report, plan))


async def _serve(report: Report, plan: Plan) -> None:
    verdict, stop = Verdict(), asyncio.Event()
    async with _opened(plan) as (db, store):
        await db.switch(PHASES[0], accept=CODES)
        purses = [a_tally(f"purse {n}", 100) for n in range(_PURSES)]
        await db.collection(Tally).put_many([*purses, a_tally(_SHARED, 0)])
        clients = [Client(db, number, verdict) for number in range(plan.clients)]
        for client in clients:
            await client.write()
        tasks = [
            asyncio.create_task(client.work(stop, plan.calls)) for client in clients
        ]
        taken: list[Sample] = []

        def take(sample: Sample) -> None:
            taken.append(sample)
            report(sample)

        others = [
            asyncio.create_task(_sample(take, plan, stop)),
            asyncio.create_task(_change_phases(db, plan, stop, verdict)),
        ]

        def is_enough() -> bool:
            leaks = plan.least_leaks.items()
            return len(taken) >= plan.least_samples and all(
                store.leaked[leak] >= least for leak, least in leaks
            )

        # A busy machine takes fewer samples in the same time: then it runs for longer.
        await asyncio.sleep(plan.seconds)
        end = time.monotonic() + plan.longest
        while not is_enough() and time.monotonic() < end:
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), plan.between_samples)
        stop.set()
        await asyncio.gather(*tasks, *others)
        # Compared in a phase with both stores, and with an empty change log.
        await _enter(db, Phase.PARALLEL)
        await db.catch_up()
        await _look_back(db, clients, verdict)
    report(verdict)


@asynccontextmanager
async def _opened(plan: Plan) -> AsyncIterator[tuple[AsyncStore, LeakyStore]]:
    store = LeakyStore(
        plan.leaks,
        plan.url,
        plan.application,
        asyncio.get_running_loop(),
        json=JsonStore(SCHEMA, plan.directory, hook=_ignore),
        postgres=PostgresStore(
            SCHEMA, plan.url, application_name=plan.application, hook=_ignore
        ),
        backfill=backfill,
        validate=validate,
        hook=_ignore,
    )
    async with AsyncStore(store) as db:
        yield db, store


def _ignore(event: Event) -> None:
    """Discard the events of many changes of phase."""


class Client:
    """One of many: it knows what it has written, and what it must therefore find."""

    def __init__(self, db: AsyncStore, number: int, verdict: Verdict) -> None:
        self.key = f"own {number}"
        self.acknowledged = 0
        self.tried = 0
        self.counted = 0
        self._db = db
        self._tallies = db.collection(Tally)
        self._verdict = verdict
        self._chance = random.Random(number)

    async def work(self, stop: asyncio.Event, calls: float) -> None:
        """Call at random moments until stopped."""
        works: dict[Callable[[], Awaitable[None]], int] = {
            self.write: 25,
            self.read: 35,
            self.move: 10,
            self.count: 10,
            self.search: 8,
            self.walk: 2,
            self.come_and_go: 5,
            self.give_up: 5,
        }
        while not stop.is_set():
            await asyncio.sleep(self._chance.expovariate(calls))
            (work,) = self._chance.choices(list(works), list(works.values()))
            try:
                await work()
            except Conflict:
                self._verdict.conflicts += 1
            except PendStorageError as error:
                self._verdict.errors.append(f"{work.__name__}: {error!r}")
            name = work.__name__
            self._verdict.calls[name] = self._verdict.calls.get(name, 0) + 1

    async def write(self) -> None:
        """Put the next value of its own record."""
        self.tried += 1
        wanted = self.tried
        await self._tallies.put(a_tally(self.key, wanted))
        self.acknowledged = wanted

    async def read(self) -> None:
        """Its own record must be what it has written, or tried to."""
        self.check(await self._tallies.get(self.key))

    def check(self, found: Tally | None) -> None:
        """Note it if an acknowledged write is not there."""
        value = -1 if found is None else found.value
        if not self.acknowledged <= value <= self.tried:
            self._verdict.lost.append(
                f"{self.key}: {value} not in {self.acknowledged}..{self.tried}"
            )

    async def move(self) -> None:
        """A transaction over two records whose sum stays."""
        one, other = self._chance.sample(range(_PURSES), 2)
        async with self._db.transaction() as tx:
            tallies = tx.collection(Tally)
            for number, change in ((one, -1), (other, 1)):
                purse = await tallies.get(f"purse {number}")
                assert purse is not None
                await tallies.put(replace(purse, value=purse.value + change))

    async def count(self) -> None:
        """Add to a counter that all clients share, until it succeeds."""

        async def add(tx: Any) -> None:
            tallies = tx.collection(Tally)
            shared = await tallies.get(_SHARED)
            await tallies.put(replace(shared, value=shared.value + 1))

        await self._db.run(add, attempts=_ATTEMPTS)
        self.counted += 1

    async def search(self) -> None:
        """A page, and a count."""
        least = field_("value") >= self._chance.randrange(50)
        page = await self._tallies.find(least, order_by=["-value"], limit=10)
        assert len(page.items) <= 10
        await self._tallies.count(least)

    async def walk(self) -> None:
        """Begin to scan, and go away in the middle."""
        seen = 0
        async for _ in self._tallies.scan():
            seen += 1
            if seen == 30:
                break

    async def come_and_go(self) -> None:
        """A record that is there for a moment only."""
        logs, key = self._db.collection(Log), f"log of {self.key}"
        await logs.put(a_log(key))
        await logs.delete(key)

    async def give_up(self) -> None:
        """Cancel a write in the middle: it has happened, or it has not."""
        writing = asyncio.create_task(self.write())
        await asyncio.sleep(self._chance.random() * 0.01)
        writing.cancel()
        with suppress(asyncio.CancelledError):
            await writing


async def _sample(report: Report, plan: Plan, stop: asyncio.Event) -> None:
    process = psutil.Process()
    with psycopg.connect(plan.url, autocommit=True) as watcher:
        while not stop.is_set():
            gc.collect()  # garbage that waits for its collection is not a leak
            tasks = len(asyncio.all_tasks())
            connections = await asyncio.to_thread(_connections, watcher, plan)
            values = {
                "resident MiB": process.memory_info().rss / 2**20,
                "open files": process.num_fds(),
                "connections": connections,
                "threads": process.num_threads(),
                "tasks": tasks,
            }
            report(Sample(time.monotonic(), values))
            await asyncio.sleep(plan.between_samples)


def _connections(watcher: psycopg.Connection, plan: Plan) -> int:
    row = watcher.execute(
        "select count(*) from pg_stat_activity where application_name = %s",
        [plan.application],
    ).fetchone()
    assert row is not None
    return int(row[0])


async def _change_phases(
    db: AsyncStore, plan: Plan, stop: asyncio.Event, verdict: Verdict
) -> None:
    for phase in islice(cycle(PHASES), 1, None):
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), plan.between_phases)
            return
        await _enter(db, phase)
        verdict.phases += 1


async def _enter(db: AsyncStore, phase: Phase) -> None:
    """Switch to a phase; backfill and retry where it is refused or interrupted."""
    for attempt in range(_ATTEMPTS):
        try:
            await db.switch(phase, accept=CODES, timeout=20.0)
        except SwitchRefused as refused:
            if "backfill" not in dict(refused.blockers):
                raise
            await db.backfill()
        except (StaleEpoch, SwitchTimeout, ChangesExpired, StoreUnavailable):
            if attempt == _ATTEMPTS - 1:
                raise
            await asyncio.sleep(0.5)
        else:
            return


async def _look_back(
    db: AsyncStore, clients: Sequence[Client], verdict: Verdict
) -> None:
    """Everything that was acknowledged must be there in the end."""
    found = {tally.name: tally async for tally in db.collection(Tally).scan()}
    for client in clients:
        client.check(found.get(client.key))
    purses = sum(found[f"purse {number}"].value for number in range(_PURSES))
    if purses != 100 * _PURSES:
        verdict.lost.append(f"purses: {purses}, not {100 * _PURSES}")
    counted = sum(client.counted for client in clients)
    if found[_SHARED].value != counted:
        verdict.lost.append(f"{_SHARED}: {found[_SHARED].value}, not {counted}")
