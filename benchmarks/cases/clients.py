"""AsyncStore under many clients, against what asyncio servers use otherwise."""

from __future__ import annotations

from typing import Final

from benchmarks.case import Aim, Case, Contender, Traffic
from pend_storage.phases import Phase

__all__ = ["CASES"]

_OURS: Final = "AsyncStore"
_OURS_UVLOOP: Final = "AsyncStore, uvloop"
_PARALLEL: Final = "both stores, JSON first"
_BACK: Final = "both stores, PostgreSQL first"
_ASYNCPG: Final = "asyncpg"
_NO_RESET: Final = "asyncpg, no reset"
_NO_RESET_UVLOOP: Final = "asyncpg, no reset, uvloop"
_HELD: Final = "asyncpg, held connection"
_PSYCOPG: Final = "psycopg async pool"
_THREADS: Final = "psycopg pool, to_thread"
_CORE: Final = "SQLAlchemy async"
_DIRECT: Final = "PostgresStore itself"
_STORE_THREADS: Final = "PostgresStore, to_thread"

_P50: Final = "p50 ms"
_P95: Final = "p95 ms"
_SERIES: Final = "clients"
_RECORDS: Final = 20_000
_QUICK: Final = 2_000

_ALL: Final = {
    each.name: each
    for each in (
        Contender(_OURS, "async_store:postgres_clients", "over PostgresStore; typed"),
        Contender(
            _OURS_UVLOOP,
            "async_store:postgres_clients",
            "over PostgresStore; typed",
            {"uvloop": True},
        ),
        Contender(
            _PARALLEL,
            "async_store:dual_clients",
            "AsyncStore over DualWriteStore, parallel",
            {"phase": Phase.PARALLEL},
        ),
        Contender(
            _BACK,
            "async_store:dual_clients",
            "AsyncStore over DualWriteStore, postgres-primary",
            {"phase": Phase.POSTGRES_PRIMARY},
        ),
        Contender(_DIRECT, "async_store:direct_clients", "the loop waits for it"),
        Contender(_STORE_THREADS, "async_store:threaded_clients", "20 threads"),
        Contender(
            _HELD, "asyncpg_clients:held_clients", "of its pool; one for the whole time"
        ),
        Contender(
            _ASYNCPG,
            "asyncpg_clients:pooled_clients",
            "pool of 20, as it comes: resets a connection that is given back",
        ),
        Contender(
            _NO_RESET,
            "asyncpg_clients:pooled_clients",
            "pool of 20, the reset query taken out",
            {"reset": False},
        ),
        Contender(
            _NO_RESET_UVLOOP,
            "asyncpg_clients:pooled_clients",
            "pool of 20, the reset query taken out",
            {"reset": False, "uvloop": True},
        ),
        Contender(
            _PSYCOPG,
            "psycopg_clients:pooled_clients",
            "AsyncConnectionPool of 20, autocommit",
        ),
        Contender(
            _THREADS,
            "psycopg_clients:threaded_clients",
            "ConnectionPool of 20, 20 threads, autocommit",
        ),
        Contender(
            _CORE,
            "sqlalchemy_clients:pooled_clients",
            "Core over asyncpg, pool of 20, autocommit",
        ),
    )
}
_EVERYBODY: Final = (
    _OURS,
    _PARALLEL,
    _BACK,
    _ASYNCPG,
    _NO_RESET,
    _PSYCOPG,
    _THREADS,
    _CORE,
)
_SOME: Final = (_OURS, _ASYNCPG, _NO_RESET, _THREADS)
_CLOSED: Final = (
    "Each client makes its next call as soon as the one before is answered."
)
_EQUAL_WORK: Final = (
    "A get gives the record as Python values, a put is one record that is durable when "
    "the call is answered."
)


def _case(
    name: str,
    title: str,
    *,
    contenders: tuple[str, ...],
    aims: tuple[Aim, ...],
    traffic: Traffic,
    text: str,
    quick: bool = False,
    series: str = "",
) -> Case:
    return Case(
        name=name,
        title=title,
        unit="calls",
        records=_RECORDS,
        quick_records=_QUICK,
        contenders=tuple(_ALL[each] for each in contenders),
        aims=aims,
        most_rounds=7,
        most_quick_rounds=1,
        warm_up=False,
        memory=False,
        quick=quick,
        traffic=traffic,
        series=series,
        text=f"{text} {_EQUAL_WORK}",
    )


