"""Facts about the database server, asked over a connection of their own."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg

from pend_storage.config import PostgresSettings
from pend_storage.stores.postgres import connect_error

__all__ = ["ServerFacts", "server_facts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What a database server says about itself."""

    version: str
    major: int
    encoding: str
    read_only: bool
    """Whether it refuses writes."""
    database: str
    user: str
    size: int
    """Bytes on disk."""
    latency: float
    """Seconds of a round trip, the shortest of a few."""
    clock_ahead: float
    """Seconds by which its clock is ahead of this machine's, give or take the latency."""
    pooled: bool
    """Whether a connection pooler stands between: it makes up process ids."""
    max_connections: int
    has_trigrams: bool
    """Whether the extension for searching parts of texts can be had."""


def server_facts(settings: PostgresSettings) -> ServerFacts:
    """Connect and ask.

    Raises:
        StoreUnavailable: the server cannot be reached, or does not let this user in.
        ConfigError: the address is wrong by itself.
    """
    try:
        with psycopg.connect(
            settings.full_url,
            autocommit=True,
            connect_timeout=math.ceil(settings.connect_timeout),
            prepare_threshold=None,
            application_name="pend_storage doctor",
        ) as connection:
            return _ask(connection)
    except psycopg.Error as error:
        raise connect_error(error, settings.shown_url) from None


def _ask(connection: psycopg.Connection[Any]) -> ServerFacts:
    def one(query: LiteralString) -> Any:
        row = connection.execute(query).fetchone()
        return None if row is None else row[0]

    latency, ahead = math.inf, 0.0
    for _ in range(5):
        started, here = time.monotonic(), datetime.now(UTC)
        there = one("select clock_timestamp()")
        took = time.monotonic() - started
        if took < latency:
            latency, ahead = took, (there - here).total_seconds() - took / 2
    version = connection.info.server_version
    return ServerFacts(
        version=one("show server_version"),
        major=version // 10_000,
        encoding=one("show server_encoding"),
        read_only=one("show transaction_read_only") == "on",
        database=one("select current_database()"),
        user=one("select current_user"),
        size=one("select pg_database_size(current_database())"),
        latency=latency,
        clock_ahead=ahead,
        pooled=one("select pg_backend_pid()") != connection.info.backend_pid,
        max_connections=int(one("show max_connections")),
        has_trigrams=bool(
            one("select count(*) from pg_available_extensions where name = 'pg_trgm'")
        ),
    )
