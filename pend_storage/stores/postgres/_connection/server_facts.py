"""What stands behind a connection: which server, which history, and in which state.

Facts belong to a connection and not to a process: the server behind an address may be
another one by now (a failover, a restore, a move), and no connection needs to break for it.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ProbeResult", "ServerFacts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What a connection found at its other end."""

    system: str
    """System identifier of the cluster, given by ``initdb``; empty where it is hidden."""
    timeline: str
    """Timeline of the cluster's history, which a promotion makes anew; or empty."""
    database: str
    """Object id of the database."""
    changes: str
    """Object id of the table of the change log; empty before a migration."""
    encoding: str
    """``server_encoding``."""
    isolation: str
    """The isolation level of a transaction that asks for none."""
    is_read_only: bool
    """Whether it refuses writes: a standby, or ``default_transaction_read_only``."""
    is_standby: bool
    """Whether it is in recovery."""

    @property
    def incarnation(self) -> str:
        """System identifier, timeline, database and change log, as one text."""
        return f"{self.system}/{self.timeline}/{self.database}/{self.changes}"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The facts, and what the database itself has noted."""

    facts: ServerFacts
    revision: bytes | None
    """What ``migrate()`` noted, as JSON; None if it never ran."""
    numbered_on: str | None
    """The incarnation on which numbers were given last."""
    added_by: str | None = None
    """The module of the newer program that has added to the schema, if one has."""
