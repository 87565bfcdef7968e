"""Reader of the records of a legacy file: each is placed, or quarantined with a reason."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pend_storage._layouts.duplicate_members import SUPERSEDED
from pend_storage._layouts.layout import Entry
from pend_storage._model.records import Put
from pend_storage._model.storable_text import safe_text
from pend_storage._shown import shown
from pend_storage.errors import InvalidRecord
from pend_storage.legacy import _quarantine as quarantine
from pend_storage.legacy._exact_json import UnreadableError, digest, read
from pend_storage.legacy._mapping import RecordMapping, Source
from pend_storage.schema import Schema

__all__ = ["Piece", "RecordReader", "claim_error", "newest"]


class Piece(NamedTuple):
    """Text of one record, cut out of its file."""

    name: str | None
    """Member name; None in a list."""
    text: bytes
    """Bytes of the record; in a map with its name."""
    value: int
    """Offset of the value in the text."""
    number: int = 0
    """Index in a list, for messages."""
    position: int | None = 0
    """Position in the file; None for a text beside the records."""
    span: tuple[int, int] | None = None
    """Byte range of the text in the file."""


@dataclass(slots=True)
class RecordReader:
    """Parser of one file's records, in file order: earlier ones hold their claims."""

    file: str
    mapping: RecordMapping
    schema: Schema
    equal: dict[int, int] = field(default_factory=dict)
    """Number of records read per digest, by its first 64 bits."""
    raws: Counter[bytes] = field(default_factory=Counter)
    """Number of quarantined texts per fingerprint."""
    taken: dict[tuple[Any, ...], str] = field(default_factory=dict)
    """Holders of keys and guarded values, by claim."""

    def entry(self, piece: Piece) -> Entry:
        """Parse one record; quarantine it where it cannot be placed."""
        place = str(piece.number) if piece.name is None else piece.name
        try:
            return self._placed(piece, place)
        except UnreadableError as error:
            return self._set_aside(piece, place, error.code, error.reason)
        except RecursionError:
            reason = "it is nested too deeply"
            return self._set_aside(piece, place, "too-deep", reason)

    def superseded(self, piece: Piece) -> Entry:
        """Quarantine a member that a later one of the same name supersedes."""
        place = str(piece.name) or '""'
        reason = (
            "a later member of the file has the same name, and only that one counts"
        )
        return self._set_aside(piece, place, SUPERSEDED, reason)

    def _placed(self, piece: Piece, place: str) -> Entry:
        position = piece.position or 0
        source = self._source(piece.name, piece.text[piece.value :], position)
        home = self._home(source)
        self._claim(home, place)
        derived = tuple(self.derived(home.record, source.value))
        return Entry(safe_text(place), home, derived, piece.span)

    def _source(self, name: str | None, text: bytes, position: int) -> Source:
        value, exact = read(text)
        found = digest(value)
        occurrence = 0
        if name is None:
            short = int(found[:16], 16)
            occurrence = self.equal.get(short, 0)
            self.equal[short] = occurrence + 1
        return Source(name, value, found, occurrence, position, exact)

    def _home(self, source: Source) -> Put:
        mapping = self.mapping
        refused: frozenset[str] = frozenset()
        while True:
            record = mapping.read(source, refused)
            try:
                return self.schema.put(mapping.collection, record)
            except InvalidRecord as error:
                if error.code == "too-large":  # it would be as large in `extra`
                    raise UnreadableError(error.code, _large(error)) from error
                column = mapping.demote(error.field)
                if column is None or column in refused:
                    raise UnreadableError("unstorable", str(error.reason)) from error
                refused |= {column}

    def _claim(self, home: Put, place: str) -> None:
        """Claim key and guarded values for a record; raises where another holds them."""
        claims = self.claims(home)
        for claim in claims:
            if claim in self.taken:
                raise claim_error(claim, self.taken[claim])
        self.taken.update(dict.fromkeys(claims, place))

    def claims(self, home: Put) -> list[tuple[Any, ...]]:
        """Return the claims of a record: its key and guarded values, unique in the file."""
        mapping, record = self.mapping, home.record
        claims: list[tuple[Any, ...]] = []
        if not mapping.by_content(record):
            claims.append((home.key,))
        for group in mapping.guarded:
            values = tuple(getattr(record, column) for column in group)
            if None not in values:
                claims.append((group, *values))
        return claims

    def derived(self, record: Any, value: Any) -> Iterator[Put]:
        """Yield the storable facts that a record derives about others."""
        for collection, further in self.mapping.derive(record, value):
            try:
                yield self.schema.put(collection, further)
            except InvalidRecord:
                continue  # nothing is lost: the legacy record itself is kept whole

    def set_aside(self, piece: Piece, code: str, reason: str) -> Entry:
        """Quarantine a record for a reason of the caller."""
        place = str(piece.number) if piece.name is None else piece.name
        return self._set_aside(piece, place, code, reason)

    def _set_aside(self, piece: Piece, place: str, code: str, reason: str) -> Entry:
        fingerprint = hashlib.sha256(piece.text).digest()
        if code == SUPERSEDED:  # counted apart: their keys are distinct, too
            fingerprint += code.encode()
        record = quarantine.make(
            self.file,
            place,
            piece.text,
            position=piece.position,
            occurrence=self.raws[fingerprint],
            code=code,
            reason=reason,
        )
        self.raws[fingerprint] += 1
        start = piece.span and piece.span[0]
        home = quarantine.put_operation(self.schema, record, start)
        return Entry(record.place, home, span=piece.span)


def _large(error: InvalidRecord) -> str:
    return error.reason if error.field is None else f"{error.field}: {error.reason}"


def claim_error(claim: tuple[Any, ...], place: str) -> UnreadableError:
    """Make the error of a record whose claim an earlier record holds."""
    if len(claim) == 1:
        return UnreadableError(
            "key-taken", f"{shown(place)} earlier in the file has its key"
        )
    columns = ", ".join(claim[0])
    return UnreadableError(
        "value-taken", f"{shown(place)} earlier in the file has its {columns}"
    )


def newest() -> int:
    """Return a position behind all others: microseconds, where files have small indices."""
    return time.time_ns() // 1_000
