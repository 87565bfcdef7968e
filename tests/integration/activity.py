"""Activity of a database, seen from outside of the store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import psycopg
import pytest

__all__ = ["UNDER_TEST", "run", "sessions", "wait_until", "waiting"]

UNDER_TEST: Final = "under test"
"""Application name of the store that is watched."""
_SESSIONS: Final = (
    f"select pid from pg_stat_activity where application_name = '{UNDER_TEST}' "
    "and datname = current_database()"
)


def run(url: str, statement: str, *values: object) -> list[Any]:
    """Run a statement on a connection of its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


def sessions(url: str) -> list[int]:
    """Process ids of the store's sessions."""
    return [row[0] for row in run(url, _SESSIONS)]


def waiting(url: str) -> list[int]:
    """Process ids of the store's sessions that wait for a lock."""
    return [row[0] for row in run(url, f"{_SESSIONS} and wait_event_type = 'Lock'")]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait ten seconds for something at most."""
    pause = threading.Event()
    for _ in range(1000):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail(f"{what} did not come")
