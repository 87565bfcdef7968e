"""256 merged commits of which some fail, each in its own way: every caller gets the truth."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import psycopg
import pytest

from pend_storage import AsyncStore
from pend_storage.errors import (
    Conflict,
    ReferenceViolation,
    StoreUnavailable,
    UniqueViolation,
)
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing import Proxy
from pend_storage.testing.databases import Databases
from pend_storage.testing.domain import (
    SCHEMA,
    Cargo,
    Log,
    Ship,
    a_cargo,
    a_log,
    a_ship,
)
from pend_storage.testing.servers import temporary_postgres

from .watching import WatchedStore, run, settled

CALLERS: Final = 256
UNIQUE, REFERENCE, CONFLICT, CANCELLED = 10, 20, 30, 40
LOCKED: Final = 200
"""Its key is locked by another session, so the transaction that writes it has to wait."""
Accident = Literal["none", "terminated", "cut"]


@dataclass(frozen=True)
class Company:
    """A store behind a line that can be cut, and another way to the same database."""

    line: Proxy
    store: WatchedStore
    direct: PostgresStore
    url: str


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    """On a server of their own, which listens where a line can be put before it."""
    with temporary_postgres(listen="127.0.0.1") as server:
        yield Databases(server.tcp_url)


@pytest.fixture
def company(databases: Databases) -> Iterator[Company]:
    url = databases.lend(SCHEMA)
    address = psycopg.conninfo.conninfo_to_dict(url)
    with (
        Proxy(str(address["host"]), int(str(address["port"]))) as line,
        PostgresStore(SCHEMA, url) as direct,
        PostgresStore(SCHEMA, line.through(url)) as inner,
    ):
        direct.collection(Ship).put(a_ship("s0", call_sign="ABC"))
        yield Company(line, WatchedStore(inner), direct, url)
    databases.give_back(url)


def wait_for(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(2000):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("it did not come")


def waiting(company: Company) -> list[int]:
    with psycopg.connect(company.url) as connection:
        found = connection.execute(
            "select pid from pg_stat_activity where wait_event_type = 'Lock'"
        )
        return [row[0] for row in found]


def was_ended(pid: int, holder: Any) -> bool:
    row = holder.execute("select pg_terminate_backend(%s, 5000)", [pid]).fetchone()
    return bool(row[0])


def have_an_accident(company: Company, accident: Accident, holder: Any) -> None:
    """While a transaction waits for a key that is held, its connection dies."""
    wait_for(lambda: len(waiting(company)) == 1)
    if accident == "terminated":
        wait_for(lambda: any(was_ended(pid, holder) for pid in waiting(company)))
    elif accident == "cut":
        company.line.stall("answers")
    holder.rollback()
    if accident == "cut":  # after the commit, before its answer
        wait_for(lambda: bool(company.direct.read("logs", [f"k{LOCKED}"])))
        company.line.cut()
        company.line.restore()


async def call_all(company: Company, accident: Accident) -> list[Any]:
    store = company.store
    async with AsyncStore(store) as db:
        logs = db.collection(Log)
        under_way = await store.occupy(db)
        calls: list[Any] = [logs.put(a_log(f"k{n}", f"{n}")) for n in range(CALLERS)]
        for n in (UNIQUE, REFERENCE, CONFLICT):
            calls[n].close()
        calls[UNIQUE] = db.collection(Ship).put(a_ship("s1", call_sign="ABC"))
        calls[REFERENCE] = db.collection(Cargo).put(a_cargo("c1", ship_id="absent"))
        calls[CONFLICT] = logs.put(a_log(f"k{CONFLICT}"), if_version=7)
        tasks = [asyncio.create_task(call) for call in calls]
        await settled()
        tasks[CANCELLED].cancel()
        with psycopg.connect(company.url) as holder:
            lock = f"hashtextextended('logs' || chr(1) || 'k{LOCKED}', 0)"
            holder.execute(f"select pg_advisory_xact_lock({lock})".encode())
            store.let_go()
            await asyncio.to_thread(have_an_accident, company, accident, holder)
        await asyncio.gather(*under_way)
        return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("accident", ["none", "terminated", "cut"])
def test_every_caller_gets_its_own_truth(company: Company, accident: Accident) -> None:
    answers = run(lambda: call_all(company, accident))

    under_way, merged = company.store.commits[:2], company.store.commits[2:]
    assert under_way == [1, 1]
    assert sum(merged) == CALLERS - 1  # all but the cancelled one
    assert len(merged) <= 2
    expected = {
        UNIQUE: UniqueViolation,
        REFERENCE: ReferenceViolation,
        CONFLICT: Conflict,
        CANCELLED: asyncio.CancelledError,
    }
    stored = company.direct.read("logs", [f"k{n}" for n in range(CALLERS)])
    in_doubt = []
    for n, answer in enumerate(answers):
        if n in expected:
            assert type(answer) is expected[n]
            assert f"k{n}" not in stored
        elif isinstance(answer, StoreUnavailable):
            assert not answer.outcome_known
            in_doubt.append(n)
        else:
            assert stored[f"k{n}"] == (f"k{n}", answer, a_log(f"k{n}", f"{n}"))
    assert company.direct.collection(Ship).get("s1") is None
    assert company.direct.collection(Cargo).get("c1") is None
    # What the server itself gave up is done again, and what was written when the line was
    # cut is asked for under its token.
    assert in_doubt == []
    written = [
        record for change in company.direct.changes() for record in change.records
    ]
    versions = [record.version for record in written if record.collection == "logs"]
    assert len(versions) == len(set(versions)) == len(stored) + 2
