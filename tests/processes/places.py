"""Directory and stores of the processes of a test."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from pend_storage.backfill import backfill
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.errors import (
    ChangesExpired,
    PendStorageError,
    StaleEpoch,
    StoreUnavailable,
    SwitchRefused,
    SwitchTimeout,
)
from pend_storage.events import Event
from pend_storage.phases import Phase
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import SCHEMA
from pend_storage.validation import validate

__all__ = ["PATIENCE", "TALLIES", "Place", "go_to", "keep_trying"]

T = TypeVar("T")
PATIENCE: Final = 60.0
"""Seconds after which something is taken to hang; more than any call may take."""
TALLIES: Final = "tallies"


@dataclass(frozen=True)
class Place:
    """Two stores, and a directory for all that is not in them."""

    root: Path
    url: str
    """Of the database, by whatever line leads there."""
    canary: float = 0.0
    """Share of the keys whose reads the secondary answers."""

    @property
    def histories(self) -> Path:
        return self.root / "histories"

    def signal(self, name: str) -> Path:
        """A file by which the test signals all processes."""
        return self.root / name

    def json(self) -> JsonStore:
        return JsonStore(SCHEMA, self.root / "data", hook=_ignore)

    def postgres(self) -> PostgresStore:
        return PostgresStore(SCHEMA, self.url, pool_size=4, hook=_ignore)

    def open(
        self,
        *,
        wrap: Callable[[str, Store], Store] = lambda _, store: store,
        **settings: Any,
    ) -> DualWriteStore:
        """The pair; asked for again while the database is not there."""

        def opened() -> DualWriteStore:
            json, postgres = self.json(), self.postgres()
            try:
                return DualWriteStore(
                    json=wrap("json", json),
                    postgres=wrap("postgres", postgres),
                    backfill=backfill,
                    validate=validate,
                    hook=_ignore,
                    **{"secondary_timeout": 0.5, "canary": self.canary, **settings},
                )
            except BaseException:
                json.close()
                postgres.close()
                raise

        return keep_trying(opened, StoreUnavailable)


def _ignore(event: Event) -> None:
    """Discard events: outages are what these tests are about."""


def keep_trying(call: Callable[[], T], *errors: type[PendStorageError]) -> T:
    """Call again while it fails in one of these ways."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except errors:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def go_to(store: DualWriteStore, phase: Phase) -> None:
    """Switch as an operator would, who does not give up."""

    def switch() -> None:
        try:
            store.switch(phase, accept=CODES, timeout=20.0)
        except SwitchRefused as refused:
            if "backfill" not in dict(refused.blockers):
                raise
            store.backfill()
            raise

    keep_trying(
        switch,
        StoreUnavailable,
        StaleEpoch,
        SwitchTimeout,
        ChangesExpired,
        SwitchRefused,
    )
