"""Pruning: deletes what the policy does not keep, and what interrupted backups left.

A manifest goes first, so that nothing half deleted is listed; its parts follow. In between,
the leases of readers are read once more: a restore that began meanwhile gets its manifest
back. A reader takes its lease before it looks at the manifest, so one of the two always
sees the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from pend_storage import crashpoints
from pend_storage.backup._catalog import BACKUPS, MANIFEST, Catalog, Damage, folder_of
from pend_storage.backup._creation import LEASE as CREATE
from pend_storage.backup._leases import holders, remove_old_leases
from pend_storage.backup._manifest import SegmentManifest
from pend_storage.backup._policy import Decision, Policy, RetentionPlan, plan
from pend_storage.backup._repository import Lease, Repository
from pend_storage.backup._restore import USE
from pend_storage.backup._segments import LOG, manifest_name
from pend_storage.backup._standing import standings

__all__ = ["PRUNE", "PruneReport", "prune", "used_backups"]

PRUNE: Final = "prune"
"""Lease of a pruning."""
_FACTS: Final = "facts"
_ABANDONED: Final = timedelta(days=1)
"""Age after which what an interrupted backup has left is deleted."""

_UNLISTED: Final = crashpoints.declare(
    "prune.unlisted", "a manifest is deleted, and none of its parts"
)
_PART: Final = crashpoints.declare(
    "prune.part", "a part is deleted, and others are not"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneReport:
    """Outcome of a pruning, or of a dry run."""

    backups: tuple[Decision, ...]
    """Oldest first."""
    segments: int
    """Segments of the change log that go."""
    abandoned: int
    """Objects that go, of backups that were interrupted or deleted before, and of a server's
    log that no backup needs."""
    bytes: int
    """Of everything that goes."""
    damaged: tuple[Damage, ...]
    """What is left as it is, because its manifest or its parts are damaged."""
    dry_run: bool

    @property
    def deleted(self) -> tuple[str, ...]:
        """Ids of the backups that go."""
        return tuple(d.id for d in self.backups if not d.keeps)


def used_backups(repository: Repository, ids: Collection[str]) -> set[str]:
    """Return the backups that a restore or a drill reads now.

    Args:
        repository: with the leases.
        ids: of all backups.
    """
    names = [name.removeprefix(USE) for name in holders(repository, USE)]
    return {i for i in ids if any(n == i or n.startswith(f"{i}-") for n in names)}


def prune(
    repository: Repository,
    policy: Policy,
    *,
    environment: str,
    now: datetime | None = None,
    dry_run: bool = False,
    wait: float = 0.0,
) -> PruneReport:
    """Delete what the policy does not keep.

    Args:
        repository: of the backups.
        policy: what to keep.
        environment: whose backups the policy is about; those of others stay.
        now: the time; None: of the clock.
        dry_run: decide only, and delete nothing.
        wait: seconds to wait for another pruning.

    Raises:
        ConfigError: a permission is missing, or a newer version has written a manifest.
        LockTimeout: another process prunes.
        StoreUnavailable: the repository cannot be reached.
    """
    now = now or datetime.now(UTC)
    if dry_run:
        return _Pruning(repository, policy, environment, now).report(dry_run=True)
    with repository.lease(PRUNE, wait=wait) as lease:
        # What there is, is read under the lease.
        return _Pruning(repository, policy, environment, now).carry_out(lease)


class _Pruning:
    """One pruning: what there is, what is decided, and what is deleted."""

    def __init__(
        self,
        repository: Repository,
        policy: Policy,
        environment: str,
        now: datetime,
    ) -> None:
        self._repository = repository
        self._now = now
        self._catalog = catalog = Catalog(repository)
        found = standings(catalog)
        known = {s.backup.id: s for s in found}
        self._used = used_backups(repository, known)
        foreign = {i for i, s in known.items() if s.backup.environment != environment}
        made = plan(
            # Pins are facts, which may end what the manifest says.
            [
                msgspec.structs.replace(s.backup, kept=False)
                for s in found
                if s.backup.id not in foreign
            ],
            catalog.segments(),
            policy,
            now=now,
            used=self._used,
            pinned={i for i, s in known.items() if s.pinned},
            bad={i: s.fault for i, s in known.items() if s.fault is not None},
        )
        # Whose a segment is does not stand in it: with backups of others, none goes.
        self._plan = RetentionPlan(
            backups=made.backups, segments=() if foreign else made.segments
        )
        self._manifests = {i: known[i].backup for i in made.dropped}

    def report(self, *, dry_run: bool) -> PruneReport:
        """Report what goes."""
        abandoned = list(self._abandoned())
        sizes = {o.name: o.size for o in self._repository.list(f"{BACKUPS}/")}
        parts = [p.size for m in self._manifests.values() for p in m.parts]
        parts += [s.part.size for s in self._plan.segments]
        return PruneReport(
            backups=self._plan.backups,
            segments=len(self._plan.segments),
            abandoned=len(abandoned),
            bytes=sum(parts) + sum(sizes.get(name, 0) for name in abandoned),
            damaged=tuple(self._catalog.damaged()),
            dry_run=dry_run,
        )

    def carry_out(self, lease: Lease) -> PruneReport:
        """Delete what goes, in an order that can end anywhere."""
        made = self.report(dry_run=False)
        abandoned = list(self._abandoned())
        self._delete_backups(lease)
        self._delete_segments(lease)
        self._delete(lease, abandoned)
        self._repository.remove_leftovers()
        remove_old_leases(self._repository)
        return made if not self._kept_after_all else self._corrected(made)

    # -- deleting ------------------------------------------------------------------------

    @property
    def _kept_after_all(self) -> set[str]:
        return {d.id for d in self._plan.backups if not d.keeps} - {*self._manifests}

    def _corrected(self, made: PruneReport) -> PruneReport:
        """Return the report without what readers have kept meanwhile."""
        late = self._kept_after_all
        backups = tuple(
            Decision(
                id=d.id,
                at=d.at,
                keeps=True,
                reasons=("a restore or a drill began to use it",),
            )
            if d.id in late
            else d
            for d in made.backups
        )
        return PruneReport(
            backups=backups,
            segments=len(self._plan.segments),
            abandoned=made.abandoned,
            bytes=made.bytes,
            damaged=made.damaged,
            dry_run=False,
        )

    def _delete_backups(self, lease: Lease) -> None:
        for name in self._plan.dropped:
            place = f"{folder_of(name)}/{MANIFEST}"
            text = self._repository.read(place)
            lease.require()
            self._repository.delete(place)
            _UNLISTED()
            if used_backups(self._repository, [name]):
                self._repository.put(place, [text])
                del self._manifests[name]
                continue
            objects = self._repository.list(f"{folder_of(name)}/")
            self._delete(lease, [o.name for o in objects])
            facts = self._repository.list(f"{_FACTS}/{name}/")
            self._delete(lease, [o.name for o in facts])

    def _delete_segments(self, lease: Lease) -> None:
        """Delete segments, oldest first; none once a reader has come that may need them."""
        ids = [d.id for d in self._plan.backups]
        done: list[SegmentManifest] = []
        for segment in self._plan.segments:
            place = manifest_name(segment.id)
            text = self._repository.read(place)
            lease.require()
            self._repository.delete(place)
            if used_backups(self._repository, ids) - self._used:
                self._repository.put(place, [text])
                break
            self._delete(lease, [segment.part.name])
            done.append(segment)
        self._plan = RetentionPlan(backups=self._plan.backups, segments=tuple(done))

    def _delete(self, lease: Lease, names: Sequence[str]) -> None:
        for name in names:
            lease.require()
            self._repository.delete(name)
            _PART()

    # -- what is abandoned ---------------------------------------------------------------

    def _abandoned(self) -> Iterator[str]:
        """Yield objects that no manifest names, and that are older than a day."""
        if holders(self._repository, CREATE):
            return  # a backup that takes longer than a day is no abandoned one
        known = {b.id for b in self._catalog.backups()}
        known |= {d.backup for d in self._catalog.damaged() if d.backup is not None}
        limit = self._now - _ABANDONED
        unpublished = {n.split("/")[1] for n in self._catalog.interrupted()} - known
        read = used_backups(self._repository, unpublished)
        for found in self._repository.list(f"{BACKUPS}/"):
            name = found.name.split("/")[1]
            if name in unpublished - read and found.modified < limit:
                yield found.name
        yield from self._abandoned_segments(limit)

    def _abandoned_segments(self, limit: datetime) -> Iterator[str]:
        found = self._repository.list(f"{LOG}/")
        manifests = {o.name for o in found if o.name.endswith(".json")}
        named = {s.part.name for s in self._catalog.segments()}
        if any(
            d.backup is None and d.name in manifests for d in self._catalog.damaged()
        ):
            return  # an unreadable manifest may name any of them
        for each in found:
            if each.name not in named | manifests and each.modified < limit:
                yield each.name
