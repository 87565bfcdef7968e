"""Values that stores exchange: rows, batches, changes. Pure, frozen, small."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    TypeAlias,
    TypeVar,
)

from pend_storage._model.attribution import actor, new_token
from pend_storage.errors import PendStorageError

__all__ = [
    "BESIDE",
    "EDITED",
    "EDIT_MARK",
    "JSON",
    "Advance",
    "Batch",
    "Change",
    "ChangedRecord",
    "Delete",
    "FindingRecord",
    "LegacyFile",
    "Outcome",
    "Page",
    "Pending",
    "Put",
    "QuarantinedRecord",
    "Row",
    "Versioned",
]

if TYPE_CHECKING:
    JSON: TypeAlias = (
        Mapping[str, "JSON"] | list["JSON"] | str | int | float | bool | None
    )
else:
    # At run time a JSON value is anything; the codec checks it value by value.
    JSON = Any

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Versioned(NamedTuple, Generic[R]):
    """Record with the version at which it was read."""

    record: R
    version: int


class Row(NamedTuple):
    """Row under a key: version and record. A tombstone is a row without a record."""

    key: str
    version: int
    record: Any


@dataclass(frozen=True, slots=True)
class Page(Generic[R_co]):
    """Page of a query's answer."""

    items: tuple[R_co, ...]
    next: str | None = None
    """Opaque cursor of the next page; None on the last one."""


class Put(NamedTuple):
    """Operation that writes a record. Made by ``schema.put``, which has checked it.

    ``body`` is the record in canonical JSON, encoded once for every use.
    """

    collection: str
    key: str
    record: Any
    body: bytes


class Delete(NamedTuple):
    """Operation that deletes a key; without a record it has no effect."""

    collection: str
    key: str


def _by() -> str | None:
    return actor().by


def _reason() -> str | None:
    return actor().reason


@dataclass(frozen=True, slots=True)
class Batch:
    """Atomic commit: checks that must hold, then operations. Made by ``schema.batch``.

    Operations name each key once. Checks map ``(collection, key)`` to the version that
    must be there when the commit takes effect; 0 demands that there is no record.
    """

    operations: tuple[Put | Delete, ...] = ()
    checks: Mapping[tuple[str, str], int] = field(default_factory=dict)
    token: str = field(default_factory=new_token)
    """Names this commit in the change log: 32 hexadecimal digits, see
    :func:`~pend_storage._model.attribution.new_token`. Committing a batch again whose token is
    in the log writes nothing, and returns the versions of that entry."""
    by: str | None = field(default_factory=_by)
    """Author; see :meth:`Store.acting`."""
    reason: str | None = field(default_factory=_reason)
    """Reason; see :meth:`Store.acting`."""
    lets_go: bool = False
    """Whether it may delete audit entries: a pruning or an erasure."""

    def versions_in(self, rows: Iterable[tuple[str, str, int, Any]]) -> tuple[int, ...]:
        """Return the version of each operation among the rows of a commit; 0: none.

        Args:
            rows: collection, key, version and content of each.
        """
        versions = {(name, key): version for name, key, version, _ in rows}
        return tuple(versions.get((o.collection, o.key), 0) for o in self.operations)


Outcome: TypeAlias = tuple[int, ...] | PendStorageError
"""Outcome of one commit: its versions, or the error that it would have raised."""


class ChangedRecord(NamedTuple):
    """Changed record: one key that a commit wrote; ``record`` is None where it was deleted."""

    collection: str
    key: str
    version: int
    record: Any


@dataclass(frozen=True, slots=True)
class Change:
    """Entry of a store's change log: one commit."""

    sequence: int
    """Grows along the log; resume a feed after it."""
    epoch: int
    at: datetime
    records: tuple[ChangedRecord, ...]
    token: str | None = None
    """Of the batch; None in entries made before there were tokens."""
    by: str | None = None
    """Author, where one was given."""
    reason: str | None = None
    """Reason, where one was given."""

    def versions_of(self, batch: Batch) -> tuple[int, ...]:
        """Return the versions that this commit assigned to a batch's operations."""
        return batch.versions_in(self.records)


class Advance(NamedTuple):
    """Advance of a position, committed together with the data of an ``apply``.

    It is a compare-and-set: where the stored value is another one, the server behind the
    address may be another one too, and nothing is applied.
    """

    name: str
    """Of the meta entry."""
    expected: JSON
    """The value stored now, by value; None: there is no such entry."""
    value: JSON
    """The value stored afterwards; None removes the entry."""


class Pending(NamedTuple):
    """Backlog: number and age of the entries of a change log after a position."""

    commits: int
    """Entries; counted up to a limit of the store, 100,000 or more."""
    oldest: datetime | None
    """Time of the first one, UTC; None where there is none."""


EDITED: Final = "edited"
"""Code of a quarantined value that was overruled: an edit of a file that was not adopted,
or a commit that an edit of the file has overruled."""
EDIT_MARK: Final = "#edit"
"""Suffix of the file name of overruled values: they are not in the file."""
BESIDE: Final = -1
"""Position of an overruled value that is a member beside the records of its file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedRecord:
    """Quarantined record: a legacy record that could not be placed, with the reason.

    A system collection of every schema. The record stays visible, read-only, in its
    legacy file.
    """

    id: str
    file: str
    place: str
    """Member name or list index in the file; "" where the file as a whole is meant."""
    position: int | None = None
    """Place among the file's records, for rebuilding their order."""
    raw: bytes
    """The record's own text, byte for byte."""
    code: str
    """Short name of the reason."""
    reason: str
    """What is wrong, in a sentence."""
    status: Literal["waiting", "accepted"] = "waiting"
    note: str | None = None
    """Why an operator accepted it."""
    seen_at: datetime

    @property
    def is_waiting(self) -> bool:
        """Decision pending: an operator has neither accepted nor repaired it."""
        return self.status == "waiting"


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRecord:
    """Finding: a confirmed divergence between the stores of a pair.

    A system collection of every schema. It has the state of the divergence, and not the
    records: the values shown are redacted.
    """

    id: str
    """Digest of what identifies it, so that two processes that find it make one row."""
    collection: str
    key: str
    """Key of the record; "" where an answer is meant, and no single record."""
    kind: Literal["missing", "extra", "different", "answer"]
    """Missing: only the primary has the record. Extra: only the secondary has it. Answer:
    a query is answered otherwise though its records are equal."""
    state: Literal["open", "repaired", "gone", "accepted"] = "open"
    """Repaired: by a repair. Gone: equal when it was read again. Accepted: an operator has
    settled the quarantined record that it stands for."""
    source: Literal["read", "validation", "edit"]
    """Found by a compared read, by a validation, or because a file was edited while its
    store was secondary."""
    primary_version: int = 0
    """Version when it was last seen; 0 where not even a tombstone is there."""
    secondary_version: int = 0
    differences: list[JSON] = field(default_factory=list)
    """Of a different record: path, left (the primary) and right, redacted."""
    quarantined: str | None = None
    """Of an edit: id of the quarantined record with its text."""
    first_seen: datetime
    last_seen: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LegacyFile:
    """Header of a legacy file: its format and envelope, which no record has.

    A system collection of every schema.
    """

    file: str
    format: dict[str, JSON] = field(default_factory=dict)
    """Indentation, final newline and the like; its meaning belongs to the layout."""
    envelope: JSON = None
    """The parts of the file outside of its records; belongs to the layout too."""
