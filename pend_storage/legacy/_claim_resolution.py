"""Claim resolution: conflicts of an edit with records that claim the same key or value.

A *claim* is a key, or a unique value, that only one record of a file may have. Read as a
whole, a file grants it to the first claimant, and quarantines the others. An edit of a few
records has the same result without reading the file: every record that claims something
that the edit takes or releases is looked up in the store.
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
from pend_storage.legacy._record_reader import Piece, RecordReader, claim_error, newest
from pend_storage.query import field as column
from pend_storage.schema import QUARANTINE

__all__ = ["ClaimResolution", "Outcome"]

_TAKEN: Final = frozenset({"key-taken", "value-taken"})
_Claim: TypeAlias = tuple[Any, ...]


@dataclass(slots=True)
class Outcome:
    """Outcome of the resolution of one edit."""

    gone: list[Any] = field(default_factory=list)
    """Stored records that are replaced or deleted."""
    entries: list[Entry] = field(default_factory=list)
    """Entries that replace them, by position."""
    operations: list[Put] = field(default_factory=list)
    """Writes of a record that keeps its identity."""
    refused: list[str] = field(default_factory=list)
    """Reasons for which texts of the edit cannot be placed."""


@dataclass(slots=True)
class _Claimant:
    """Claimant: a record of the file, or a text that is to become one."""

    rank: int
    place: str
    claims: Sequence[_Claim]
    entry: Entry | None
    """Entry to place if it wins all its claims; None: it is placed already."""
    present: Any
    """Stored record, placed or quarantined; None for a text of the edit."""
    piece: Piece | None
    """Text of the edit; None for stored records."""


class ClaimResolution:
    """Resolution of one edit against the other claimants of its claims."""

    def __init__(
        self,
        edit: EditReads,
        gone: Sequence[Any],
        written: Sequence[tuple[Piece, Entry]],
        same: Any,
    ) -> None:
        """Prepare the resolution.

        Args:
            edit: reads of the edit.
            gone: the records that the edit replaces or deletes.
            written: its texts, each with its entry when parsed by itself.
            same: the record of ``gone`` that keeps its identity.
        """
        self._edit = edit
        self._layout = edit.layout
        self._gone = gone
        self._written = written
        # A quarantined text is not a record yet, so it has no identity to keep.
        self._same = None if isinstance(same, QuarantinedRecord) else same
        self._reader: Final = RecordReader(
            edit.layout.file, edit.layout.mapping, edit.store.schema
        )
        self._unanchored: set[str] = set()
        """Keys of records whose required reference dangles."""
        self._ids = {self._id(record) for record in gone}
        self._waiting: list[_Claimant] | None = None

    def resolve(self) -> Outcome:
        """Grant each claim to one claimant, and quarantine the others."""
        outcome = Outcome()
        claimants: list[_Claimant] = []
        claims = [c for record in self._gone for c in self._claims_of(record)]
        for piece, entry in self._written:
            home = self._merged_home(piece, entry)
            if home.collection != QUARANTINE:
                claimants.append(self._edit_claimant(piece, entry, home))
                claims += claimants[-1].claims
                continue
            outcome.refused.append(entry.home.record.reason)
            outcome.entries.append(entry)
            if self._same is not None:
                outcome.gone.append(self._same)
        outcome.gone += [r for r in self._gone if r is not self._same]
        self._add_competitors(claimants, claims)
        self._decide(claimants, outcome)
        outcome.entries.sort(key=lambda e: self._layout.position(e.home.record) or 0)
        return outcome

    # -- claimants ----------------------------------------------------------------------

    def _merged_home(self, piece: Piece, entry: Entry) -> Put:
        """Return the record of an entry, merged into the one whose identity it keeps."""
        home, same = entry.home, self._same
        if same is None or home.collection == QUARANTINE:
            return home
        merged = self._layout.mapping.merge(same, home.record)
        # The stored hash is of the text that a file had; this content is a program's.
        merged = replace(merged, content_hash=None)
        position = piece.position
        if position is not None and position != self._layout.rank(same):
            merged = self._layout.placed(merged, position)
        schema = self._edit.store.schema
        followed = anchored(schema[home.collection], merged, self._target_exists)
        if followed is None:
            self._unanchored.add(home.key)
            return home
        put = schema.put(home.collection, followed)
        if put.key == schema[home.collection].key_of(same):
            return put
        self._same = None  # of another key it is another record
        return home

    def _target_exists(self, collection: str, key: str) -> bool:
        return self._edit.find(collection, key) is not None

    def _edit_claimant(self, piece: Piece, entry: Entry, home: Put) -> _Claimant:
        entry = replace(entry, home=home)
        place = str(piece.number) if piece.name is None else piece.name
        rank = piece.position or 0
        claims = self._reader.claims(home)
        return _Claimant(rank, place, claims, entry, None, piece)

    def _add_competitors(
        self, claimants: list[_Claimant], claims: list[_Claim]
    ) -> None:
        """Add the other claimants of these claims, and of theirs: the transitive closure.

        A claimant that loses releases its other claims, which a third record may take.
        """
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
        """Yield the placed record that holds a claim."""
        edit, layout = self._edit, self._layout
        verbs = edit.tx.collection(layout.collection)
        if len(claim) == 1:
            found = edit.find(layout.collection, claim[0])
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
        """Yield the quarantined texts that wait for a claim."""
        if self._waiting is None:
            self._waiting = list(self._read_waiting())
        yield from (w for w in self._waiting if claim in w.claims)

    def _read_waiting(self) -> Iterator[_Claimant]:
        schema = self._edit.store.schema
        for record in self._edit.aside():
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
        put = self._edit.store.schema.put(self._layout.collection, record)
        return self._reader.claims(put)

    def _id(self, record: Any) -> str:
        if isinstance(record, QuarantinedRecord):
            return f"{QUARANTINE} {record.id}"
        spec = self._edit.store.schema[self._layout.collection]
        return f"{spec.name} {spec.key_of(record)}"

    # -- decision -----------------------------------------------------------------------

    def _decide(self, claimants: list[_Claimant], outcome: Outcome) -> None:
        """Grant each claim to its first claimant in the order of the file."""
        has: dict[_Claim, str] = {}
        # Of equal rank, a stored record comes before a text of the edit.
        for one in sorted(claimants, key=lambda c: (c.rank, c.piece is not None)):
            clash = next((claim for claim in one.claims if claim in has), None)
            reason = self._refusal(one)
            if clash is None and reason is None:
                has.update(dict.fromkeys(one.claims, one.place))
                self._place(one, outcome)
                continue
            code = "value-taken"
            if clash is not None:
                error = claim_error(clash, has[clash])
                code, reason = error.code, error.reason
            self._quarantine(one, code, str(reason), outcome)

    def _refusal(self, one: _Claimant) -> str | None:
        """Return why the store refuses a claimant, apart from records of its own file."""
        if one.entry is None:
            return None
        home = one.entry.home
        if home.key in self._unanchored:
            return "it refers to a record that is not there"
        return self._edit.refused.get((home.collection, home.key))

    def _place(self, one: _Claimant, outcome: Outcome) -> None:
        if one.entry is None:
            return
        if one.piece is not None and self._same is not None:
            outcome.operations.append(one.entry.home)
            outcome.operations += self._edit.facts(one.entry.derived)
            return
        if one.present is not None:  # its place in quarantine is released
            outcome.gone.append(one.present)
        outcome.entries.append(one.entry)

    def _quarantine(
        self, one: _Claimant, code: str, reason: str, outcome: Outcome
    ) -> None:
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
            outcome.gone.append(one.present)  # quarantined again, for another reason
            record: QuarantinedRecord = one.present
            piece = Piece(
                quarantine.name_of(record), record.raw, 0, 0, position=record.position
            )
            outcome.entries.append(self._reader.set_aside(piece, code, reason))

    def _shown(self, one: _Claimant) -> Piece:
        """Render a placed record as its text in the file."""
        header = self._edit.header()
        text = self._layout.render_one(header, one.present)
        is_map = FileEnvelope.of(header).shape in NAMED
        name = self._layout.mapping.name(one.present) if is_map else None
        number = min(one.rank, sys.maxsize)
        return Piece(name, text, 0, number, one.rank)
