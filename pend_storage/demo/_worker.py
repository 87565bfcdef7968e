"""A client of the demo, in a process of its own: it writes, or it reads, until it ends.

A writer notes what was acknowledged in a ledger, after it was: whatever stands there must
be in the store at the end, whoever was killed meanwhile.
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
"""What all writers increment, each in a transaction."""
_NEW_USERS: Final = 0.3
_CHANGES: Final = 0.65
"""Shares of the calls: new users, changes of users; the rest counts."""
_SEARCHES: Final = 0.02
_PAUSE: Final = 0.004
"""Seconds between two calls: a demo should leave something of the machine."""
_PATIENCE: Final = 20.0
"""Seconds for which a call is repeated that could not reach its store."""
_TELL_EVERY: Final = 0.2


@dataclass(slots=True)
class Tally:
    """What a client has done, as it tells the demo."""

    calls: int = 0
    failed: int = 0
    """Calls that came to nothing, and were given up."""
    repeated: int = 0
    """Calls that were made again, because a store could not be reached."""
    backward: int = 0
    """Reads that gave an older version than a read before."""
    slowest: float = 0.0
    """Seconds."""
    compared: int = 0
    diverged: int = 0
    error: str = ""


class Ledger:
    """Acknowledged writes, a line each, in the order of their acknowledgement."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, versions: Mapping[tuple[str, str], int]) -> None:
        """Each record's version, by collection and key."""
        entries = [(*place, version) for place, version in versions.items()]
        lines = "".join(f"{json.dumps(entry)}\n" for entry in entries)
        os.write(self._file, lines.encode())

    @staticmethod
    def read(path: Path) -> Iterator[tuple[str, str, int]]:
        """All entries; a last line without its end was never acknowledged."""
        for line in path.read_bytes().split(b"\n")[:-1]:
            collection, key, version = json.loads(line)
            yield collection, key, version


@dataclass(slots=True)
class Client:
    """What a writer and a reader have in common."""

    store: Store
    random: random.Random
    tally: Tally = field(default_factory=Tally)

    def call(self, work: Callable[[], None]) -> None:
        """Do it; again, as any client would, while a store cannot be reached."""
        begun = time.monotonic()
        while True:
            try:
                work()
            except StoreUnavailable as error:
                if time.monotonic() - begun < _PATIENCE:
                    self.tally.repeated += 1
                    time.sleep(0.05)
                    continue
                self._give_up(error)
            except PendStorageError as error:
                self._give_up(error)
            break
        self.tally.calls += 1
        self.tally.slowest = max(self.tally.slowest, time.monotonic() - begun)

    def _give_up(self, error: PendStorageError) -> None:
        self.tally.failed += 1
        self.tally.error = f"{type(error).__name__}: {error}"


class Writer(Client):
    """Makes users, changes them with an entry in the audit log, and counts."""

    def __init__(self, store: Store, number: str, ledger: Ledger) -> None:
        super().__init__(store, random.Random(number))  # noqa: S311 - a demo
        self._number = number
        self._ledger = ledger
        self._mine: list[str] = []

    def step(self) -> None:
        """One call."""
        lot = self.random.random()
        if lot < _NEW_USERS or not self._mine:
            self._register()
        elif lot < _CHANGES:
            self._change_tier(self.random.choice(self._mine))
        else:
            self._count()

    def _write(self, change: Callable[[Transaction], None]) -> None:
        """Commit, and note what was acknowledged; the change may be made twice."""

        def changed(transaction: Transaction) -> Transaction:
            change(transaction)
            return transaction

        def write() -> None:
            done = self.store.run(changed, attempts=1_000)
            self._ledger.note(done.versions)

        self.call(write)

    def _register(self) -> None:
        digest = hashlib.sha256(
            f"{self._number}/{len(self._mine)}".encode()
        ).hexdigest()
        user = User(phone_hash=f"0x{digest}", blockchain_address=f"0x{digest[:40]}")

        def register(transaction: Transaction) -> None:
            transaction.collection(User).put(user)
            transaction.collection(UserProfile).put(UserProfile(user_id=user.id))

        self._write(register)
        self._mine.append(user.id)

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
                return  # it has happened, and only the answer was lost
            counters = transaction.collection(Document)
            with resting_on(COUNTER.file):  # and not on the half-written file
                counter = counters.get(COUNTER.id) or COUNTER
            counters.put(replace(counter, body=int(str(counter.body)) + 1))
            events.put(event)

        self._write(count)


class Reader(Client):
    """Reads by key, and sees to it that nothing ever goes back to an older version."""

    def __init__(self, store: Store, number: str) -> None:
        super().__init__(store, random.Random(number))  # noqa: S311 - a demo
        self._keys: list[str] = []
        self._seen: dict[str, int] = {}

    def step(self) -> None:
        """One call."""
        lot = self.random.random()
        if lot < _SEARCHES or not self._keys:
            self.call(self._find_newest)
        elif lot < 0.5:  # noqa: PLR2004 - half of the rest, or nearly
            self.call(self._look_at_counter)
        else:
            key = self.random.choice(self._keys)
            self.call(lambda: self._look(key))

    def _find_newest(self) -> None:
        newest = self.store.collection(User).find(order_by=["-created_at"], limit=50)
        self._keys = [user.id for user in newest.items]

    def _look(self, key: str) -> None:
        found = self.store.collection(User).versioned(key)
        self._judge(key, 0 if found is None else found.version)

    def _look_at_counter(self) -> None:
        with resting_on(COUNTER.file):
            found = self.store.collection(Document).get(COUNTER.id)
        self._judge("counter", 0 if found is None else int(str(found.body)))

    def _judge(self, what: str, version: int) -> None:
        if version < self._seen.get(what, 0):
            self.tally.backward += 1
        self._seen[what] = max(version, self._seen.get(what, 0))


def _tell(client: Client) -> None:
    """One line with everything, for the process that shows it."""
    tally = client.tally
    compared = getattr(client.store, "compared", None)
    if compared is not None:
        counts = compared()
        tally.compared, tally.diverged = counts.compared, counts.confirmed
    sys.stdout.write(json.dumps(asdict(tally)) + "\n")
    sys.stdout.flush()


def _work(client: Writer | Reader) -> None:
    """Step after step, until SIGTERM."""
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    told = 0.0
    while not ended:
        client.step()
        if time.monotonic() - told > _TELL_EVERY:
            told = time.monotonic()
            _tell(client)
        time.sleep(_PAUSE)
    _tell(client)


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
