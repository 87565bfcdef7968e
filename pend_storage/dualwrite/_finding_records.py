"""Records of findings: what is kept of a divergence, and whether two are the same one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from pend_storage._model.diff import Difference
from pend_storage._model.records import JSON, FindingRecord, Row
from pend_storage._shown import bounded_path, cut, shown
from pend_storage.dualwrite._divergence_check import Finding

__all__ = ["Seen", "as_record", "id_of", "is_accepted", "is_as", "seen", "to_finding"]

_MOST_DIFFERENCES: Final = 20


def id_of(collection: str, key: str) -> str:
    """Return the id of a finding that a comparison makes."""
    return hashlib.sha256(f"{collection}\0{key}".encode()).hexdigest()[:32]


def to_finding(record: FindingRecord) -> Finding:
    """Return the finding that a record holds."""
    return Finding(
        id=record.id,
        quarantined=record.quarantined,
        collection=record.collection,
        key=record.key,
        kind=record.kind,
        versions=(record.primary_version, record.secondary_version),
        differences=tuple(_parsed(record.differences)),
        first_seen=record.first_seen,
        last_seen=record.last_seen,
        source=record.source,
        state=record.state,
    )


def as_record(
    identity: str, finding: Finding, known: FindingRecord | None
) -> FindingRecord:
    return FindingRecord(
        id=identity,
        collection=finding.collection,
        key=finding.key,
        kind=finding.kind,
        source=finding.source if known is None else known.source,
        primary_version=finding.versions[0],
        secondary_version=finding.versions[1],
        differences=[
            {
                "path": list(bounded_path(found.path)),
                "left": _shown(found.left),
                "right": _shown(found.right),
            }
            for found in finding.differences[:_MOST_DIFFERENCES]
        ],
        first_seen=finding.first_seen if known is None else known.first_seen,
        last_seen=finding.last_seen,
    )


def _shown(value: Any) -> JSON:
    """Return what may be shown of a value, in a form that every store can hold."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping | list | tuple):
        return shown(value)
    return cut(value if isinstance(value, str) else str(value))


def _parsed(differences: Iterable[Any]) -> Iterator[Difference]:
    for found in differences:
        yield Difference(tuple(found["path"]), found["left"], found["right"])


Seen: TypeAlias = tuple[tuple[int, int], str, tuple[Difference, ...]]


def seen(finding: Finding) -> Seen:
    """Return what makes a divergence another one: versions, kind and shown differences."""
    record = as_record("", finding, None)
    return finding.versions, finding.kind, to_finding(record).differences


def is_as(record: FindingRecord, finding: Finding) -> bool:
    return seen(to_finding(record)) == seen(finding)


def is_accepted(row: Row | None, finding: Finding) -> bool:
    """Return whether exactly this divergence was accepted."""
    if row is None or row.record is None or row.record.state != "accepted":
        return False
    return row.record.source != "edit" and is_as(row.record, finding)
