"""Leases: one holder at a time among all hosts that use a repository.

.. code-block:: text

    leases/NAME/000000000007.json       holder and expiry

The object with the highest number counts. To take a lease, to renew it and to release it is
to create the next number, create-only. So of a holder that renews late, and another process
that takes the expired lease, one succeeds. The highest number is never removed: a holder that
slept cannot create a number that was given before and believe that it counts, because it
looks for a higher one afterwards.

The holder believes in its lease by its own clock, which does not go back, from before the
request on. Another process takes it by the written time, and
:data:`~pend_storage.backup._holder.SKEW` seconds later.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import msgspec
from typing_extensions import override

from pend_storage import crashpoints
from pend_storage._retry import Backoff
from pend_storage.backup._holder import Holder, decode, this_process
from pend_storage.backup._repository import Lease, Repository, require_name
from pend_storage.errors import (
    ConfigError,
    LockTimeout,
    PendStorageError,
    StoreUnavailable,
)

__all__ = ["hold", "holders", "remove_old_leases"]

_FOLDER: Final = "leases"
_LARGEST: Final = 1 << 16
_RENEWALS: Final = 3
"""Renewals within the time of a lease."""
_LONGEST_PAUSE: Final = 2.0
_LOOKS: Final = 20
_LEAVING: Final = 5.0
"""Seconds that the end of a lease waits for a renewal under way."""
_OLD: Final = timedelta(days=1)
"""Time after which a lease that is free is removed."""
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Counts on while the host is suspended, where there is such a clock."""

_TAKEN: Final = crashpoints.declare(
    "lease.taken", "a process has created a number of a lease, and not yet looked again"
)


class _Top(NamedTuple):
    number: int
    holder: Holder | None
    """None where there is none yet."""


def _clock() -> float:
    return time.clock_gettime(_CLOCK)


@contextlib.contextmanager
def hold(
    repository: Repository, name: str, *, seconds: float, wait: float
) -> Iterator[Lease]:
    """Hold a lease, as :meth:`Repository.lease`."""
    require_name(name)
    if "/" in name:
        raise ConfigError(f"a lease has a name without a slash, not {name}.")
    held = _acquire(repository, name, seconds, wait)
    try:
        yield held
    finally:
        held.release()


def holders(repository: Repository, prefix: str = "") -> dict[str, Holder]:
    """Return the leases that are held now, with their holders.

    Args:
        repository: of the leases.
        prefix: of their names.
    """
    now = datetime.now(UTC)
    names = sorted({name for name, _ in _all(repository) if name.startswith(prefix)})
    found = {name: _top(repository, name).holder for name in names}
    return {
        name: holder
        for name, holder in found.items()
        if holder is not None and not holder.is_free(now)
    }


def remove_old_leases(repository: Repository) -> int:
    """Remove leases that have been free for a day; return their number."""
    now, removed = datetime.now(UTC), 0
    for name in sorted({name for name, _ in _all(repository)}):
        top = _top(repository, name)
        if top.holder is None or top.holder.expires + _OLD > now:
            continue
        if top.holder.is_free(now):
            for number in _numbers(repository, name):
                repository.delete(_object(name, number))
            removed += 1
    return removed


def _acquire(
    repository: Repository, name: str, seconds: float, wait: float
) -> _HeldLease:
    deadline = _clock() + wait
    pauses = Backoff(0.1, _LONGEST_PAUSE, share=0.5)
    while True:
        top = _top(repository, name)
        if top.holder is None or top.holder.is_free(datetime.now(UTC)):
            held = _HeldLease(repository, name, seconds, top.number)
            if held.take():
                return held
            continue  # another process came first: look who
        rest = deadline - _clock()
        if rest <= 0:
            raise LockTimeout(
                path=f"the lease {name} of {repository.url}",
                seconds=wait,
                holder=top.holder.label(),
            )
        time.sleep(min(rest, pauses.next()))


