"""Client of the demo: a process that writes or reads until SIGTERM.

A writer appends each commit to a ledger after the commit was acknowledged. Every entry
of a ledger must be in the store at the end, even if the writer was killed meanwhile.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from pend_storage._layouts.unread_files import resting_on
from pend_storage._transaction import Transaction
from pend_storage.errors import PendStorageError, StoreUnavailable
from pend_storage.factory import open_store
from pend_storage.pend import AdminLog, BlockchainEvent, Document, User, UserProfile
from pend_storage.store import Store

__all__ = ["COUNTER", "Ledger", "main"]

COUNTER: Final = Document(file="demo", key="counter", body=0)
"""Document that all writers increment, each in a transaction."""
_NEW_USERS: Final = 0.3
_CHANGES: Final = 0.65
"""Cumulative shares of a writer's calls: new users, then changes; the rest counts."""
_SEARCHES: Final = 0.02
"""Share of a reader's calls that list the newest users."""
_PAUSE: Final = 0.004
"""Seconds between two calls, so that the demo does not use the whole machine."""
_PATIENCE: Final = 20.0
"""Seconds for which a call is retried while its store is unavailable."""
_EMIT_INTERVAL: Final = 0.2
"""Seconds between two reports to the demo."""


@dataclass(slots=True)
class Tally:
    """Counters of one client, as it reports them to the demo."""

    calls: int = 0
    failed: int = 0
    """Calls that failed, and were not retried any more."""
    repeated: int = 0
    """Retries, because a store was unavailable."""
    backward: int = 0
    """Reads that returned an older version than an earlier read."""
    slowest: float = 0.0
    """Duration of the slowest call, in seconds."""
    compared: int = 0
    diverged: int = 0
    error: str = ""


