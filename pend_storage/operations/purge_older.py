"""Purge by age: what is kept of all collections, and older than a time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pend_storage._files.by_path import unlink
from pend_storage._model.attribution import actor
from pend_storage._model.records import (
    EDIT_MARK,
    JSON,
    FindingRecord,
    QuarantinedRecord,
)
from pend_storage.config import Settings
from pend_storage.dualwrite import DualWriteStore
from pend_storage.dualwrite._log_position import kept_changes
from pend_storage.factory import open_passive, open_primary
from pend_storage.operations.jobs import running_job
from pend_storage.operations.purge import Purge, enter
from pend_storage.operations.purge_search import (
    Holder,
    leftovers_of,
    parts_of,
)
from pend_storage.query import field
from pend_storage.schema import FINDINGS, QUARANTINE
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore

__all__ = ["purge_older"]


def purge_older(
    settings: Settings,
    age: timedelta,
    *,
    dry_run: bool = False,
    by: str | None = None,
    reason: str | None = None,
) -> Purge:
    """Purge what is older than an age, of all collections.

    That is: entries of the change logs that the other store has applied, overruled values
    in quarantine that were accepted, closed findings, and files that the JSON store keeps
    for people. Records, waiting quarantine and open findings stay.

    Args:
        settings: of the environment.
        age: what is younger stays.
        dry_run: change nothing, and report what would be erased.
        by: who does it; None: the author of this context, or user, machine, process.
        reason: of the person; the job and the commits keep it.

    Raises:
        ConfigError: a privilege is missing.
        StoreUnavailable: a store that takes part cannot be reached.
    """
    days = age / timedelta(days=1)
    wanted = replace(settings.dual_write, retention_days=days)
    cutoff = datetime.now(UTC) - age
    with _opened(replace(settings, dual_write=wanted), dry_run=dry_run) as store:
        overruled = [r.id for r in _overruled(store) if r.seen_at < cutoff]
        closed = [r.id for r in _closed(store) if r.last_seen < cutoff]
        limit = time.time() - age.total_seconds()
        files = [p for p in leftovers_of(settings.json) if _is_before(p, limit)]
        is_clean = True
        if not dry_run:
            with running_job(store, "purge", by=by, reason=reason, can_wait=False):
                is_clean = _erase_older(store, cutoff, overruled, closed)
                for path in files:
                    unlink(path)
                details: dict[str, JSON] = {"older_than": cutoff.isoformat()}
                enter(store, details)
    place = "a store whose log is still needed, or whose files cannot be written now"
    return Purge(
        dry_run=dry_run,
        quarantined=tuple(overruled),
        findings=len(closed),
        files=tuple(map(str, files)),
        held=() if is_clean else (Holder(kind="store", place=place),),
    )


@contextlib.contextmanager
def _opened(settings: Settings, *, dry_run: bool) -> Iterator[Store]:
    """Open the store from which the environment reads; a dry run only reads."""
    if dry_run:
        with open_passive(settings) as environment:
            yield environment.primary()
    else:
        with open_primary(settings) as store:
            yield store


def _overruled(store: Store) -> Iterator[QuarantinedRecord]:
    """Yield accepted values that no file shows: others are part of their legacy file."""
    accepted = store.collection(QuarantinedRecord).find(field("status") == "accepted")
    return (r for r in accepted.items if r.file.endswith(EDIT_MARK))


def _closed(store: Store) -> Iterable[FindingRecord]:
    return store.collection(FindingRecord).find(field("state") != "open").items


def _is_before(path: Path, limit: float) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime < limit
    return False


def _erase_older(
    store: Store, cutoff: datetime, overruled: Sequence[str], closed: Sequence[str]
) -> bool:
    with store.acting(reason=actor().reason or "purge"), store.transaction() as tx:
        for name, keys in ((QUARANTINE, overruled), (FINDINGS, closed)):
            for key in keys:
                tx.collection(name).delete(key)
    done = [store.purge(QUARANTINE, overruled)] if overruled else []
    done += [store.purge(FINDINGS, closed)] if closed else []
    for part in parts_of(store):
        if isinstance(part, JsonStore):
            # Segments are dropped whole, so younger entries of the last one go as well.
            first = next(kept_changes(part), None)
            is_old = first is None or first.at < cutoff
            done.append(part.purge(QUARANTINE, ()) if is_old else True)
        elif part is store:
            _prune(part, cutoff)
    if isinstance(store, DualWriteStore):
        store.prune_logs()
    return all(done)


def _prune(store: Store, cutoff: datetime) -> None:
    """Drop the entries of a log that nothing follows."""
    last = 0
    for change in kept_changes(store):
        if change.at >= cutoff:
            break
        last = change.sequence
    if last:
        store.prune(last)
