"""History reader: change-log entries, and point-in-time state, read from the files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pend_storage._model.attribution import token_time
from pend_storage.errors import ChangesExpired
from pend_storage.schema import Schema
from pend_storage.stores._inmemory.state import LogRecord, State
from pend_storage.stores.json._journal.journal import Position
from pend_storage.stores.json._journal.log_records import IN_LOG, row_beginning
from pend_storage.stores.json._journal.segments import (
    SegmentReader,
    numbered,
    read_start,
    segment_path,
    snapshot_path,
)
from pend_storage.stores.json._journal.snapshot import read_snapshot

__all__ = ["effects_after", "entries_about", "entry_of", "oldest_kept", "state_at"]


def effects_after(
    directory: Path, after: int, end: Position, name: str
) -> Iterator[LogRecord]:
    """Yield the entries of the change log after a sequence number, read from the segments.

    Args:
        directory: the store's own directory.
        after: sequence number.
        end: published position up to which to read.
        name: of the store, in errors.

    Raises:
        ChangesExpired: the journal does not reach back so far.
        CorruptFile: a segment is damaged.
    """
    first = _first_segment(directory, after, end, name)
    for number in range(first, end.segment + 1):
        try:
            reader = SegmentReader.open(segment_path(directory, number))
        except FileNotFoundError:  # compaction dropped it while the one before was read
            raise ChangesExpired(
                store=name, after=after, oldest=_oldest(directory)
            ) from None
        try:
            limit = end.end if number == end.segment else None
            for payload in reader.payloads(limit):
                for effect in payload.effects:
                    if effect.sequence > after:
                        yield effect
            damage = None if limit is not None else reader.damage()
            if damage is not None:
                raise reader.corrupt(damage.reason)
        finally:
            reader.close()


def entry_of(directory: Path, token: str, end: Position) -> LogRecord | None:
    """Return the change-log entry of a token; None if there is none in the journal.

    A commit is made after its token. So the scan begins with the segment that was the
    present one at the time of the token.

    Args:
        directory: the store's own directory.
        token: of the commit.
        end: published position up to which to read.
    """
    numbers = [n for n in numbered(directory, "journal") if n <= end.segment]
    made = token_time(token)
    while made is not None and len(numbers) > 1:
        if read_start(directory, numbers[1]).at.timestamp() > made:
            break
        del numbers[0]
    for number in numbers:
        reader = SegmentReader.open(segment_path(directory, number))
        try:
            for payload in reader.payloads(end.end if number == end.segment else None):
                for effect in payload.effects:
                    if effect.token == token:
                        return effect
        finally:
            reader.close()
    return None


def entries_about(
    directory: Path, collection: str, key: str, end: Position
) -> Iterator[LogRecord]:
    """Yield the change-log entries of one key, with its row alone, the last one first.

    Segments without the key are only searched, and frames without it are not decoded.

    Args:
        directory: the store's own directory.
        collection: of the key.
        key: of the record.
        end: published position up to which to read.

    Raises:
        CorruptFile: a segment that has the key is damaged.
    """
    text = row_beginning(collection, key)
    for number in reversed(numbered(directory, "journal")):
        if number > end.segment:
            continue
        try:
            reader = SegmentReader.open(segment_path(directory, number))
        except FileNotFoundError:  # dropped at this moment, as all before it
            return
        limit = end.end if number == end.segment else None
        try:
            found = [
                replace(effect, rows=(row,))
                for payload in reader.payloads_with(text, IN_LOG, limit=limit)
                for effect in payload.effects
                if effect.sequence
                for row in effect.rows
                if (row.collection, row.key) == (collection, key)
            ]
        finally:
            reader.close()
        yield from reversed(found)


def _first_segment(directory: Path, after: int, end: Position, name: str) -> int:
    """Return the segment that may hold the first entry after a sequence number."""
    number = end.segment
    base = read_start(directory, number).base
    while base > after:
        number -= 1
        try:
            base = read_start(directory, number).base
        except FileNotFoundError:  # dropped, perhaps at this moment
            raise ChangesExpired(store=name, after=after, oldest=base) from None
    return number


def oldest_kept(directory: Path, after: int, end: Position, name: str) -> int:
    """Return the sequence number up to which the change log is dropped.

    Arguments as for :func:`effects_after`.

    Raises:
        ChangesExpired: it is above ``after``.
    """
    _first_segment(directory, after, end, name)
    return _oldest(directory)


def _oldest(directory: Path) -> int:
    while True:
        number = min(numbered(directory, "journal"))
        try:
            return read_start(directory, number).base
        except FileNotFoundError:
            continue  # dropped at this moment


def state_at(directory: Path, schema: Schema, position: Position) -> State | None:
    """Return the state at an earlier position; None if no snapshot before it is left."""
    numbers = [n for n in numbered(directory, "snapshot") if n <= position.segment]
    if not numbers:
        return None
    found = read_snapshot(snapshot_path(directory, numbers[-1]), schema, "")
    for number in range(found.segment, position.segment + 1):
        reader = SegmentReader.open(segment_path(directory, number))
        try:
            limit = position.end if number == position.segment else None
            for payload in reader.payloads(limit):
                for effect in payload.effects:
                    found.state.install(effect)
        finally:
            reader.close()
    return found.state
