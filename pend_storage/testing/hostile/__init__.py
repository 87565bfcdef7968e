"""Servers that are exchanged behind their address while a pair of stores works with them.

A :class:`Plan` says which calls are made, and at which instant the server is exchanged for
another one. :func:`run` carries it out and judges: nothing that the surviving history has
acknowledged may be lost or overwritten in silence; what it lost itself must have been told;
the pair heals, or refuses and a vote leads out of it; the stores are equal at the end.
"""

from __future__ import annotations

from pend_storage.testing.hostile._address import Address, Manner, Wire
from pend_storage.testing.hostile._clusters import PostgresServers, Templates
from pend_storage.testing.hostile._driver import SCHEMA, Note
from pend_storage.testing.hostile._ledger import Contents
from pend_storage.testing.hostile._plans import Call, Plan, Step, Verb, plans
from pend_storage.testing.hostile._run import Verdict, run
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
