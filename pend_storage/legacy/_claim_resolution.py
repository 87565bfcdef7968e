"""Resolution of claims: which of several records of one file has a key or a unique value.

Read as a whole, a file gives it to the first of them, and the others wait in quarantine.
One write gives the same result without the rest of the file: any record that claims what an edit
takes, or lets go of, is looked for in the store.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from pend_storage._layouts.layout import Entry
from pend_storage._layouts.references import anchored
from pend_storage._model.records import Put, QuarantinedRecord
from pend_storage.legacy import _quarantine as quarantine
from pend_storage.legacy._edit_reads import EditReads
from pend_storage.legacy._file_envelope import NAMED, FileEnvelope
from pend_storage.legacy._record_reader import Piece, RecordReader, newest, taken
from pend_storage.query import field as column
from pend_storage.schema import QUARANTINE

__all__ = ["ClaimResolution", "Outcome"]

_TAKEN: Final = frozenset({"key-taken", "value-taken"})
_Claim: TypeAlias = tuple[Any, ...]


@dataclass(slots=True)
class Outcome:
    """What becomes of one edit."""

    gone: list[Any] = field(default_factory=list)
    """The records of the store in whose places something else stands, or nothing."""
    entries: list[Entry] = field(default_factory=list)
    """What stands there now, by position."""
    operations: list[Put] = field(default_factory=list)
    """Of a record that stays the same one."""
    refused: list[str] = field(default_factory=list)
    """Why texts of the edit cannot be placed."""


@dataclass(slots=True)
class _Claimant:
    """One record of the file, or a text that is to be one."""

    rank: int
    place: str
    claims: Sequence[_Claim]
    entry: Entry | None
    """What it becomes, if it gets what it claims; None: it is placed already."""
    present: Any
    """What the store holds of it."""
    piece: Piece | None
    """The text of the edit; None where it is not of the edit."""


class ClaimResolution:
    """Decide one edit against the other records that claim what it claims."""

    def __init__(
        self,
        writing: EditReads,
        gone: Sequence[Any],
        written: Sequence[tuple[Piece, Entry]],
        same: Any,
    ) -> None:
        """Make one.

        Args:
            writing: reads what it must look at.
            gone: the records in whose places it writes, or that it takes out.
            written: its texts, and what each of them is by itself.
            same: the record of ``gone`` that stays the same one.
        """
        self._writing = writing
        self._layout = writing.layout
        self._gone = gone
        self._written = written
        # A text in quarantine is no record yet, so it cannot stay one.
        self._same = None if isinstance(same, QuarantinedRecord) else same
        self._reader: Final = RecordReader(
            writing.layout.file, writing.layout.mapping, writing.store.schema
        )
        self._unanchored: set[str] = set()
        """Keys of records that need one which is not there."""
        self._ids = {self._id(record) for record in gone}
        self._waiting: list[_Claimant] | None = None

    def settle(self) -> Outcome:
        """Decide who gets what."""
        outcome = Outcome()
        claimants: list[_Claimant] = []
        claims = [c for record in self._gone for c in self._claims_of(record)]
        for piece, entry in self._written:
            home = self._home(piece, entry)
            if home.collection != QUARANTINE:
                claimants.append(self._of_edit(piece, entry, home))
                claims += claimants[-1].claims
                continue
            outcome.refused.append(entry.home.record.reason)
            outcome.entries.append(entry)
            if self._same is not None:
                outcome.gone.append(self._same)
        outcome.gone += [r for r in self._gone if r is not self._same]
        self._close(claimants, claims)
        self._decide(claimants, outcome)
        outcome.entries.sort(key=lambda e: self._layout.position(e.home.record) or 0)
        return outcome

    # -- who claims what ----------------------------------------------------------------

    def _home(self, piece: Piece, entry: Entry) -> Put:
        """The record of an entry; where it stays the same one, on top of that."""
        home, same = entry.home, self._same
        if same is None or home.collection == QUARANTINE:
            return home
        merged = self._layout.mapping.merge(same, home.record)
        # It no longer is what some file told.
        merged = replace(merged, content_hash=None)
        position = piece.position
        if position is not None and position != self._layout.rank(same):
            merged = self._layout.placed(merged, position)
        schema = self._writing.store.schema
        followed = anchored(schema[home.collection], merged, self._leads)
        if followed is None:
            self._unanchored.add(home.key)
            return home
        put = schema.put(home.collection, followed)
        if put.key == schema[home.collection].key_of(same):
            return put
        self._same = None  # of another key it is another record
        return home

    def _leads(self, collection: str, key: str) -> bool:
        return self._writing.find(collection, key) is not None

    def _of_edit(self, piece: Piece, entry: Entry, home: Put) -> _Claimant:
        entry = replace(entry, home=home)
        place = str(piece.number) if piece.name is None else piece.name
        rank = piece.position or 0
        claims = self._reader.claims(home)
        return _Claimant(rank, place, claims, entry, None, piece)

    def _close(self, claimants: list[_Claimant], claims: list[_Claim]) -> None:
        """Add every other record that claims one of these, and one of what those claim."""
        seen: set[_Claim] = set()
        known: set[str] = set()
        while claims:
            claim = claims.pop()
            if claim in seen:
                continue
            seen.add(claim)
            others = [*self._holders(claim), *self._waiting_for(claim)]
            for other in others:
                token = self._id(other.present)
                if token not in known:
                    known.add(token)
                    claimants.append(other)
                    claims += other.claims

    def _holders(self, claim: _Claim) -> Iterator[_Claimant]:
        """The placed record that has what is claimed."""
        writing, layout = self._writing, self._layout
        verbs = writing.tx.collection(layout.collection)
        if len(claim) == 1:
            found = writing.find(layout.collection, claim[0])
            records = [] if found is None else [found]
        else:
            names, values = claim[0], claim[1:]
            equal = [column(n) == v for n, v in zip(names, values, strict=True)]
            records = [row.record for row in verbs.rows(*layout.mapping.where, *equal)]
        for record in records:
            if layout.owns(record) and self._id(record) not in self._ids:
                rank = layout.rank(record)
                name = layout.member_name(record)
                yield _Claimant(
                    newest() if rank is None else rank,
                    layout.mapping.identity(record) if name is None else name,
                    self._claims_of(record),
                    None,
                    record,
                    None,
                )

    def _waiting_for(self, claim: _Claim) -> Iterator[_Claimant]:
        """The quarantined texts that claim it too."""
        if self._waiting is None:
            self._waiting = list(self._read_waiting())
        yield from (w for w in self._waiting if claim in w.claims)

    def _read_waiting(self) -> Iterator[_Claimant]:
        schema = self._writing.store.schema
        for record in self._writing.aside():
            is_old = self._id(record) in self._ids or record.position is None
            if is_old or not record.is_waiting:
                continue
            if record.code not in _TAKEN:
                continue
            entry = self._layout.retry(schema, record)
            if entry.home.collection != QUARANTINE:
                claims = self._reader.claims(entry.home)
                rank = record.position or 0
                yield _Claimant(rank, record.place, claims, entry, record, None)

    def _claims_of(self, record: Any) -> list[_Claim]:
        if isinstance(record, QuarantinedRecord):
            return []
        put = self._writing.store.schema.put(self._layout.collection, record)
        return self._reader.claims(put)

    def _id(self, record: Any) -> str:
        if isinstance(record, QuarantinedRecord):
            return f"{QUARANTINE} {record.id}"
        spec = self._writing.store.schema[self._layout.collection]
        return f"{spec.name} {spec.key_of(record)}"

    # -- who gets it --------------------------------------------------------------------

    def _decide(self, claimants: list[_Claimant], outcome: Outcome) -> None:
        """Give everything to the first in the file that claims it."""
        has: dict[_Claim, str] = {}
        # Of equal rank, what is there comes first.
        for one in sorted(claimants, key=lambda c: (c.rank, c.piece is not None)):
            clash = next((claim for claim in one.claims if claim in has), None)
            reason = self._refusal(one)
            if clash is None and reason is None:
                has.update(dict.fromkeys(one.claims, one.place))
                self._win(one, outcome)
                continue
            code = "value-taken"
            if clash is not None:
                error = taken(clash, has[clash])
                code, reason = error.code, error.reason
            self._lose(one, code, str(reason), outcome)

    def _refusal(self, one: _Claimant) -> str | None:
        """Why the store refuses it, for a reason that the file cannot tell."""
        if one.entry is None:
            return None
        home = one.entry.home
        if home.key in self._unanchored:
            return "it refers to a record that is not there"
        return self._writing.refused.get((home.collection, home.key))

    def _win(self, one: _Claimant, outcome: Outcome) -> None:
        if one.entry is None:
            return
        if one.piece is not None and self._same is not None:
            outcome.operations.append(one.entry.home)
            outcome.operations += self._writing.facts(one.entry.derived)
            return
        if one.present is not None:  # it waits no longer
            outcome.gone.append(one.present)
        outcome.entries.append(one.entry)

    def _lose(self, one: _Claimant, code: str, reason: str, outcome: Outcome) -> None:
        if one.piece is not None:
            outcome.refused.append(reason)
            outcome.entries.append(self._reader.set_aside(one.piece, code, reason))
            if self._same is not None:
                outcome.gone.append(self._same)
        elif one.entry is None:
            outcome.gone.append(one.present)
            piece = self._shown(one)
            outcome.entries.append(self._reader.set_aside(piece, code, reason))
        elif (one.present.code, one.present.reason) != (code, reason):
            outcome.gone.append(one.present)  # it goes on waiting, for another reason
            record: QuarantinedRecord = one.present
            piece = Piece(
                quarantine.name_of(record), record.raw, 0, 0, position=record.position
            )
            outcome.entries.append(self._reader.set_aside(piece, code, reason))

    def _shown(self, one: _Claimant) -> Piece:
        """The text of a placed record, as the file shows it."""
        header = self._writing.header()
        text = self._layout.render_one(header, one.present)
        is_map = FileEnvelope.of(header).shape in NAMED
        name = self._layout.mapping.name(one.present) if is_map else None
        number = min(one.rank, sys.maxsize)
        return Piece(name, text, 0, number, one.rank)
