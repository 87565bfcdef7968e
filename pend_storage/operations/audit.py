"""Audit: entries of commits and operations, their export, and the proof that none was changed.

Every operation of an environment calls :func:`record`. Commits of audited collections have
their entries from the store itself: see :func:`pend_storage.collection`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from pend_storage._audit_chain import Anchor, seal
from pend_storage._audit_record import record, record_done
from pend_storage._audit_retention import PrunedAudit, prune
from pend_storage._audit_verification import AuditReport, verify_chain
from pend_storage._escaping import escaped, formula_free
from pend_storage._model.attribution import Actor, time_prefix
from pend_storage._model.audit import AUDIT, SEAL, AuditEntry, is_seal, values_of
from pend_storage._model.records import JSON
from pend_storage._redaction import shown_values
from pend_storage._shown import shown
from pend_storage.errors import ConfigError
from pend_storage.query import field, make_query
from pend_storage.schema import Schema
from pend_storage.store import Store

__all__ = [
    "Anchor",
    "AuditFilter",
    "AuditLine",
    "AuditReport",
    "PrunedAudit",
    "entries",
    "export",
    "find",
    "prune_old",
    "record",
    "record_done",
    "reveal",
    "reveal_entries",
    "seal",
    "verify",
]

Format = Literal["csv", "jsonl"]
"""Format of an export."""
REVEAL: Final = "reveal"
"""Action of the entry that tells who was shown the values of records."""
_CLOCK_SLACK: Final = timedelta(minutes=1)
"""Difference between the time of an entry and that of its token, at most."""
_COLUMNS: Final = (
    "id", "at", "action", "by", "reason", "request", "collection", "key", "position",
    "values", "erased_at", "commitment",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Condition on audit entries; None: any."""

    by: str | None = None
    action: str | None = None
    collection: str | None = None
    key: str | None = None
    request: str | None = None
    since: datetime | None = None
    """First time, inclusive; with a zone."""
    until: datetime | None = None
    """Last time, exclusive; with a zone."""
    seals: bool = False
    """Whether seals are meant, too."""

    def __post_init__(self) -> None:
        for name in ("since", "until"):
            time: datetime | None = getattr(self, name)
            if time is not None and time.tzinfo is None:
                raise ConfigError(
                    f"the audit filter {name}={time.isoformat()} has no zone: add one, "
                    "such as Z for UTC."
                )

    def takes(self, entry: AuditEntry) -> bool:
        """Return whether an entry meets the condition."""
        if entry.action == SEAL and not self.seals:
            return False
        named = (
            (self.by, entry.by),
            (self.action, entry.action),
            (self.collection, entry.collection),
            (self.key, entry.key),
            (self.request, entry.request),
        )
        if any(wanted is not None and wanted != found for wanted, found in named):
            return False
        return not (
            (self.since is not None and entry.at < self.since)
            or (self.until is not None and entry.at >= self.until)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    """Audit entry as it is shown: values of personal fields are left out by default."""

    id: str
    at: datetime
    action: str
    by: str | None
    reason: str | None
    request: str | None
    collection: str | None
    key: str | None
    """None for an operation, and once it is erased."""
    position: int
    """Position of the commit in the change log."""
    values: Mapping[str, JSON]
    """Images or changed fields of the record, or details of the operation."""
    erased_at: datetime | None
    commitment: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON document; the position is a text, because it has 64 bits."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return {**found, "position": str(self.position)}


def entries(
    store: Store, wanted: AuditFilter | None = None, *, show_values: bool = False
) -> Iterator[AuditLine]:
    """Iterate over the entries that meet a condition, by time, in bounded memory.

    Args:
        store: of the environment.
        wanted: the condition; None: all entries but seals.
        show_values: show personal values and keys. The caller records that as
            ``reveal`` before.
    """
    condition = wanted or AuditFilter()
    for row in _rows(store, condition):
        if condition.takes(row.record):
            yield _line(store.schema, row.record, row.version, whole=show_values)


def _rows(store: Store, wanted: AuditFilter) -> Iterator[Any]:
    if wanted.collection is not None and wanted.key is not None:
        # The entries of one record, by an index: few.
        where = (field("collection") == wanted.collection, field("key") == wanted.key)
        query = make_query(store.schema[AUDIT], where, order_by=("id",))
        yield from store.query(AUDIT, query)
        return
    after = last = None
    if wanted.since is not None:
        after = time_prefix(wanted.since - _CLOCK_SLACK)
    if wanted.until is not None:
        last = time_prefix(wanted.until + _CLOCK_SLACK)
    for row in store.scan(AUDIT, after=after):
        if is_seal(row.key) and not wanted.seals:
            return  # seals come last
        if last is not None and row.key > last and not is_seal(row.key):
            if not wanted.seals:
                return
            continue
        yield row


def _line(
    schema: Schema, entry: AuditEntry, position: int, *, whole: bool
) -> AuditLine:
    values, key = values_of(entry), entry.key
    if not whole:
        key, values = shown_values(schema, entry.collection, key, values)
    return AuditLine(
        id=entry.id,
        at=entry.at,
        action=entry.action,
        by=entry.by,
        reason=entry.reason,
        request=entry.request,
        collection=entry.collection,
        key=key,
        position=position,
        values=values,
        erased_at=entry.erased_at,
        commitment=entry.commitment,
    )


def export(lines: Iterable[AuditLine], form: Format) -> Iterator[str]:
    """Encode entries as lines of text, one at a time.

    Args:
        lines: of :func:`entries`.
        form: ``csv`` (RFC 4180, with a header; a text that a spreadsheet would calculate
            gets an apostrophe in front), or ``jsonl`` (one JSON object a line).
    """
    if form == "jsonl":
        for line in lines:
            yield msgspec.json.encode(line.to_json()).decode() + "\n"
        return
    yield _csv(_COLUMNS)
    for line in lines:
        found = line.to_json()
        found["values"] = msgspec.json.encode(line.values).decode()
        yield _csv("" if found[name] is None else str(found[name]) for name in _COLUMNS)


def _csv(values: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow([formula_free(escaped(value)) for value in values])
    return out.getvalue()


def verify(store: Store, *, anchor: Anchor | None = None) -> AuditReport:
    """Verify the audit of a store: sealed entries by the chain, others by the change log.

    Args:
        store: of the environment.
        anchor: number and digest of a seal that were noted elsewhere, so that a chain that
            was made anew as a whole is found, too.

    Raises:
        StoreUnavailable: the store cannot be reached.
    """
    return verify_chain(store, anchor=anchor)


def find(store: Store, text: str) -> AuditLine:
    """Find an entry by its id, or by an unambiguous beginning of it, with redacted values.

    Raises:
        ConfigError: no entry matches, or more than one.
    """
    return _line(store.schema, *_found(store, text), whole=False)


def reveal(store: Store, text: str, *, by: str | None, reason: str | None) -> AuditLine:
    """Find an entry, and show its personal values: that is an entry itself, made before.

    Raises:
        ConfigError: no entry matches, or more than one.
        StoreUnavailable: the store cannot be reached; nothing is shown.
    """
    entry, position = _found(store, text)
    record(store, REVEAL, by=by, reason=reason, details={"entry": entry.id})
    return _line(store.schema, entry, position, whole=True)


def reveal_entries(
    store: Store, wanted: AuditFilter, *, by: str | None, reason: str | None
) -> Iterator[AuditLine]:
    """Iterate as :func:`entries`, with personal values: an entry tells that, made before.

    Raises:
        StoreUnavailable: the store cannot be reached; nothing is shown.
    """
    members: dict[str, Any] = msgspec.to_builtins(wanted)
    # Not the key: it may be personal, and this entry is not one of that record.
    details = {n: v for n, v in members.items() if v and n != "key"}
    record(store, REVEAL, by=by, reason=reason, details=details)
    return entries(store, wanted, show_values=True)


def _found(store: Store, text: str) -> tuple[AuditEntry, int]:
    row = store.read(AUDIT, (text,)).get(text) if text else None
    rows = [] if row is None else [row]
    if row is None and text:
        where = (field("id").starts_with(text),)
        query = make_query(store.schema[AUDIT], where, limit=2)
        rows = store.query(AUDIT, query)
    if len(rows) == 1:
        return rows[0].record, rows[0].version
    how = "more than one audit entry" if rows else "no audit entry"
    raise ConfigError(
        f"there is {how} whose id begins with {shown(text)}. See: pend-storage audit list"
    )


def prune_old(
    store: Store,
    *,
    keep_days: float,
    by: str | None,
    reason: str | None,
    dry_run: bool = False,
) -> PrunedAudit:
    """Prune the entries that are older than the retention of the audit.

    They go from the oldest on, as far as a seal that is old enough; the chain is continued
    from there.

    Args:
        store: of the environment.
        keep_days: days for which entries are kept.
        by: who lets them go.
        reason: why; None: the retention.
        dry_run: only count them.

    Raises:
        ConfigError: the role of the database may not delete entries.
        StoreUnavailable: a store cannot be reached.
    """
    before = datetime.now(UTC) - timedelta(days=keep_days)
    author = Actor(by, reason or f"kept for {keep_days:g} days")
    return prune(store, before=before, author=author, dry_run=dry_run)
