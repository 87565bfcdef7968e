"""SQLAlchemy Core: statements built once, a connection of its pool at each call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, insert

from benchmarks.contenders.account_table import account_table
from benchmarks.measure import Slice, rate_of
from benchmarks.record import revisions, shuffled
from benchmarks.workbench import Workbench

__all__ = ["BY_KEY", "TABLE", "UPSERT", "engine", "gets", "puts"]

TABLE: Final = sa.Table(
    "accounts",
    sa.MetaData(),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("phone_hash", sa.Text),
    sa.Column("address", sa.Text),
    sa.Column("tier", sa.BigInteger),
    sa.Column("status", sa.Text),
    sa.Column("verified", sa.Boolean),
    sa.Column("balance", sa.Numeric),
    sa.Column("score", sa.Double),
    sa.Column("opened_at", sa.DateTime(timezone=True)),
    sa.Column("seen_at", sa.DateTime(timezone=True)),
    sa.Column("referrer", sa.Text),
    sa.Column("profile", JSONB),
    sa.Column("metadata", JSONB),
)
BY_KEY: Final = sa.select(TABLE).where(TABLE.c.id == sa.bindparam("key"))
_NEW: Final = insert(TABLE)
UPSERT: Final = _NEW.on_conflict_do_update(
    index_elements=["id"],
    set_={c.name: _NEW.excluded[c.name] for c in TABLE.c if c.name != "id"},
)


@contextmanager
def engine(bench: Workbench, records: int, **options: Any) -> Iterator[sa.Engine]:
    """An engine over a filled table."""
    with account_table(bench, records) as url:
        made = sa.create_engine(sa.make_url(url), **options)
        try:
            yield made
        finally:
            made.dispose()


@contextmanager
def gets(bench: Workbench, records: int) -> Iterator[Slice]:
    """One select by key, in autocommit mode."""
    keys = [account.id for account in shuffled(records)]
    with engine(bench, records, isolation_level="AUTOCOMMIT") as source:

        def get(number: int) -> object:
            with source.connect() as connection:
                wanted = {"key": keys[number % len(keys)]}
                return connection.execute(BY_KEY, wanted).one_or_none()

        yield rate_of(get, bench.plan.seconds)


@contextmanager
def puts(bench: Workbench, records: int) -> Iterator[Slice]:
    """One upsert, in autocommit mode."""
    rows = [asdict(account) for account in revisions(records)]
    with engine(bench, records, isolation_level="AUTOCOMMIT") as source:

        def put(number: int) -> None:
            with source.connect() as connection:
                connection.execute(UPSERT, rows[number % len(rows)])

        yield rate_of(put, bench.plan.seconds)
