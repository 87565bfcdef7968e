"""The table that everybody but PostgresStore uses: the same columns, rules and indexes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import Any, Final

import psycopg
from psycopg.types.json import Jsonb

from benchmarks.record import Account, accounts
from benchmarks.workbench import Workbench

__all__ = ["COLUMNS", "SELECT", "UPSERT", "account_table", "parameters"]

COLUMNS: Final = tuple(column.name for column in fields(Account))
_NAMES: Final = ", ".join(COLUMNS)
SELECT: Final = f"select {_NAMES} from accounts"
UPSERT: Final = (
    f"insert into accounts ({_NAMES}) "
    f"values ({', '.join(['%s'] * len(COLUMNS))}) on conflict (id) do update set "
    + ", ".join(f"{column} = excluded.{column}" for column in COLUMNS[1:])
)
_CREATE: Final = """
create table accounts (
    id text collate "C" primary key,
    phone_hash text collate "C" not null unique,
    address text collate "C" not null unique,
    tier bigint not null,
    status text collate "C" not null,
    verified boolean not null,
    balance numeric not null,
    score double precision not null,
    opened_at timestamptz not null,
    seen_at timestamptz not null,
    referrer text collate "C",
    profile jsonb not null,
    metadata jsonb not null
);
create index on accounts (tier);
create index on accounts (status, opened_at desc, id);
"""


def parameters(account: Account) -> tuple[Any, ...]:
    """The values of the upsert, wrapped as psycopg wants them."""
    values = asdict(account)
    values["profile"] = Jsonb(account.profile)
    values["metadata"] = Jsonb(account.metadata)
    return tuple(values.values())


@contextmanager
def account_table(bench: Workbench, records: int) -> Iterator[str]:
    """The URL of a database with a filled table ``accounts``."""
    with bench.database() as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_CREATE)
            with connection.cursor().copy(
                f"copy accounts ({_NAMES}) from stdin"
            ) as copy:
                for account in accounts(records):
                    copy.write_row(parameters(account))
            connection.execute("vacuum analyze accounts")
        yield url
