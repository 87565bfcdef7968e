"""Facts of a server: its identity, history and state, found over a connection.

Facts belong to a connection and not to a process: the server behind an address may be
another one by now (a failover, a restore, a move), and no connection needs to break for
it.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ProbeResult", "ServerFacts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """Identity and settings found by probing a connection."""

    system: str
    """System identifier of the cluster, assigned by ``initdb``; empty if hidden."""
    timeline: str
    """Timeline of the cluster's history, increased by each promotion; or empty."""
    database: str
    """Object id of the database."""
    changes: str
    """Object id of the change log's table; empty before a migration."""
    encoding: str
    """``server_encoding``."""
    isolation: str
    """``default_transaction_isolation``."""
    is_read_only: bool
    """Whether it refuses writes: a standby, or ``default_transaction_read_only``."""
    is_standby: bool
    """Whether it is in recovery."""

    @property
    def incarnation(self) -> str:
        """System identifier, timeline, database and change log as one text."""
        return f"{self.system}/{self.timeline}/{self.database}/{self.changes}"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Facts of the server, and the notes stored in the database itself."""

    facts: ServerFacts
    revision: bytes | None
    """Revision that ``migrate()`` stored, as JSON; None if it never ran."""
    numbered_on: str | None
    """Incarnation on which sequence numbers were last assigned."""
    added_by: str | None = None
    """Module of a newer program that has extended the schema; None if none has."""
