"""Stores for the tests of whole-file verbs: every store, and a pair in each phase."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from pend_storage import DualWriteStore
from pend_storage.dualwrite import CODES
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.phases import Phase
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.postgres import PostgresStore

__all__ = [
    "ADDRESSES",
    "ANY",
    "ANY_TOO",
    "KINDS",
    "KYC",
    "LOGS",
    "SERVER_LOGS",
    "WALLETS",
    "Place",
]

ANY: Final = "consents-db.json"
"""An object or a list of anything."""
ANY_TOO: Final = "admin-pool-tiers.json"
SERVER_LOGS: Final = "server-logs.json"
"""An object around a list of anything."""
LOGS: Final = "admin-logs.json"
WALLETS: Final = "wallet-db.json"
KYC: Final = "uploads/kyc/metadata.json"
ADDRESSES: Final = {f"0x{n:064x}": f"0x{n:040x}" for n in range(1, 5)}

KINDS: Final = ("memory", "json", "postgres", *Phase)


class Place:
    """Data that can be opened any number of times, in any process."""

    def __init__(self, kind: str, directory: Path, url: str) -> None:
        self.kind = kind
        self.directory = directory
        self.url = url

    @classmethod
    def make(
        cls, kind: str, directory: Path, new_database: Callable[[Schema], str]
    ) -> Place:
        url = "" if kind in {"memory", "json"} else new_database(SCHEMA)
        return cls(kind, directory, url)

    def open(self) -> Store:
        """Another store of the same data; of ``memory``: of none."""
        if self.kind == "memory":
            return MemoryStore(SCHEMA, layouts=LAYOUTS)
        if self.kind == "json":
            return self._json()
        postgres = PostgresStore(SCHEMA, self.url, layouts=LAYOUTS)
        if self.kind == "postgres":
            return postgres
        return DualWriteStore(json=self._json(), postgres=postgres, relay_interval=0.05)

    def _json(self) -> JsonStore:
        return JsonStore(SCHEMA, self.directory, layouts=LAYOUTS)

    def open_first(self) -> Store:
        """The store, in the phase that its kind names."""
        store = self.open()
        if isinstance(store, DualWriteStore):
            store.switch(Phase(self.kind), accept=CODES)
        return store
