"""A migration does not block readers and writers while it waits for a lock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

import pend_storage as ps
from pend_storage.errors import StoreUnavailable
from pend_storage.events import Event
from pend_storage.schema import Schema
from pend_storage.stores.postgres import PostgresStore

REPORT = "quarterly report"


@dataclass(frozen=True)
class User:
    id: str
    name: str = ""


@dataclass(frozen=True)
class Wider:
    id: str
    name: str = ""
    nick: str | None = None


@dataclass(frozen=True)
class Note:
    id: str
    owner: str | None = None


def schema(user: type) -> Schema:
    return Schema(
        [
            ps.collection("users", user),
            ps.collection("notes", Note, references={"owner": "users"}),
        ]
    )


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    with PostgresStore(schema(User), postgres_url) as store:
        store.migrate()
        store.collection(User).put(User("u"))
        yield store


@contextmanager
def reader(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A session that has read users, and has not ended its transaction."""
    with psycopg.connect(url, application_name=REPORT) as connection:
        connection.execute("select count(*), 'secret value' from users")
        yield connection


def timed(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def test_others_go_on_while_a_migration_waits_for_a_reader(
    store: PostgresStore, postgres_url: str
) -> None:
    events: list[Event] = []
    users, notes = store.collection(User), store.collection(Note)
    with PostgresStore(schema(Wider), postgres_url, hook=events.append) as newer:
        migration = threading.Thread(target=newer.migrate)
        with reader(postgres_url):
            migration.start()
            longest = 0.0
            until = time.monotonic() + 6
            while time.monotonic() < until:
                for call in (
                    lambda: users.get("u"),
                    lambda: users.put(User("u", "z")),
                    lambda: notes.put(Note("n", "u")),
                ):
                    longest = max(longest, timed(call))
            assert migration.is_alive()
        migration.join(20)
        assert not migration.is_alive()

        assert longest < 3
        assert newer.inspect().is_current
        assert newer.collection(Wider).get("u") == Wider("u", "z")
    waits = [event for event in events if event.name == "migration-waits"]
    assert len(waits) == 1
    assert REPORT in waits[0].message
    assert "secret value" not in waits[0].message


def test_who_is_in_the_way_is_named_when_the_time_is_over(
    store: PostgresStore, postgres_url: str
) -> None:
    with (
        PostgresStore(schema(Wider), postgres_url) as newer,
        reader(postgres_url) as connection,
    ):
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=REPORT) as told:
            newer.migrate(wait=1.5)

        assert time.monotonic() - began < 6
        assert f"process {connection.info.backend_pid} " in str(told.value)
        assert f"user {connection.info.user}" in str(told.value)
        assert "--wait" in str(told.value)
        assert "secret value" not in str(told.value)
        assert told.value.outcome_known
    assert store.inspect().is_current  # nothing was changed


def test_another_migration_is_waited_for_and_named(
    store: PostgresStore, postgres_url: str
) -> None:
    with psycopg.connect(postgres_url, application_name="other migration") as other:
        other.execute("lock table pend_storage_revision in share update exclusive mode")
        with pytest.raises(StoreUnavailable, match="other migration"):
            store.migrate(wait=1.5)
        threading.Timer(1.0, other.rollback).start()
        store.migrate(wait=20)
