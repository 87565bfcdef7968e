"""Blocking sessions: monitors which sessions hold up a migration."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from typing_extensions import override

from pend_storage.errors import PendStorageError
from pend_storage.stores.postgres._connection.connector import Connector
from pend_storage.stores.postgres._connection.own_names import EQ
from pend_storage.stores.postgres._connection.server_errors import ConnectionLost

__all__ = ["BlockingSessionMonitor"]

_FIRST_POLL: Final = 0.3
_INTERVAL: Final = 0.2
# No text of queries: it may hold values.
_BLOCKING: Final = f"""
select p.pid, a.usename, a.application_name, a.state,
       pg_catalog.to_char(pg_catalog.timezone('UTC'::text, a.query_start),
                          'HH24:MI:SS "UTC"'::text)
from (select distinct b.pid
        from pg_catalog.unnest(pg_catalog.pg_blocking_pids(%s::integer)) as b (pid)) as p
left join pg_catalog.pg_stat_activity as a on a.pid {EQ} p.pid order by p.pid"""


class BlockingSessionMonitor:
    """Polls from another connection, because a waiting session cannot ask."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self.seen: tuple[str, ...] = ()
        """Sessions that blocked at the last poll: process id, user, application, and
        the start of their statement.
        """

    @contextmanager
    def monitoring(self, pid: int) -> Iterator[None]:
        """Monitor the session with this process id during the block."""
        done = threading.Event()
        thread = threading.Thread(
            target=self._poll,
            args=(pid, done),
            name="pend-storage-blockers",
            daemon=True,
        )
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _poll(self, pid: int, done: threading.Event) -> None:
        if done.wait(_FIRST_POLL):
            return
        try:
            with self._connector.open().detach() as connection:
                while not done.wait(_INTERVAL):
                    found = connection.execute(_BLOCKING.encode(), (pid,)).fetchall()
                    if found:
                        self.seen = tuple(map(_describe, found))
                        """Sessions that blocked at the last poll: process id, user,
                        application, and the start of their statement.
                        """
        except (ConnectionLost, PendStorageError, psycopg.Error):
            return  # naming the sessions is optional

    @override
    def __str__(self) -> str:
        """Blocking sessions in one line."""
        return "; ".join(self.seen) or "a session that was not seen"


def _describe(row: tuple[Any, ...]) -> str:
    pid, user, application, state, since = row
    if pid == 0:
        return "a prepared transaction (see pg_prepared_xacts)"
    facts = [
        f"user {user}" if user else "",
        f"application {application!r}" if application else "",
        str(state or ""),
        f"statement begun {since}" if since else "",
    ]
    return f"process {pid} ({', '.join(filter(None, facts))})"
