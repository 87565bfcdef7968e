"""Restore of a server: its files, the archived log, and a recovery up to a target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pend_storage import crashpoints
from pend_storage._files.directory import Directory
from pend_storage._shown import shown
from pend_storage.backup._manifest import BackupManifest
from pend_storage.backup._repository import Repository
from pend_storage.backup._streams import Keys
from pend_storage.backup.physical._base import PhysicalFacts, facts_of
from pend_storage.backup.physical._combine import fetch_chain
from pend_storage.backup.physical._lsn import SegmentName, lsn_text, parse_lsn
from pend_storage.backup.physical._pitr import Recovered, recover
from pend_storage.backup.physical._side_server import (
    SideServer,
    claim_side_directory,
    require_no_root,
)
from pend_storage.backup.physical._targets import RecoveryTarget
from pend_storage.backup.physical._tools import Tools
from pend_storage.backup.physical._wal import WalArchive, ways
from pend_storage.errors import ConfigError

__all__ = ["LogPlan", "RestoredServer", "plan_log", "require_log", "restore_server"]

_FETCHED = crashpoints.declare(
    "restore.server-fetched", "files and log are there, and the server was not started"
)


@dataclass(frozen=True, slots=True)
class LogPlan:
    """Archived log that continues a backup."""

    timeline: int
    """At whose end it ends."""
    names: tuple[str, ...]
    """Files to replay, histories of timelines among them."""
    upto: str
    """Position up to which it is complete."""
    gap: str | None
    """First missing segment before others that are there."""

    @property
    def continues(self) -> bool:
        """True where there is anything beyond the backup."""
        return any(not name.endswith(".history") for name in self.names)


@dataclass(frozen=True, slots=True)
class RestoredServer:
    """Running server that was restored."""

    side: SideServer
    recovered: Recovered
    plan: LogPlan


def plan_log(
    facts: PhysicalFacts, archive: WalArchive, *, timeline: int | None = None
) -> LogPlan:
    """Find the archived log that continues a backup, without gaps.

    Args:
        facts: of the backup.
        archive: log of the same cluster.
        timeline: at whose end it ends; None: the newest that continues the backup.

    Raises:
        ConfigError: that timeline does not continue the backup.
    """
    histories, size = archive.histories(), facts.segment_size
    end = parse_lsn(facts.end)
    chosen = facts.timeline
    if timeline is not None:
        chosen = timeline
    else:
        later = [
            number
            for number, ancestors in histories.items()
            if dict(ancestors).get(facts.timeline, -1) >= end
        ]
        chosen = max([chosen, *later])
    there, names, gap = archive.segments(size), [], None
    upto = end
    for way in ways(facts.timeline, end, to=chosen, size=size, histories=histories):
        number = way.first
        numbers = set(there.get(way.timeline, ()))
        while number in numbers and (way.last is None or number <= way.last):
            names.append(SegmentName(way.timeline, number).text(size))
            number += 1
            upto = max(upto, number * size)
        beyond = [n for n in numbers if n > number]
        if (way.last is None and beyond) or (way.last and number <= way.last):
            gap = SegmentName(way.timeline, number).text(size)
            break
    names += [f"{number:08X}.history" for number in sorted(histories)]
    return LogPlan(chosen, tuple(names), lsn_text(upto), gap)


def restore_server(
    chain: Sequence[BackupManifest],
    repository: Repository,
    keys: Keys,
    tools: Tools,
    target: RecoveryTarget,
    *,
    into: Path,
    login: Mapping[str, Any],
    timeline: int | None = None,
    timeout: float = 24 * 3600.0,
) -> RestoredServer:
    """Restore a server into a new directory, up to a target; it runs when this returns.

    The caller seals its store, and calls :meth:`SideServer.complete`. Until then it counts as
    interrupted, and the next call empties the directory.

    Args:
        chain: of backups, the full one first.
        repository: place of backups, and of the archived log.
        keys: to decrypt with.
        tools: of the version of the server that was copied.
        target: where to stop.
        into: a directory that does not exist, is empty, or is what an interrupted restore left.
        login: settings of libpq with user and database.
        timeline: to follow; None: the newest that continues the backup.
        timeout: seconds for the recovery.

    Raises:
        ConfigError: the target is not in the archived log, the directory is taken, or this
            process is root's.
        CorruptFile: a backup or a segment is damaged; the message names it.
        StoreUnavailable: the server failed; its directory is left, with the log.
    """
    require_no_root()
    facts = facts_of(chain[-1])
    archive = WalArchive(repository, keys, facts.system)
    plan = plan_log(facts, archive, timeline=timeline)
    require_log(plan, target, chain[-1])
    claim = claim_side_directory(into, tools)
    side = SideServer(into.absolute(), tools, facts.settings, claim)
    fetch_chain(chain, repository, keys, tools, side.directory)
    with Directory(side.directory) as folder:
        folder.make_directory("wal").close()
    archive.fetch(_needed(plan, target), side.wal)
    _FETCHED()
    try:
        recovered = recover(
            side, target, timeline=plan.timeline, login=login, timeout=timeout
        )
    except ConfigError as error:
        if plan.gap is None:
            raise
        raise ConfigError(
            f"{error} The archive lacks the segment {plan.gap}, and what is behind it "
            "cannot be replayed."
        ) from error
    return RestoredServer(side, recovered, plan)


def _needed(plan: LogPlan, target: RecoveryTarget) -> Iterator[str]:
    if not target.is_backup_end:
        yield from plan.names


def require_log(
    plan: LogPlan, target: RecoveryTarget, manifest: BackupManifest
) -> None:
    """Refuse a target beyond a backup that no archived log continues.

    Raises:
        ConfigError: it is so.
    """
    if target.is_backup_end or plan.continues:
        return
    missing = "" if plan.gap is None else f"; the segment {plan.gap} is missing"
    raise ConfigError(
        f"no archived log continues backup {shown(manifest.id)}{missing}, so {target.text} "
        "cannot be reached. Restore the backup as it is, by its id; and archive the log: "
        "`backup archive --wal`."
    )
