"""One process of a run: a pair of stores, its calls, and what they told."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

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

__all__ = ["PASSING", "SCHEMA", "SUM", "Driver", "Note", "spread"]

SUM: Final = "sum"
"""Key of the note whose text grows by one word with each addition."""
PASSING: Final = (StoreUnavailable, LockTimeout, StaleEpoch, SwitchTimeout)
"""What a call may say of an outage: repeated later, it succeeds."""
_OUTAGES: Final = frozenset({"secondary-down", "secondary-up"})
_PATIENCE: Final = 5.0
_HUNG: Final = 45.0
"""Seconds after which a call is taken to hang."""
_MANY: Final = 300
"""Records of each commit that is made while the secondary is out of reach."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """What runs write."""

    id: str
    text: str = ""


SCHEMA: Final = Schema([collection("notes", Note)])


def spread(contents: Contents) -> Contents:
    """The contents with each word of the sum under a key of its own."""
    words = Counter((contents.get(SUM) or "").split())
    rest = {key: text for key, text in contents.items() if key != SUM}
    return rest | {f"{SUM} {word}": " ".join([word] * n) for word, n in words.items()}


class Driver:
    """Makes calls, and notes what became of them."""

    def __init__(
        self, servers: Servers, directory: Path, plan: Plan, ledger: Ledger
    ) -> None:
        self._servers = servers
        self.directory = directory
        self._plan = plan
        self.ledger = ledger
        self.events: list[Event] = []
        self.errors: list[PendStorageError] = []
        """What calls said since the exchange, outages left out."""
        self.hung: list[str] = []
        self.open()

    # -- the pair -----------------------------------------------------------------------

    def open(self) -> None:
        """Be a new process.

        Raises:
            PendStorageError: the pair refuses to be opened.
        """
        self.json: Store = self.open_json()
        self.postgres: Store = self.open_postgres()
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
                hook=self._hear,
            )
        except BaseException:
            self.json.close()
            self.postgres.close()
            raise

    def open_json(self) -> Store:
        """The JSON store alone."""
        return JsonStore(
            SCHEMA, self.directory, checkpoint_interval=None, hook=self._hear
        )

    def open_postgres(self) -> Store:
        """The store behind the address alone."""
        pooled = self._plan.manner.name == "MOVED"
        return self._servers.open(SCHEMA, pooled=pooled, hook=self._hear)

    def close(self) -> None:
        """End the process; harmless to repeat."""
        self.pair.close()

    def _hear(self, event: Event) -> None:
        if self.ledger.is_exchanged:
            self.events.append(event)

    @property
    def told(self) -> list[str]:
        """Names of what was told since the exchange, apart from mere outages."""
        events = {
            event.name
            for event in self.events
            if event.level >= logging.WARNING or event.name == "server-changed"
        }
        errors = {type(error).__name__ for error in self.errors}
        return sorted(events - _OUTAGES | errors)

    # -- calls ----------------------------------------------------------------------------

    def call(self, call: Call) -> None:
        """Make one call; what it raises is noted."""
        notes = self.pair.collection(Note)
        match call.verb:
            case Verb.PUT:
                self._put([call.key], lambda records: [notes.put(records[0])])
            case Verb.PUT_MANY:
                keys = [f"{call.key}{n}" for n in range(call.size)]
                self._put(keys, notes.put_many)
            case Verb.DELETE:
                write = self.ledger.begin(call.key, None)
                self._try([write], lambda: notes.delete(call.key))
            case Verb.ADD:
                self._add()
            case Verb.AWAY:
                self._try([], lambda: self._write_away(call.size))
            case Verb.GET:
                self._try([], lambda: notes.get(call.key))
            case Verb.SWITCH:
                assert call.phase is not None
                self._try([], lambda: self.switch(call.phase))
            case Verb.VALIDATE | Verb.BACKFILL:
                self._try([], lambda: self._has_follower() and self._do(call.verb))
            case _:
                self._try([], lambda: self._do(call.verb))

    def _do(self, verb: Verb) -> Any:
        return getattr(self.pair, verb.value)()

    def _has_follower(self) -> bool:
        """What needs a secondary is refused where there is none: that tells nothing."""
        return self.pair.phase in {Phase.PARALLEL, Phase.POSTGRES_PRIMARY}

    def switch(self, phase: Phase | None) -> None:
        """Change the phase, whatever an operator would have to accept.

        Raises: as ``DualWriteStore.switch``.
        """
        assert phase is not None
        self.pair.switch(phase, accept=CODES, timeout=10.0)

    def _put(self, keys: list[str], put: Callable[[list[Note]], list[int]]) -> None:
        records = [Note(id=key, text=self.ledger.text()) for key in keys]
        writes = [self.ledger.begin(note.id, note.text) for note in records]
        self._try(writes, lambda: put(records))

    def _add(self) -> None:
        word = self.ledger.text()
        write = self.ledger.begin(f"{SUM} {word}", word)

        def add(transaction: Any) -> None:
            notes = transaction.collection(Note)
            known = notes.get(SUM) or Note(id=SUM)
            notes.put(Note(id=SUM, text=f"{known.text} {word}".strip()))

        self._try([write], lambda: self.pair.run(add))

    def _write_away(self, commits: int) -> None:
        """Commits that the secondary gets from the change log, later."""
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

    def _try(self, writes: list[Write], make: Callable[[], Any]) -> None:
        self.ledger.counts["calls"] += 1
        started = time.monotonic()
        fate, versions = Fate.REFUSED, None
        try:
            versions = make()
            fate = Fate.DONE
        except StoreUnavailable as error:
            fate = Fate.REFUSED if error.outcome_known else Fate.OPEN
            self.ledger.counts["unavailable"] += 1
        except PASSING:
            self.ledger.counts["refused"] += 1
        except PendStorageError as error:
            self.ledger.counts["refused"] += 1
            if self.ledger.is_exchanged:
                self.errors.append(error)
        if time.monotonic() - started > _HUNG:
            self.hung.append(f"a call took {time.monotonic() - started:.0f} s")
        given = versions if isinstance(versions, list) else [0] * len(writes)
        for write, version in zip(writes, given, strict=True):
            self.ledger.settle(write, fate, version)
        if writes:
            self.ledger.counts[fate.value] += 1
