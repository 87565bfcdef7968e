"""Screens: the documents of divergences, quarantine, history, audit and backups."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from pend_storage._model.records import QuarantinedRecord
from pend_storage._redaction import redacted
from pend_storage._shown import bounded, clause, one_line, path_text
from pend_storage.console._feed import shown_key
from pend_storage.console._looking import Reading
from pend_storage.errors import ConfigError, PendStorageError
from pend_storage.operations.divergences import Divergence, list_divergences
from pend_storage.operations.quarantine import find
from pend_storage.query import field
from pend_storage.schema import Schema

__all__ = [
    "MOST_RAW",
    "audit",
    "backups",
    "divergences",
    "history",
    "masked",
    "quarantine",
    "quarantined",
    "raw_of",
]

_PAGE: Final = 100
_PAGE_QUARANTINE: Final = 50
_MOST_COUNTED: Final = 20_000
"""Quarantined records of which the groups are counted."""
MOST_RAW: Final = 100_000
"""Bytes of a quarantined text in a document; the rest is in the download."""
_LONGEST: Final = 500
_WORD: Final = re.compile(r"\w")


# -- divergences --------------------------------------------------------------------------


def divergences(reading: Reading, wanted: Mapping[str, str]) -> dict[str, Any]:
    """Return the findings that meet a filter, a page at a time.

    Args:
        reading: opens the stores for reading.
        wanted: ``collection``, ``kind``, ``source``, ``state``, ``after``.

    Raises:
        StoreUnavailable: the primary cannot be reached.
    """
    state = wanted.get("state", "open")
    with reading.environment() as passive:
        if passive.pair is None:
            return {"items": [], "total": 0, "next": None}
        schema = passive.primary().schema
        found = list_divergences(passive.pair, closed=state != "open")
    names = ("collection", "kind", "source")
    chosen = [
        finding
        for finding in found
        if all(wanted.get(n) in {None, "", getattr(finding, n)} for n in names)
        and state in {"", "all", finding.state}
    ]
    start = _start(wanted.get("after"))
    page = chosen[start : start + _PAGE]
    more = start + _PAGE < len(chosen)
    return {
        "items": [_finding(schema, finding) for finding in page],
        "total": len(chosen),
        "next": str(start + _PAGE) if more else None,
    }


def _start(text: str | None) -> int:
    if (
        text
        and text.isascii()
        and text.isdigit()
        and len(text) < len(str(_MOST_COUNTED))
    ):
        return int(text)
    return 0


def _finding(schema: Schema, finding: Divergence) -> dict[str, Any]:
    spec = schema[finding.collection]
    # A finding is redacted where it is made; once more here, for one of another program.
    places = [redacted(spec, place) for place in finding.differences]
    return {
        "id": finding.id,
        "collection": finding.collection,
        "key": shown_key(schema, finding.collection, finding.key),
        "kind": finding.kind,
        "source": finding.source,
        "state": finding.state,
        "primary_version": str(finding.versions[0]),
        "secondary_version": str(finding.versions[1]),
        "accepted": finding.accepted,
        "quarantined": finding.quarantined,
        "first_seen": finding.first_seen,
        "last_seen": finding.last_seen,
        "differences": [
            {
                "path": path_text(place.path),
                "left": bounded(place.left, _LONGEST),
                "right": bounded(place.right, _LONGEST),
            }
            for place in places
        ],
    }


# -- quarantine ---------------------------------------------------------------------------


def quarantine(reading: Reading, wanted: Mapping[str, str]) -> dict[str, Any]:
    """Return quarantined records that meet a filter, a page at a time, and their groups.

    Args:
        reading: opens the stores for reading.
        wanted: ``file``, ``code``, ``status`` (``waiting`` by default), ``after``.

    Raises:
        InvalidQuery: the cursor is none of this list.
        StoreUnavailable: the primary cannot be reached.
    """
    status = wanted.get("status") or "waiting"
    where = [] if status == "all" else [field("status") == status]
    where += [
        field(name) == value for name in ("file", "code") if (value := wanted.get(name))
    ]
    with reading.primary() as store:
        records = store.collection(QuarantinedRecord)
        page = records.find(
            *where,
            order_by=["file", "position", "place"],
            limit=_PAGE_QUARANTINE,
            after=wanted.get("after") or None,
        )
        waiting = (r for r in records.scan() if r.is_waiting)
        groups = Counter((r.file, r.code) for r in islice(waiting, _MOST_COUNTED))
    return {
        "items": [_entry(record) for record in page.items],
        "groups": [
            {"file": file, "code": code, "count": count}
            for (file, code), count in sorted(groups.items())
        ],
        "next": page.next,
    }


def _entry(record: QuarantinedRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "file": record.file,
        "place": one_line(record.place, _LONGEST),
        "code": record.code,
        "reason": clause(record.reason),
        "status": record.status,
        "seen_at": record.seen_at,
        "size": len(record.raw),
    }


def quarantined(reading: Reading, identity: str, *, whole: bool) -> dict[str, Any]:
    """Return one quarantined record; its text is masked unless it may be seen.

    Args:
        reading: opens the stores for reading.
        identity: its id, or an unambiguous beginning of it.
        whole: whether the letters and digits of its text are shown.

    Raises:
        ConfigError: there is no such record.
        StoreUnavailable: the primary cannot be reached.
    """
    with reading.primary() as store:
        record = find(store, identity)
    text = record.raw[:MOST_RAW].decode("utf-8", "replace")
    return {
        "record": {
            **_entry(record),
            "note": record.note or None,
            "raw": text if whole else masked(text),
            "masked": not whole,
            "cut": len(record.raw) > MOST_RAW,
            "at": _place_of(record.reason, text),
            "download": f"api/v1/quarantine/{record.id}/raw",
        }
    }


def masked(text: str) -> str:
    """Return a text of the same length with a dot for each letter and each digit."""
    return _WORD.sub("\N{BULLET}", text)


_AT_CHARACTER: Final = re.compile(r"\b(?:char|character|byte|offset) (\d{1,9})\b")


def _place_of(reason: str, text: str) -> dict[str, int] | None:
    """Return the place in a text that a reason names; None: all of it is at fault."""
    found = _AT_CHARACTER.search(reason)
    if found is None or int(found[1]) >= len(text):
        return None
    return {"start": int(found[1]), "length": 1}


def raw_of(reading: Reading, identity: str) -> tuple[str, bytes]:
    """Return the id and the bytes of a quarantined record, as they stood in its file."""
    with reading.primary() as store:
        record = find(store, identity)
    return record.id, record.raw


# -- history, audit, backups --------------------------------------------------------------


def history(reading: Reading) -> dict[str, Any]:
    """Return the switches, newest first, and the operations that the audit has."""
    with reading.environment() as passive:
        switches = () if passive.pair is None else passive.pair.history()
    found = audit(reading, {})
    return {
        "switches": [*reversed(switches)],
        "operations": [
            {
                "at": line["at"],
                "by": line["by"],
                "action": line["action"],
                "reason": line["reason"],
            }
            for line in found["items"]
            if line["collection"] is None
        ],
    }


def audit(reading: Reading, wanted: Mapping[str, str]) -> dict[str, Any]:
    """Return entries of the audit that meet a filter, newest first."""
    del reading, wanted
    return {"items": [], "next": None, "problem": "this environment has no audit"}


def backups(listing: Any, problem: str | None, facts: Any) -> dict[str, Any]:
    """Return the backups of the repository, newest first.

    Args:
        listing: of ``operations.backup.catalog``; None where it cannot be read.
        problem: why.
        facts: of the status, for the last drill.
    """
    now = datetime.now(UTC)
    items: Sequence[Any] = () if listing is None else listing.backups
    return {
        "repository": None if listing is None else listing.repository,
        "problem": problem,
        "items": [_backup(item, now) for item in reversed(items)],
        "drill": None if facts is None else facts.drill,
        "gaps": [] if listing is None else listing.gaps,
    }


def _backup(item: Any, now: datetime) -> dict[str, Any]:
    at = datetime.fromisoformat(item.manifest.point.at)
    return {
        "id": item.manifest.id,
        "at": at,
        "age_seconds": max(0.0, (now - at).total_seconds()),
        "verified_at": item.verified_at,
        "drilled_at": item.drilled_at,
        "bytes": item.size,
        "state": item.state,
        "pinned": item.pinned,
        "label": item.manifest.label,
    }


def listed_backups(reading: Reading) -> tuple[Any, str | None]:
    """Return the listing of the repository, or why it cannot be read."""
    from pend_storage.operations.backup.catalog import list_backups  # noqa: PLC0415

    if reading.settings.backup is None:
        return (
            None,
            "no repository of backups is configured: [environments.NAME.backup]",
        )
    try:
        return list_backups(reading.settings), None
    except (ConfigError, PendStorageError) as error:
        return None, str(error)
