"""Standing of a backup: good or not, pinned or not, by its manifest and its latest facts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pend_storage.backup._catalog import Catalog, Fact
from pend_storage.backup._manifest import BackupManifest
from pend_storage.backup._segments import LOG

__all__ = [
    "DRILLED",
    "PINNED",
    "VERIFIED",
    "Standing",
    "latest_fact",
    "standing_of",
    "standings",
]

VERIFIED: Final = "verified"
DRILLED: Final = "drilled"
PINNED: Final = "pinned"
_MOST_NAMED: Final = 20
"""Faults that a fact names at most; with so many, others may be left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Standing of one backup."""

    backup: BackupManifest
    fault: str | None
    """Why it is not a good one; None: it is."""
    pinned: bool
    verified_at: datetime | None
    """Time of the last verification that found it whole."""
    drilled: Fact | None
    """Last drill with it, whatever its outcome."""


def latest_fact(facts: Iterable[Fact], kind: str) -> Fact | None:
    """Return the latest fact of a kind; None where there is none."""
    return max((f for f in facts if f.kind == kind), key=lambda f: f.at, default=None)


def standing_of(backup: BackupManifest, facts: Sequence[Fact]) -> Standing:
    """Return the standing of a backup. A later success ends every failure before it.

    Args:
        backup: a complete one.
        facts: about it.
    """
    checked = latest_fact(facts, VERIFIED)
    drilled = latest_fact(facts, DRILLED)
    pinned = latest_fact(facts, PINNED)
    at = None if backup.verified_at is None else _time(backup.verified_at)
    whole = [f.at for f in facts if f.kind == VERIFIED and f.ok]
    verified_at = max([*whole, *([] if at is None else [at])], default=None)
    fault = None
    if checked is not None and not checked.ok and _is_own(checked):
        fault = "its last verification found damage"
    elif verified_at is None:
        fault = "it was never verified"
    elif (
        drilled is not None
        and drilled.detail.get("damaged") is True
        and (checked is None or checked.at < drilled.at)
    ):
        fault = "the last drill with it failed"
    return Standing(
        backup=backup,
        fault=fault,
        pinned=backup.kept if pinned is None else pinned.ok,
        verified_at=verified_at,
        drilled=drilled,
    )


def _is_own(failed: Fact) -> bool:
    """Return whether what a verification found concerns the backup, not only the log.

    A damaged segment ends the windows of many backups, and damages none of them.
    """
    found = failed.detail.get("damaged")
    if not isinstance(found, list) or not 0 < len(found) < _MOST_NAMED:
        return True
    return any(not str(text).startswith(f"{LOG}/") for text in found)


def standings(catalog: Catalog) -> list[Standing]:
    """Return the standing of all complete backups, oldest first.

    Raises:
        StoreUnavailable: the repository cannot be reached.
    """
    return [standing_of(b, catalog.facts(b.id)) for b in catalog.backups()]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
