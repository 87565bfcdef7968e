"""Hostile server exchanges: servers replaced while a pair of stores works with them.

A :class:`Plan` lists the calls, and the instant at which the server behind the address
is exchanged for another one. :func:`run` executes it and checks the outcome: no write
that the surviving history has acknowledged may be lost or overwritten silently; lost
writes must be reported; the pair heals, or refuses and an election resolves it; the
stores are equal at the end.
"""

from __future__ import annotations

from pend_storage.testing.hostile._address import Address, Manner, Wire
from pend_storage.testing.hostile._clusters import PostgresServers, Templates
from pend_storage.testing.hostile._driver import SCHEMA, Note
from pend_storage.testing.hostile._ledger import Contents, Verdict
from pend_storage.testing.hostile._plans import Call, Plan, Step, Verb, plans
from pend_storage.testing.hostile._run import run
from pend_storage.testing.hostile._servers import Exchange, Servers

__all__ = [
    "SCHEMA",
    "Address",
    "Call",
    "Contents",
    "Exchange",
    "Manner",
    "Note",
    "Plan",
    "PostgresServers",
    "Servers",
    "Step",
    "Templates",
    "Verb",
    "Verdict",
    "Wire",
    "plans",
    "run",
]
