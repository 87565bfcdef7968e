"""PostgresStore against other ways to reach the same rows."""

from __future__ import annotations

from typing import Final

from benchmarks.case import Aim, Case, Contender

__all__ = ["CASES"]

_OURS: Final = "PostgresStore"
_RAW: Final = "psycopg execute"
_POOL: Final = "psycopg_pool"
_CORE: Final = "SQLAlchemy Core"
_ORM: Final = "SQLAlchemy ORM"
_RECORDS: Final = 20_000
_QUICK: Final = 2_000


def _single(
    name: str, title: str, unit: str, verb: str, aims: dict[str, float]
) -> Case:
    extra = (
        "typed record, checked role"
        if verb == "gets"
        else "checked, versioned, with its row of the change log"
    )
    return Case(
        name=name,
        title=title,
        unit=unit,
        records=_RECORDS,
        quick_records=_QUICK,
        contenders=(
            Contender(_OURS, f"postgres_store:{verb}", extra),
            Contender(_RAW, f"psycopg_held:{verb}", "one held connection, autocommit"),
            Contender(_POOL, f"psycopg_pooled:{verb}", "pool of 20, autocommit"),
            Contender(_CORE, f"sqlalchemy_core:{verb}", "pooled, autocommit"),
            Contender(_ORM, f"sqlalchemy_orm:{verb}", "a session for each call"),
        ),
        aims=tuple(
            Aim(_OURS, base, aims.get(base)) for base in (_RAW, _POOL, _CORE, _ORM)
        ),
        text=(
            "The same thirteen typed columns with the same keys and indexes on both "
            "sides; one client, a Unix socket, fsync on."
        ),
    )


def _many(name: str, title: str, unit: str, verb: str, note: str) -> Case:
    return Case(
        name=name,
        title=title,
        unit=unit,
        records=_RECORDS,
        quick_records=_QUICK,
        contenders=(
            Contender(_OURS, f"postgres_store:{verb}"),
            Contender(_RAW, f"psycopg_held:{verb}", note),
        ),
        aims=(Aim(_OURS, _RAW),),
        text="A hundred records a call.",
    )


def _together(name: str, title: str, unit: str, verb: str) -> Case:
    return Case(
        name=name,
        title=title,
        unit=unit,
        records=_RECORDS,
        quick_records=_QUICK,
        contenders=(
            Contender(_OURS, f"postgres_store:{verb}", "16 threads"),
            Contender(_POOL, f"psycopg_pooled:{verb}", "16 threads, pool of 20"),
        ),
        aims=(Aim(_OURS, _POOL, 2.0),),
        text="One record a call, sixteen threads at the same time.",
    )


CASES: Final = (
    _single(
        "postgres-get",
        "Get from PostgreSQL",
        "gets",
        "gets",
        {_RAW: 1.5, _POOL: 2.0, _CORE: 3.0, _ORM: 10.0},
    ),
    _single("postgres-put", "Put into PostgreSQL", "puts", "puts", {_RAW: 1.2}),
    _together(
        "postgres-get-16", "Get from PostgreSQL in 16 threads", "gets", "gets_together"
    ),
    _together(
        "postgres-put-16", "Put into PostgreSQL in 16 threads", "puts", "puts_together"
    ),
    _many(
        "postgres-get-many",
        "Get a hundred from PostgreSQL",
        "calls",
        "gets_many",
        "= any, one held connection",
    ),
    _many(
        "postgres-put-many",
        "Put a hundred into PostgreSQL",
        "calls",
        "puts_many",
        "executemany in one transaction, one held connection",
    ),
)