def _mixed(
    clients: int, contenders: tuple[str, ...], aims: tuple[Aim, ...], *, quick: bool
) -> Case:
    return _case(
        f"{_SERIES}-{clients}",
        f"{clients:,} clients, nine gets to a put"
        if clients > 1
        else "One client, nine gets to a put",
        contenders=contenders,
        aims=aims,
        traffic=Traffic(clients=clients, writes=0.1),
        text=_CLOSED,
        quick=quick,
        series=_SERIES,
    )


def _against(*bases: str) -> tuple[Aim, ...]:
    return tuple(Aim(_OURS, base) for base in bases)


_ALONE: Final = (
    _OURS,
    _DIRECT,
    _STORE_THREADS,
    _HELD,
    _ASYNCPG,
    _NO_RESET,
    _THREADS,
)
_ALONE_AIMS: Final = (
    *(Aim(_OURS, base, 0.9) for base in (_HELD, _STORE_THREADS, _DIRECT)),
    *_against(_ASYNCPG, _NO_RESET),
)

CASES: Final = (
    _mixed(1, _ALONE, _ALONE_AIMS, quick=True),
    _case(
        "clients-1-gets",
        "One client, gets only",
        contenders=_ALONE,
        aims=_ALONE_AIMS,
        traffic=Traffic(clients=1, writes=0.0),
        text=_CLOSED,
    ),
    _mixed(10, _SOME, _against(_ASYNCPG, _NO_RESET), quick=False),
    _mixed(100, _SOME, _against(_ASYNCPG, _NO_RESET), quick=False),
    _mixed(
        1_000,
        (*_EVERYBODY, _OURS_UVLOOP, _NO_RESET_UVLOOP),
        (
            Aim(_OURS, _ASYNCPG, 6.0),
            Aim(_OURS, _NO_RESET, 4.0),
            Aim(_OURS_UVLOOP, _NO_RESET_UVLOOP),
            *_against(_PSYCOPG, _THREADS, _CORE),
            Aim(_OURS, None, 50.0, _P95),
            Aim(_PARALLEL, _OURS, 0.5),
            Aim(_BACK, _OURS, 0.5),
        ),
        quick=True,
    ),
    _mixed(5_000, _SOME, _against(_ASYNCPG, _NO_RESET), quick=False),
    _case(
        "clients-puts",
        "1,000 clients, puts only",
        contenders=_EVERYBODY,
        aims=(
            Aim(_OURS, _ASYNCPG, 5.0),
            *_against(_NO_RESET, _PSYCOPG, _THREADS, _CORE),
            Aim(_PARALLEL, _OURS, 0.5),
            Aim(_BACK, _OURS, 0.5),
        ),
        traffic=Traffic(clients=1_000, writes=1.0),
        text=_CLOSED,
        quick=True,
    ),
    _case(
        "clients-gets",
        "1,000 clients, gets only",
        contenders=_EVERYBODY,
        aims=_against(_ASYNCPG, _NO_RESET, _PSYCOPG, _THREADS, _CORE),
        traffic=Traffic(clients=1_000, writes=0.0),
        text=_CLOSED,
    ),
    _case(
        "clients-paced",
        "1,000 clients that are not in a hurry",
        contenders=(_OURS, _ASYNCPG, _NO_RESET, _PSYCOPG, _THREADS),
        aims=(
            Aim(_OURS, _NO_RESET, 1.0, _P50),
            Aim(_OURS, _NO_RESET, 1.0, _P95),
            Aim(_OURS, _ASYNCPG, None, _P50),
            Aim(_OURS, _ASYNCPG, None, _P95),
        ),
        traffic=Traffic(clients=1_000, writes=0.1, offered=1_000.0),
        text="A thousand calls a second by all of them together, nine gets to a put: what "
        "every contender can do. The wait counts from the moment a call is due.",
        quick=True,
    ),
)
