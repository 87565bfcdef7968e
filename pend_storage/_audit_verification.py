"""Verification of the audit: what was changed, deleted, inserted or moved is named.

Three things are compared: the seals with one another, the entries with the seals, and the
entries that are not sealed yet with the change log, which has them, too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Literal

from pend_storage._audit_chain import Anchor, KnownSeal, seals
from pend_storage._model.audit import (
    AUDIT,
    ERASED_SUFFIX,
    ERASURE,
    GENESIS,
    PRUNING,
    AuditEntry,
    Seal,
    SealedEntry,
    committed,
    digest_of,
    is_seal,
    position_of,
    seal_id,
    values_of,
)
from pend_storage._model.records import Change, Row
from pend_storage.contract import StoreBackend
from pend_storage.errors import ChangesExpired

__all__ = ["AuditProblem", "AuditReport", "verify_chain"]

ProblemKind = Literal[
    "missing", "edited", "inserted", "moved", "seal", "unrecorded", "erased", "anchor"
]
_MOST_PROBLEMS: Final = 1_000
"""Problems that a report lists; the others are counted."""
_SEALS_IN_MEMORY: Final = 32
_CHUNK: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditProblem:
    """Problem that a verification found."""

    kind: ProblemKind
    id: str
    """Id of the entry or the seal; token of a commit without an entry."""
    sentence: str


@dataclass(slots=True, kw_only=True)
class AuditReport:
    """Outcome of a verification."""

    entries: int = 0
    """Entries that are there."""
    sealed: int = 0
    """Entries that a seal proves."""
    unsealed: int = 0
    """Entries that the change log proves, until they are sealed."""
    unproven: int = 0
    """Entries of which neither does: they wait for their seal, and the log of the store
    that was primary then is not read. ``pend-storage audit seal`` seals them."""
    erased: int = 0
    """Entries whose key and values were erased."""
    seals: int = 0
    pruned: int = 0
    """Seals that were pruned: their number."""
    newest: Anchor | None = None
    """Number and digest of the newest seal: note them elsewhere."""
    found: int = 0
    """Number of problems."""
    problems: list[AuditProblem] = field(default_factory=list)
    """The first of them."""

    @property
    def ok(self) -> bool:
        """True where no problem was found."""
        return self.found == 0

    def add(self, kind: ProblemKind, place: str, sentence: str) -> None:
        """Add a problem."""
        self.found += 1
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(AuditProblem(kind=kind, id=place, sentence=sentence))


def verify_chain(store: StoreBackend, *, anchor: Anchor | None = None) -> AuditReport:
    """Verify all seals and entries of a store, in bounded memory; changes nothing.

    Args:
        store: the environment's.
        anchor: a seal that was noted elsewhere.

    Raises:
        StoreUnavailable: the store cannot be reached.
    """
    return _Verification(store).run(anchor)


class _Verification:
    """One verification."""

    def __init__(self, store: StoreBackend) -> None:
        self._store = store
        self._report = AuditReport()
        self._ends: list[int] = []
        """Positions up to which the seals go, rising."""
        self._numbers: list[int] = []
        self._listed: list[int] = []
        """Number of entries that each seal lists."""
        self._matched: list[int] = []
        self._cache: OrderedDict[int, dict[str, SealedEntry]] = OrderedDict()
        self._erasures: set[str] = set()
        self._erased: list[str] = []
        self._pruned_to = 0

    def run(self, anchor: Anchor | None) -> AuditReport:
        newest = self._check_seals(anchor)
        upto = 0 if newest is None else newest.seal.upto
        tail = _Tail(self._store, self._report, newest)
        end = tail.check(upto)
        self._check_entries(upto, end, tail)
        for index, matched in enumerate(self._matched):
            if matched < self._listed[index]:
                self._name_missing(index)
        for entry in self._erased:
            if entry.removesuffix(ERASED_SUFFIX) not in self._erasures:
                self._report.add(
                    "erased",
                    entry,
                    "key and values are gone, and no entry tells who erased them",
                )
        return self._report

    # -- the seals ------------------------------------------------------------------------

    def _check_seals(self, anchor: Anchor | None) -> KnownSeal | None:
        """Check the chain from its end, and note the range of each seal."""
        report = self._report
        pruned = self._pruning()
        self._pruned_to = int(pruned.get("upto", 0))
        report.pruned = int(pruned.get("seal", 0))
        later: KnownSeal | None = None
        newest: KnownSeal | None = None
        try:
            for known in seals(self._store):
                newest = newest or known
                self._check_link(known, later)
                self._check_anchor(known, anchor)
                later = known
                if known.seal.number <= report.pruned:
                    break  # older ones were pruned, or are to be
                report.seals += 1
                self._numbers.append(known.seal.number)
                self._ends.append(known.seal.upto)
                self._listed.append(len(known.seal.entries))
        except ValueError as error:
            report.add("seal", "seal", f"a seal cannot be read: {error}")
        for ranges in (self._numbers, self._ends, self._listed):
            ranges.reverse()
        self._matched = [0] * len(self._ends)
        report.newest = None if newest is None else newest.anchor
        self._check_beginning(later, str(pruned.get("digest", GENESIS)))
        self._check_end(newest, anchor)
        return newest

    def _check_anchor(self, known: KnownSeal, anchor: Anchor | None) -> None:
        if (
            anchor is not None
            and known.seal.number == anchor.number
            and known.digest != anchor.digest
        ):
            self._report.add(
                "anchor",
                seal_id(anchor.number),
                f"seal {anchor.number} is not the one that was noted elsewhere",
            )

    def _check_end(self, newest: KnownSeal | None, anchor: Anchor | None) -> None:
        """Check that the chain goes on at least to the anchor."""
        if anchor is None:
            return
        end = 0 if newest is None else newest.seal.number
        if anchor.number > end:
            self._report.add(
                "anchor",
                seal_id(anchor.number),
                f"the chain ends with seal {end}, and seal {anchor.number} was noted "
                "elsewhere",
            )

    def _check_link(self, known: KnownSeal, later: KnownSeal | None) -> None:
        if later is None:
            return
        number, wanted = known.seal.number, later.seal.number - 1
        if number != wanted:
            self._report.add(
                "missing",
                seal_id(wanted),
                f"seal {wanted} is not there, and {wanted + 1} follows it",
            )
        elif known.digest != later.seal.previous:
            self._report.add(
                "edited",
                seal_id(number),
                f"seal {number} is not what seal {number + 1} names",
            )

    def _check_beginning(self, first: KnownSeal | None, digest: str) -> None:
        """Check that the oldest seal is the first one, or the one that was pruned to."""
        pruned, add = self._report.pruned, self._report.add
        if first is None:
            if pruned:
                add(
                    "missing",
                    seal_id(pruned),
                    f"seal {pruned} is not there, from which on the chain is kept",
                )
            return
        number = first.seal.number
        if pruned and number == pruned:
            if first.digest != digest:
                add(
                    "edited",
                    seal_id(number),
                    f"seal {number} is not the one that was pruned to",
                )
        elif number != 1:
            add(
                "missing",
                seal_id(number - 1),
                f"the chain begins with seal {number}, and nothing was pruned to it",
            )
        elif first.seal.previous != GENESIS:
            add("edited", seal_id(number), "the first seal continues another chain")

    def _pruning(self) -> dict[str, Any]:
        """Return the details of the last pruning."""
        found: dict[str, Any] = {}
        for row in self._store.scan(AUDIT):
            if is_seal(row.key):
                break
            entry: AuditEntry = row.record
            if entry.action == PRUNING:
                details = values_of(entry)
                if int(details.get("seal", 0)) >= int(found.get("seal", 0)):
                    found = details
            elif entry.action == ERASURE:
                self._erasures.update(map(str, values_of(entry).get("entries", ())))
        return found

    # -- the entries ----------------------------------------------------------------------

    def _check_entries(self, upto: int, end: int, tail: _Tail) -> None:
        for row in self._store.scan(AUDIT):
            if is_seal(row.key):
                return
            if row.version > end and not row.key.endswith(ERASED_SUFFIX):
                continue  # committed since the verification began
            self._report.entries += 1
            entry: AuditEntry = row.record
            if not _is_whole(entry):
                self._report.add(
                    "edited", row.key, "key or values are not what was committed to"
                )
            place = position_of(row)
            if place is None:
                self._report.add(
                    "edited", row.key, "it is marked as erased, and holds other values"
                )
            elif place <= upto:
                self._check_sealed(row, entry, place)
            else:
                tail.check_row(row)

    def _check_sealed(self, row: Row, entry: AuditEntry, position: int) -> None:
        if position <= self._pruned_to:
            return  # a pruning that goes on, or is repeated, deletes it
        own_id = row.key.removesuffix(ERASED_SUFFIX)
        index = bisect_left(self._ends, position)
        listed = self._entries_of(index).get(own_id)
        if row.key.endswith(ERASED_SUFFIX):
            self._report.erased += 1
            self._erased.append(row.key)
        if listed is None:
            self._report.add(
                "inserted",
                row.key,
                "no seal lists it, though all are sealed up to its position",
            )
            return
        self._matched[index] += 1
        self._report.sealed += 1
        if listed.digest != digest_of(entry):
            self._report.add(
                "edited", row.key, f"it is not what seal {self._numbers[index]} lists"
            )
        elif listed.position != position:
            self._report.add(
                "moved",
                row.key,
                f"its commit is at {position}, and the seal says {listed.position}",
            )

    def _entries_of(self, index: int) -> dict[str, SealedEntry]:
        """Return the entries of a seal, by id; a few seals stay in memory."""
        number = self._numbers[index]
        found = self._cache.get(number)
        if found is None:
            key = seal_id(number)
            row = self._store.read(AUDIT, (key,)).get(key)
            content = None if row is None else row.record.content
            entries = () if content is None else Seal.from_content(content).entries
            found = self._cache[number] = {e.id: e for e in entries}
            if len(self._cache) > _SEALS_IN_MEMORY:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(number)
        return found

    def _name_missing(self, index: int) -> None:
        listed = self._entries_of(index)
        for chunk in _chunks(iter(listed)):
            wanted = [*chunk, *(key + ERASED_SUFFIX for key in chunk)]
            there = self._store.read(AUDIT, wanted)
            for key in chunk:
                if key not in there and key + ERASED_SUFFIX not in there:
                    self._report.add(
                        "missing",
                        key,
                        f"seal {self._numbers[index]} lists it, and it is not there",
                    )


class _Tail:
    """Entries that are not sealed yet, compared with the change log."""

    def __init__(
        self, store: StoreBackend, report: AuditReport, newest: KnownSeal | None
    ) -> None:
        self._store = store
        self._own = store.own_log()
        self._report = report
        self._newest = newest
        self._begins = 0
        """Position from which on the log has every commit: the first one of the present
        epoch, at which the store is primary; 0: there is none."""
        self._end = 0
        self._logged: set[str] = set()

    def check(self, upto: int) -> int:
        """Compare the log with the entries; return the position of its end."""
        self._end, head = upto, self._own.head()
        try:
            changes = self._own.changes(upto)
            self._compare(changes)
        except ChangesExpired as expired:
            self._compare(self._own.changes(expired.oldest))
        # Without commits of its own at this epoch, all that it has came from elsewhere.
        return self._end if self._begins else max(self._end, head)

    def _compare(self, changes: Iterator[Change]) -> None:
        audited: set[str] = set()
        epoch = self._own.role().epoch
        for chunk in _chunks(changes):
            for change in chunk:
                if not self._begins and change.epoch == epoch:
                    self._begins = change.sequence
            self._end = chunk[-1].sequence
            logged = {
                r.key: (r.version, r.record)
                for change in chunk
                for r in change.records
                if r.collection == AUDIT and r.record is not None
            }
            self._logged |= logged.keys()
            there = self._store.read(
                AUDIT, [*logged, *(key + ERASED_SUFFIX for key in logged)]
            )
            for key, (version, entry) in logged.items():
                self._compare_one(key, version, entry, there)
            for change in chunk:
                self._check_recorded(change, audited)

    def _compare_one(
        self, key: str, version: int, entry: AuditEntry, there: dict[str, Row]
    ) -> None:
        row = there.get(key)
        if row is None:
            if key + ERASED_SUFFIX not in there and not key.endswith(ERASED_SUFFIX):
                self._report.add(
                    "missing", key, "the change log has it, and it is not there"
                )
        elif digest_of(row.record) != digest_of(entry):
            self._report.add("edited", key, "it is not what the change log has")
        elif row.version != version:
            self._report.add(
                "moved",
                key,
                f"it is at {row.version}, and the change log says {version}",
            )

    def _check_recorded(self, change: Change, audited: set[str]) -> None:
        """Check that a commit of audited records has entries.

        Programs whose schema does not have a collection audited write no entries. So it
        counts from the first commit on that has one.
        """
        has = {
            r.record.collection
            for r in change.records
            if r.collection == AUDIT and r.record is not None
        }
        lacks = {r.collection for r in change.records} & audited - has
        audited |= {
            name for name in has if name is not None
        } & self._store.schema.audited
        for name in sorted(lacks):
            self._report.add(
                "unrecorded", change.token or str(change.sequence),
                f"a commit of {change.at.isoformat()} wrote {name}, and has no entry",
            )  # fmt: skip

    def check_row(self, row: Row) -> None:
        """Count an entry that is not sealed; one that the log should have and has not is named."""
        if row.key in self._logged:
            self._report.unsealed += 1
        elif self._begins and row.version >= self._begins:
            self._report.add(
                "inserted", row.key, "the change log has no commit with it"
            )
        else:
            self._report.unproven += 1  # of another primary, or before the log begins


def _is_whole(entry: AuditEntry) -> bool:
    if entry.erased_at is not None or entry.salt is None:
        return entry.commitment is not None
    return entry.commitment == committed(entry.salt, entry.key, entry.content)


def _chunks(items: Iterator[Any]) -> Iterator[list[Any]]:
    while chunk := list(islice(items, _CHUNK)):
        yield chunk
