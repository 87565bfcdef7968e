"""Reader of the history: change-log entries, and the state at an earlier position."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pend_storage._model.attribution import token_time
from pend_storage.errors import ChangesExpired
from pend_storage.schema import Schema
from pend_storage.stores._inmemory.state import LogRecord, State
from pend_storage.stores.json._journal.journal import Position
from pend_storage.stores.json._journal.segments import (
    SegmentReader,
    numbered,
    read_start,
    segment_path,
    snapshot_path,
)
from pend_storage.stores.json._journal.snapshot import read_snapshot

__all__ = ["effects_after", "entry_of", "oldest_kept", "state_at"]


def effects_after(
    directory: Path, after: int, end: Position, name: str
) -> Iterator[LogRecord]:
    """Yield the entries of the change log after a sequence number, read from the journal.

    Args:
        directory: where the journal is.
        after: the sequence.
        end: how far to read.
        name: how errors call the store.

    Raises:
        ChangesExpired: the journal does not reach back so far.
    """
    first = _first_segment(directory, after, end, name)
    for number in range(first, end.segment + 1):
        try:
            reader = SegmentReader.open(segment_path(directory, number))
        except FileNotFoundError:  # dropped while we were reading the one before
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
    """Return the entry of the change log that has a token; None where it is not kept.

    A commit is made after its token, so the journal is read from the segment on which
    was begun last when the token was made.

    Args:
        directory: where the journal is.
        token: of the commit.
        end: how far to read.
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


def _first_segment(directory: Path, after: int, end: Position, name: str) -> int:
    """The segment in which the first entry after a sequence may be."""
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

    Args: as for :func:`effects_after`.

    Raises:
        ChangesExpired: it lies above the sequence asked about.
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
    """Return the state at an earlier position; None where that is not kept any more."""
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
