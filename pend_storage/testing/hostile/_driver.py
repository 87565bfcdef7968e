"""Driver of a run: a process with a pair of stores, its calls and their outcomes."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pend_storage._model.records import Change
from pend_storage.backfill import backfill
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.errors import (
    LockTimeout,
    PendStorageError,
    StaleEpoch,
    StoreUnavailable,
    SwitchTimeout,
)
from pend_storage.events import Event
from pend_storage.phases import Phase
from pend_storage.schema import Schema, collection
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.testing.faults import FaultyStore
from pend_storage.testing.hostile._ledger import Contents, Fate, Ledger, Write
from pend_storage.testing.hostile._plans import Call, Plan, Verb
from pend_storage.testing.hostile._servers import Servers
from pend_storage.validation import validate

__all__ = [
    "PASSING",
    "SCHEMA",
    "SUM",
    "Driver",
    "Note",
    "contents_of",
    "rows_of",
    "spread",
    "written_in",
]

SUM: Final = "sum"
"""Key of the note whose text grows by one word with each addition."""
PASSING: Final = (StoreUnavailable, LockTimeout, StaleEpoch, SwitchTimeout)
"""Errors of an outage: the same call succeeds later."""
_OUTAGES: Final = frozenset({"secondary-down", "secondary-up"})
_PATIENCE: Final = 5.0
_HANG_TIMEOUT: Final = 45.0
"""Seconds after which a call counts as hung."""
_MANY: Final = 300
"""Records of each commit that is made while the secondary is unreachable."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """Record of a run: a key and a text."""

    id: str
    text: str = ""


SCHEMA: Final = Schema([collection("notes", Note)])


def spread(contents: Contents) -> Contents:
    """Split the sum, so that each of its words is a key of its own."""
    words = Counter((contents.get(SUM) or "").split())
    rest = {key: text for key, text in contents.items() if key != SUM}
    return rest | {f"{SUM} {word}": " ".join([word] * n) for word, n in words.items()}


def written_in(change: Change) -> set[tuple[str, str | None]]:
    """Return keys and texts of one commit."""
    written: set[tuple[str, str | None]] = set()
    for record in change.records:
        if record.collection == "notes":
            if record.record is None:
                written.add((record.key, None))
            else:
                written |= set(spread({record.key: record.record.text}).items())
    return written


def rows_of(store: Store) -> dict[str, tuple[int, str]]:
    """Return version and text of each note in a store, by key."""
    return {
        row.key: (row.version, row.record.text)
        for row in store.scan("notes")
        if row.record is not None
    }


def contents_of(store: Store) -> Contents:
    """Return the contents of a store, with the words of the sum spread."""
    return spread({key: text for key, (_, text) in rows_of(store).items()})


class Driver:
    """Makes calls on a pair, and records their outcomes in the ledger."""

    def __init__(
        self, servers: Servers, directory: Path, plan: Plan, ledger: Ledger
    ) -> None:
        self._servers = servers
        self.directory = directory
        self._plan = plan
        self.ledger = ledger
        self.events: list[Event] = []
        self.errors: list[PendStorageError] = []
        """Errors of calls since the exchange, without outages."""
        self.hung: list[str] = []
        self.open()

    # -- the pair -----------------------------------------------------------------------

    def open(self) -> None:
        """Open the stores and the pair, as a new process does.

        Raises:
            PendStorageError: the pair refuses to be opened.
        """
        self.json: Store = self.open_json()
        self.postgres: Store = self.open_postgres()
        # Between pair and store: cuts the JSON store off, as an address does a server.
        self._line = FaultyStore(self.json)
        try:
            self.pair: DualWriteStore = DualWriteStore(
                json=self._line,
                postgres=self.postgres,
                compare=0.0,
                switch_patience=_PATIENCE,
                relay_interval=0.05 if self._plan.relays else None,
                backfill=backfill,
                validate=validate,
                hook=self._record_event,
            )
        except BaseException:
            self.json.close()
            self.postgres.close()
            raise

    def open_json(self) -> Store:
        """Open the JSON store on its own."""
        return JsonStore(
            SCHEMA, self.directory, checkpoint_interval=None, hook=self._record_event
        )

    def open_postgres(self) -> Store:
        """Open the store behind the address on its own."""
        pooled = self._plan.manner.name == "MOVED"
        return self._servers.open(SCHEMA, pooled=pooled, hook=self._record_event)

    def close(self) -> None:
        """Close the pair, as the process ends; harmless to repeat."""
        self.pair.close()

    def _record_event(self, event: Event) -> None:
        if self.ledger.is_exchanged:
            self.events.append(event)

    @property
    def reported(self) -> list[str]:
        """Names of events and errors since the exchange, without outages."""
        events = {
            event.name
            for event in self.events
            if event.level >= logging.WARNING or event.name == "server-changed"
        }
        errors = {type(error).__name__ for error in self.errors}
        return sorted(events - _OUTAGES | errors)

    # -- calls ----------------------------------------------------------------------------

    def call(self, call: Call) -> None:
        """Make one call, and record its outcome."""
        notes = self.pair.collection(Note)
        match call.verb:
            case Verb.PUT:
                self._put([call.key], lambda records: [notes.put(records[0])])
            case Verb.PUT_MANY:
                keys = [f"{call.key}{n}" for n in range(call.size)]
                self._put(keys, notes.put_many)
            case Verb.DELETE:
                write = self.ledger.begin(call.key, None)
                self._attempt([write], lambda: notes.delete(call.key))
            case Verb.ADD:
                self._add()
            case Verb.AWAY:
                self._attempt([], lambda: self._write_unreachable(call.size))
            case Verb.GET:
                self._attempt([], lambda: notes.get(call.key))
            case Verb.SWITCH:
                assert call.phase is not None
                self._attempt([], lambda: self.switch(call.phase))
            case Verb.VALIDATE | Verb.BACKFILL:
                self._attempt([], lambda: self._has_secondary() and self._do(call.verb))
            case _:
                self._attempt([], lambda: self._do(call.verb))

    def _do(self, verb: Verb) -> Any:
        return getattr(self.pair, verb.value)()

    def _has_secondary(self) -> bool:
        """Return True if there is a secondary.

        Without one the call is refused, which says nothing about the exchange.
        """
        return self.pair.phase in {Phase.PARALLEL, Phase.POSTGRES_PRIMARY}

    def switch(self, phase: Phase | None) -> None:
        """Change the phase, and accept every blocker that can be accepted.

        Raises: as ``DualWriteStore.switch``.
        """
        assert phase is not None
        self.pair.switch(phase, accept=CODES, timeout=10.0)

    def _put(self, keys: list[str], put: Callable[[list[Note]], list[int]]) -> None:
        records = [Note(id=key, text=self.ledger.text()) for key in keys]
        writes = [self.ledger.begin(note.id, note.text) for note in records]
        self._attempt(writes, lambda: put(records))

    def _add(self) -> None:
        word = self.ledger.text()
        write = self.ledger.begin(f"{SUM} {word}", word)

        def add(transaction: Any) -> None:
            notes = transaction.collection(Note)
            known = notes.get(SUM) or Note(id=SUM)
            notes.put(Note(id=SUM, text=f"{known.text} {word}".strip()))

        self._attempt([write], lambda: self.pair.run(add))

    def _write_unreachable(self, commits: int) -> None:
        """Make commits that the secondary misses until it reads the change log."""
        is_json = self.pair.phase is Phase.POSTGRES_PRIMARY
        if is_json:
            self._line.fail("apply", times=None)
        else:
            self._servers.address.cut()
        try:
            for n in range(commits):
                self.call(Call(Verb.PUT_MANY, f"away{n}-", _MANY))
        finally:
            if is_json:
                self._line.heal()
            else:
                self._servers.address.restore()

    def _attempt(self, writes: list[Write], make: Callable[[], Any]) -> None:
        # Recorded before the call: a write whose answer is lost may have happened.
        self.ledger.counts["calls"] += 1
        started = time.monotonic()
        fate, versions = Fate.REFUSED, None
        try:
            versions = make()
            fate = Fate.DONE
        except StoreUnavailable as error:
            # Without a known outcome the write may be found later, or never.
            fate = Fate.REFUSED if error.outcome_known else Fate.OPEN
            self.ledger.counts["unavailable"] += 1
        except PASSING:
            self.ledger.counts["refused"] += 1
        except PendStorageError as error:
            self.ledger.counts["refused"] += 1
            if self.ledger.is_exchanged:
                self.errors.append(error)
        if time.monotonic() - started > _HANG_TIMEOUT:
            self.hung.append(f"a call took {time.monotonic() - started:.0f} s")
        given = versions if isinstance(versions, list) else [0] * len(writes)
        for write, version in zip(writes, given, strict=True):
            self.ledger.settle(write, fate, version)
        if writes:
            self.ledger.counts[fate.value] += 1