class _HeldLease(Lease):
    """Lease of this process, renewed by a thread."""

    def __init__(
        self, repository: Repository, name: str, seconds: float, number: int
    ) -> None:
        """Args: number: the highest one that there is. seconds: until the expiry."""
        self._repository = repository
        self._name = name
        self._seconds = seconds
        self._number = number
        self._holder = this_process(datetime.now(UTC), seconds)
        self._until = 0.0
        self._is_lost = False
        self._process = os.getpid()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._renew, name="pend-backup-lease", daemon=True
        )

    def take(self) -> bool:
        """Take the lease; return False if another process came first."""
        if not self._advance():
            return False
        self._thread.start()
        return True

    @override
    def require(self) -> None:
        if self._is_held():
            return
        raise LockTimeout(
            path=f"the lease {self._name} of {self._repository.url}",
            seconds=self._seconds,
            holder="another process, perhaps, because it could not be renewed in time",
        )

    def release(self) -> None:
        """End the renewal, and let the next process take the lease at once."""
        if self._process != os.getpid():
            return  # a forked child does not hold it
        self._stop.set()
        self._thread.join(_LEAVING)
        if self._thread.is_alive() or not self._is_held():
            self._is_lost = True  # it expires
            return
        with contextlib.suppress(PendStorageError, OSError):
            self._advance(released=True)
        self._is_lost = True

    def _is_held(self) -> bool:
        return (
            self._process == os.getpid()
            and not self._is_lost
            and _clock() < self._until
            and datetime.now(UTC) < self._holder.expires
        )

    def _renew(self) -> None:
        usual = self._seconds / _RENEWALS
        pause = usual
        while not self._stop.wait(pause):
            if not self._is_held():
                return
            try:
                if not self._advance():
                    self._is_lost = True
                    return
                pause = usual
            except (PendStorageError, OSError):
                pause = min(
                    usual / 4, _LONGEST_PAUSE
                )  # there is time for some attempts

    def _advance(self, *, released: bool = False) -> bool:
        """Create the next number; return False if another process did."""
        started, now = _clock(), datetime.now(UTC)
        holder = msgspec.structs.replace(
            self._holder,
            expires=now + timedelta(seconds=self._seconds),
            released=released,
        )
        number = self._create(holder)
        if number is None:
            return False
        _TAKEN()
        known = _numbers(self._repository, self._name)
        if known and known[-1] > number:
            return False  # the number had been given before, while this process slept
        self._number, self._holder = number, holder
        self._until = started + self._seconds
        with contextlib.suppress(PendStorageError, OSError):  # the next one tidies up
            for old in known:
                if old < number - 1:
                    self._repository.delete(_object(self._name, old))
        return True

    def _create(self, holder: Holder) -> int | None:
        """Create the next number and return it; None if another process has."""
        content = msgspec.json.encode(holder)
        while True:
            number = self._number + 1
            name = _object(self._name, number)
            try:
                self._repository.put(name, [content], create_only=True)
            except FileExistsError:
                if not self._is_ours(name):
                    return None
                self._number = number
            else:
                return number

    def _is_ours(self, name: str) -> bool:
        """Return whether a request was carried out whose answer was lost."""
        try:
            text = self._repository.read(name, limit=_LARGEST)
        except FileNotFoundError:
            return False
        found = decode(text, name, self._holder.expires)
        return found.random == self._holder.random


def _object(name: str, number: int) -> str:
    return f"{_FOLDER}/{name}/{number:012d}.json"


def _all(repository: Repository) -> Iterator[tuple[str, int]]:
    for each in repository.list(f"{_FOLDER}/"):
        name, _, last = each.name.removeprefix(f"{_FOLDER}/").partition("/")
        if (number := _number(last)) is not None:
            yield name, number


def _numbers(repository: Repository, name: str) -> list[int]:
    names = [each.name for each in repository.list(f"{_FOLDER}/{name}/")]
    found = [_number(each.rpartition("/")[2]) for each in names]
    return sorted(number for number in found if number is not None)


def _number(name: str) -> int | None:
    digits = name.removesuffix(".json")
    return int(digits) if digits.isdecimal() and digits != name else None


def _top(repository: Repository, name: str) -> _Top:
    for _ in range(_LOOKS):
        there = [
            (number, each.modified)
            for each in repository.list(f"{_FOLDER}/{name}/")
            if (number := _number(each.name.rpartition("/")[2])) is not None
        ]
        if not there:
            return _Top(0, None)
        number, modified = max(there)
        place = _object(name, number)
        with contextlib.suppress(FileNotFoundError):  # a newer one replaced it
            text = repository.read(place, limit=_LARGEST)
            return _Top(number, decode(text, place, modified))
    raise StoreUnavailable(
        f"the lease {name} is listed, and cannot be read", store=repository.url
    )