class Ledger:
    """Append-only file of acknowledged writes, one JSON line for each record."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def record(self, versions: Mapping[tuple[str, str], int]) -> None:
        """Append the versions of one commit, by collection and key."""
        entries = [(*place, version) for place, version in versions.items()]
        lines = "".join(f"{json.dumps(entry)}\n" for entry in entries)
        # One write() for the whole commit: a killed process leaves all of it, or a torn
        # last line, which read() drops.
        os.write(self._file, lines.encode())

    @staticmethod
    def read(path: Path) -> Iterator[tuple[str, str, int]]:
        """Yield collection, key and version of each entry, without a torn last line."""
        for line in path.read_bytes().split(b"\n")[:-1]:
            collection, key, version = json.loads(line)
            yield collection, key, version


@dataclass(slots=True)
class Client:
    """Base of writers and readers: calls with retries, counted and timed."""

    store: Store
    random: random.Random
    tally: Tally = field(default_factory=Tally)

    def call(self, work: Callable[[], None]) -> None:
        """Run a call; retry it for 20 s while the store is unavailable."""
        begun = time.monotonic()
        while True:
            try:
                work()
            except StoreUnavailable as error:
                # A restart of PostgreSQL takes seconds, and any client would retry.
                if time.monotonic() - begun < _PATIENCE:
                    self.tally.repeated += 1
                    time.sleep(0.05)
                    continue
                self._record_failure(error)
            except PendStorageError as error:
                self._record_failure(error)
            break
        self.tally.calls += 1
        self.tally.slowest = max(self.tally.slowest, time.monotonic() - begun)

    def _record_failure(self, error: PendStorageError) -> None:
        self.tally.failed += 1
        self.tally.error = f"{type(error).__name__}: {error}"


class Writer(Client):
    """Client that registers users, changes their tier with an audit entry, counts."""

    def __init__(self, store: Store, number: str, ledger: Ledger) -> None:
        super().__init__(store, random.Random(number))  # noqa: S311 - a demo
        self._number = number
        self._ledger = ledger
        self._user_ids: list[str] = []

    def step(self) -> None:
        """Make one random call."""
        lot = self.random.random()
        if lot < _NEW_USERS or not self._user_ids:
            self._register()
        elif lot < _CHANGES:
            self._change_tier(self.random.choice(self._user_ids))
        else:
            self._count()

    def _write(self, change: Callable[[Transaction], None]) -> None:
        """Commit a change, then record its versions in the ledger.

        Args:
            change: writes in the transaction; it runs again after a conflict.
        """

        def changed(transaction: Transaction) -> Transaction:
            change(transaction)
            return transaction

        def write() -> None:
            # The counter is one record that all writers change: conflicts are the rule.
            done = self.store.run(changed, attempts=1_000)
            self._ledger.record(done.versions)

        self.call(write)

    def _register(self) -> None:
        digest = hashlib.sha256(
            f"{self._number}/{len(self._user_ids)}".encode()
        ).hexdigest()
        user = User(phone_hash=f"0x{digest}", blockchain_address=f"0x{digest[:40]}")

        def register(transaction: Transaction) -> None:
            transaction.collection(User).put(user)
            transaction.collection(UserProfile).put(UserProfile(user_id=user.id))

        self._write(register)
        self._user_ids.append(user.id)

    def _change_tier(self, key: str) -> None:
        tier = self.random.randrange(6)
        log = AdminLog(action="tier_change", resource_type="user", resource_id=key)

        def change(transaction: Transaction) -> None:
            users = transaction.collection(User)
            user = users.get(key)
            if user is not None:
                users.put(replace(user, tier=tier))
            transaction.collection(AdminLog).put(log)

        self._write(change)

    def _count(self) -> None:
        event = BlockchainEvent(event_type="demo", source="chain")

        def count(transaction: Transaction) -> None:
            events = transaction.collection(BlockchainEvent)
            if events.get(event.id) is not None:
                return  # an earlier attempt was committed, and only its answer was lost
            counters = transaction.collection(Document)
            with resting_on(COUNTER.file):  # no need of the half-written file
                counter = counters.get(COUNTER.id) or COUNTER
            counters.put(replace(counter, body=int(str(counter.body)) + 1))
            events.put(event)

        self._write(count)


class Reader(Client):
    """Client that reads by key, and counts reads that go back to an older version."""

    def __init__(self, store: Store, number: str) -> None:
        super().__init__(store, random.Random(number))  # noqa: S311 - a demo
        self._keys: list[str] = []
        self._newest: dict[str, int] = {}

    def step(self) -> None:
        """Make one random call."""
        lot = self.random.random()
        if lot < _SEARCHES or not self._keys:
            self.call(self._list_newest)
        elif lot < 0.5:  # noqa: PLR2004 - half of the rest, or nearly
            self.call(self._read_counter)
        else:
            key = self.random.choice(self._keys)
            self.call(lambda: self._read_user(key))

    def _list_newest(self) -> None:
        newest = self.store.collection(User).find(order_by=["-created_at"], limit=50)
        self._keys = [user.id for user in newest.items]

    def _read_user(self, key: str) -> None:
        found = self.store.collection(User).versioned(key)
        self._check_monotonic(key, 0 if found is None else found.version)

    def _read_counter(self) -> None:
        with resting_on(COUNTER.file):
            found = self.store.collection(Document).get(COUNTER.id)
        self._check_monotonic("counter", 0 if found is None else int(str(found.body)))

    def _check_monotonic(self, what: str, version: int) -> None:
        if version < self._newest.get(what, 0):
            self.tally.backward += 1
        self._newest[what] = max(version, self._newest.get(what, 0))


def _emit(client: Client) -> None:
    """Write the client's counters to stdout as one JSON line, for the demo process."""
    tally = client.tally
    compared = getattr(client.store, "compared", None)
    if compared is not None:
        counts = compared()
        tally.compared, tally.diverged = counts.compared, counts.confirmed
    sys.stdout.write(json.dumps(asdict(tally)) + "\n")
    sys.stdout.flush()


def _work(client: Writer | Reader) -> None:
    """Make calls until SIGTERM, and report the counters five times a second."""
    ended: list[int] = []
    # Only a flag: the call under way is finished and reported.
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    emitted = 0.0
    while not ended:
        client.step()
        if time.monotonic() - emitted > _EMIT_INTERVAL:
            emitted = time.monotonic()
            _emit(client)
        time.sleep(_PAUSE)
    _emit(client)


def main() -> None:
    """``python -m pend_storage.demo._worker writer|reader NUMBER CONFIG LEDGER``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["writer", "reader"])
    parser.add_argument("number")
    parser.add_argument("config", type=Path)
    parser.add_argument("ledger", type=Path)
    given = parser.parse_args()
    with open_store(given.config) as store:
        if given.kind == "writer":
            _work(Writer(store, given.number, Ledger(given.ledger)))
        else:
            _work(Reader(store, given.number))


if __name__ == "__main__":
    main()
