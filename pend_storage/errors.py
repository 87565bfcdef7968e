"""Errors of the library, in one tree.

.. code-block:: text

    PendStorageError
    |-- InvalidRecord        a record breaks its schema
    |-- InvalidQuery         a filter, an order or a cursor makes no sense (ValueError)
    |-- Conflict             another write came first
    |   `-- MergeConflict    both have changed the same member of a file
    |-- UniqueViolation      another record already has this value
    |-- ReferenceViolation   the record referred to is missing, or still needed
    |-- AppendOnly           audit entries are neither changed nor deleted
    |-- UnknownCollection    no such collection in the schema
    |-- ConfigError          configuration or usage is wrong
    |-- SchemaOutOfDate      database and library disagree about the schema
    |-- StoreUnavailable     a server or a disk cannot be reached
    |-- StaleEpoch           the store is not, or no longer, what the caller believes
    |-- StalePosition        a position was moved by another process or server
    |-- SwitchRefused        a phase change would lose something
    |-- SwitchTimeout        a phase change did not finish in time
    |-- ChangesExpired       the change log no longer reaches back so far
    |-- CorruptFile          a file is damaged, and was left as it is
    |-- JobCancelled         another process asked for the end of this work
    `-- LockTimeout          another process holds the lock

Each message says what is wrong, where, and what to do next, in one line of at most 2,000
visible characters. Each error carries its facts as attributes, and survives pickling.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

from typing_extensions import override

from pend_storage._shown import clause, listed, message_text, path_text, shown

__all__ = [
    "AppendOnly",
    "ChangesExpired",
    "ConfigError",
    "Conflict",
    "CorruptFile",
    "InvalidQuery",
    "InvalidRecord",
    "JobCancelled",
    "LockTimeout",
    "MergeConflict",
    "PendStorageError",
    "ReferenceViolation",
    "SchemaOutOfDate",
    "StaleEpoch",
    "StalePosition",
    "StoreUnavailable",
    "SwitchRefused",
    "SwitchTimeout",
    "UniqueViolation",
    "UnknownCollection",
]

E = TypeVar("E", bound=Exception)


class PendStorageError(Exception):
    """Base of every error that the library raises on purpose."""

    def __init__(self, message: str) -> None:
        super().__init__(message_text(message))

    @override
    def __str__(self) -> str:
        return message_text(super().__str__())  # of one whose args were set, too

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        # Not by __init__, whose arguments are facts and not the message.
        return type(self).__new__, (type(self), *self.args), self.__dict__


class InvalidRecord(PendStorageError):
    """A record, or one of its values, breaks its schema; nothing was written.

    Attributes:
        collection: name of the collection.
        field: the field at fault, or None where the whole record is.
        reason: what is wrong with it.
        key: key of the record, or None where that was not looked at.
        code: short name of the reason: ``too-large`` where the record, or one of its
            values, is larger than every store can hold; ``invalid`` otherwise.
    """

    def __init__(
        self,
        reason: str,
        *,
        collection: str,
        field: str | None = None,
        key: str | None = None,
        code: str = "invalid",
    ) -> None:
        self.collection = collection
        self.field = field
        self.reason: str = clause(reason)
        self.key = key
        self.code = code
        place = collection if key is None else f"{collection}[{shown(key)}]"
        place = place if field is None else f"{place}.{field}"
        super().__init__(f"{place}: {self.reason}. Correct the value and write again.")


class InvalidQuery(PendStorageError, ValueError):
    """A filter, an order, a limit or a cursor does not fit the collection."""


class Conflict(PendStorageError):
    """Another writer has changed the record since it was read; nothing was written.

    Attributes:
        collection: name of the collection.
        key: key of the record.
        expected: the version that the caller demanded (0: must not exist).
        actual: the version found (0: does not exist).
    """

    def __init__(
        self, *, collection: str, key: str, expected: int, actual: int
    ) -> None:
        self.collection = collection
        self.key = key
        self.expected = expected
        self.actual = actual
        found = f"version {actual}" if actual else "no record"
        if expected == actual:
            found = "one that this transaction wrote"
        wanted = f"version {expected}" if expected else "no record"
        super().__init__(
            f"{collection}[{shown(key)}]: expected {wanted}, found {found}. Read it again "
            "and repeat the change; store.run() does so by itself."
        )


class MergeConflict(Conflict):
    """Two writers have changed the same member of a file; nothing was written.

    Attributes:
        file: name of the file.
        member: member names, keys of records and places in lists on the way to it.
    """

    def __init__(self, *, file: str, member: Sequence[str | int]) -> None:
        super().__init__(collection="legacy_files", key=file, expected=0, actual=0)
        self.file = file
        self.member: tuple[str | int, ...] = tuple(member)
        path = path_text(self.member)
        what = f"{clause(file)}: {shown(path)}" if path else clause(file)
        message = (
            f"{what} was changed by another writer since it was loaded, and to another value "
            "here. Load the file again and repeat it; store.update() does so by itself."
        )
        self.args: tuple[Any, ...] = (message,)


class UniqueViolation(PendStorageError):
    """Another record of the collection already has this value; nothing was written.

    Attributes:
        collection: name of the collection.
        fields: names of the fields that must be unique together.
        key: key of the record that was refused.
    """

    def __init__(self, *, collection: str, fields: tuple[str, ...], key: str) -> None:
        self.collection = collection
        self.fields = fields
        self.key = key
        super().__init__(
            f"{collection}[{shown(key)}]: another record already has the same "
            f"{', '.join(fields)}. Use another value, or change that record first."
        )


class ReferenceViolation(PendStorageError):
    """A reference would lead nowhere; nothing was written.

    Attributes:
        collection: name of the collection that refers.
        field: the field that refers.
        target: name of the collection referred to.
        value: the key that is missing, or that is still referred to.
    """

    def __init__(self, *, collection: str, field: str, target: str, value: str) -> None:
        self.collection = collection
        self.field = field
        self.target = target
        self.value = value
        super().__init__(
            f"{collection}.{field} refers to {target}[{shown(value)}], which would not "
            "exist. Write the target first, or delete what refers to it first."
        )


class AppendOnly(PendStorageError):
    """An audit entry would be written, replaced or deleted; nothing was written.

    Attributes:
        collection: name of the collection.
        key: id of the entry.
    """

    def __init__(self, *, collection: str, key: str) -> None:
        self.collection = collection
        self.key = key
        super().__init__(
            f"{collection}[{shown(key)}]: the audit is append-only: the library alone "
            "adds entries, and none is changed or deleted. To add that of an operation of "
            "your own, call operations.audit.record(); to let old ones go, run "
            "pend-storage audit prune."
        )


class UnknownCollection(PendStorageError, LookupError):
    """The schema has no such collection.

    Attributes:
        name: of the missing collection.
    """

    def __init__(self, name: str, *, known: tuple[str, ...] = ()) -> None:
        self.name = name
        super().__init__(
            f"there is no collection {shown(name)}; the schema has: {listed(known)}."
        )


class ConfigError(PendStorageError):
    """Configuration or usage is wrong; the message names the place."""


class SchemaOutOfDate(PendStorageError):
    """Database and library disagree about the schema."""


class StoreUnavailable(PendStorageError):
    """A server or a disk cannot be reached, or refuses to work now.

    Attributes:
        store: which store, in a form fit for logs (no password).
        reason: the cause, in the words of the server or the system.
        outcome_known: False where a write may or may not have happened (the connection
            died while the commit was under way); True where nothing was written.
        token: of the commit whose outcome is not known; ``store.find_commit(token)``
            asks for it. None where the outcome is known.
    """

    def __init__(
        self,
        reason: str,
        *,
        store: str,
        outcome_known: bool = True,
        token: str | None = None,
    ) -> None:
        self.store = store
        self.reason: str = clause(reason)
        self.outcome_known = outcome_known
        self.token = token
        tail = "Nothing was changed; try again when it is back."
        if not outcome_known:
            asking = f"store.find_commit({shown(token)})" if token else "a read"
            tail = "Whether the last write happened is not known: ask with "
            tail += f"{asking} before repeating."
        super().__init__(f"{clause(store)}: {self.reason.rstrip('.')}. {tail}")


class StaleEpoch(PendStorageError):
    """The store does not have the role that the caller believes it to have.

    Attributes:
        store: which store.
        role: the role it has.
        epoch: the epoch it is at.
    """

    def __init__(self, *, store: str, role: str, epoch: int) -> None:
        self.store = store
        self.role = role
        self.epoch = epoch
        super().__init__(
            f"{store} is {role} at epoch {epoch}: roles have changed. "
            "Read the roles again and repeat the call at the store that is primary."
        )


class StalePosition(PendStorageError):
    """A position has changed since the caller read it; nothing was applied.

    Another process has moved it, or another server stands behind the address.

    Attributes:
        store: which store.
        name: of the position.
    """

    def __init__(self, *, store: str, name: str) -> None:
        self.store = store
        self.name = name
        super().__init__(
            f"{store}: the position {shown(name)} is not what was read before. Read it again, "
            "and go on from there."
        )


class SwitchRefused(PendStorageError):
    """A phase change was refused, because something would be lost.

    Attributes:
        blockers: (code, sentence) of each reason.
    """

    def __init__(self, blockers: tuple[tuple[str, str], ...]) -> None:
        self.blockers = blockers
        listing = "; ".join(f"{code}: {sentence}" for code, sentence in blockers)
        super().__init__(
            f"the switch was refused and nothing changed ({listing}). Remove the "
            "blockers, or accept one by its code."
        )


class SwitchTimeout(PendStorageError):
    """A phase change did not finish in time; the roles are as they were, or settle."""


class ChangesExpired(PendStorageError):
    """The change log has been pruned: it does not reach back to the requested entries.

    Attributes:
        store: which store.
        after: the sequence number asked for.
        oldest: the lowest number after which every entry is still there.
    """

    def __init__(self, *, store: str, after: int, oldest: int) -> None:
        self.store = store
        self.after = after
        self.oldest = oldest
        super().__init__(
            f"{store}: the change log after {after} is not kept any more; it begins "
            f"after {oldest}. Copy the whole store, and follow the log from there."
        )


class CorruptFile(PendStorageError):
    """A file is damaged. It was left exactly as it is.

    The content of a legacy file that could never be read is unknown: lookups and writes
    that depend on it are refused with this error until the file is repaired, which needs no
    restart, or its entry in quarantine is accepted.

    Attributes:
        path: the file.
        offset: place of the damage in bytes from the start, or None where unknown.
        reason: what is wrong.
        quarantined: id of the file's entry in quarantine; None where it has none.
    """

    def __init__(
        self,
        reason: str,
        *,
        path: str,
        offset: int | None = None,
        quarantined: str | None = None,
    ) -> None:
        self.path = path
        self.offset = offset
        self.reason: str = clause(reason)
        self.quarantined = quarantined
        place = clause(path) + ("" if offset is None else f", byte {offset}")
        remedy = (
            "restore it from a backup, or repair it by hand, and start again."
            if quarantined is None
            else "what is in it is unknown, so nothing was looked up or written. Repair it "
            "in its place while JSON is primary; or give its repaired text with "
            f"pend-storage quarantine retry {quarantined} --with FILE; or give it up with "
            f"pend-storage quarantine accept {quarantined} --reason ..."
        )
        super().__init__(
            f"{place}: {self.reason.rstrip('.')}. The file was left as it is: {remedy}"
        )


class LockTimeout(PendStorageError):
    """Another process holds a lock for longer than the caller would wait.

    Attributes:
        path: the lock.
        seconds: for which the caller waited.
    """

    def __init__(
        self, *, path: str, seconds: float, holder: str = "another process"
    ) -> None:
        self.path = path
        self.seconds = seconds
        super().__init__(
            f"{clause(path)} was still locked by {clause(holder)} after {seconds:g} s. Find "
            "and end that process, or try again later; nothing was changed."
        )


class JobCancelled(PendStorageError):
    """Long work ended between two chunks, because another process asked for that.

    Attributes:
        kind: what was done: ``backfill``.
        job: id of the job.
        by: who asked.
        reason: of the request; None where none was given.
        again: what it leaves, and how it goes on.
    """

    def __init__(
        self, *, kind: str, job: str, by: str, reason: str | None, again: str
    ) -> None:
        self.kind = kind
        self.job = job
        self.by = by
        self.reason = reason
        self.again = again
        why = "" if reason is None else f" ({clause(reason)})"
        super().__init__(
            f"the {kind} {job} was cancelled by {clause(by)}{why}. {again}"
        )


def own_copy(error: E) -> E:
    """Copy an error for one of several callers who share it, as the cause of the copy."""
    try:  # raising an error writes a traceback into it: each caller needs an object
        mine = copy.copy(error)
    except Exception:  # noqa: BLE001 - one that cannot be copied is better than none
        return error
    mine.__cause__ = error
    return mine
