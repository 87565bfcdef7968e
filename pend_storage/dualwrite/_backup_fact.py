"""Fact about the last good backup of a pair, and whether it still counts.

A backup counts where it was verified, is not too old, and holds a state that the present
primary continues: its position is in the primary's own log, or in the log of a store that
the primary has followed, or was restored from.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from pend_storage._model.records import JSON
from pend_storage._model.snapshots import LogPoint
from pend_storage._restored import note_of
from pend_storage._shown import moment, shown
from pend_storage.dualwrite._pair import Pair
from pend_storage.dualwrite._pair_metadata import PairMetadata
from pend_storage.dualwrite._replication_position import (
    TAINTED_META,
    ReplicationPosition,
)
from pend_storage.dualwrite._roles import SIDES, RolePair, Side, other
from pend_storage.errors import PendStorageError
from pend_storage.store import Store

__all__ = [
    "BACKUP_MAX_AGE",
    "BACKUP_META",
    "BackupFact",
    "age_problem",
    "backup_problem",
    "incarnation_of",
    "record_backup",
]

BACKUP_META: Final = "backup"
"""Shared value: a :class:`BackupFact` about the last backup that was verified."""
BACKUP_MAX_AGE: Final = timedelta(hours=26)
"""Age up to which a backup counts: a daily one, and two hours to make it."""
_AGAIN: Final = "Make one: pend-storage backup create"


class BackupFact(msgspec.Struct, frozen=True, kw_only=True):
    """Fact about a backup; those of older versions have the first two members only."""

    verified_at: str
    """Time at which it was verified, ISO 8601."""
    incarnations: dict[str, str] = {}
    """Of the stores that it was made of, by side."""
    id: str | None = None
    identity: str | None = None
    """Of the store that it was made of."""
    epoch: int | None = None
    sequence: int | None = None
    at: str | None = None
    """Time of its position."""

    @property
    def time(self) -> datetime | None:
        """Time of the state in it; None where it cannot be read."""
        try:
            found = datetime.fromisoformat(self.at or self.verified_at)
        except ValueError:
            return None
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)

    @property
    def name(self) -> str:
        """The backup, for sentences."""
        return "the backup" if self.id is None else f"the backup {shown(self.id)}"

    def is_before(self, later: BackupFact) -> bool:
        """Return whether another backup holds a later state than this one."""
        return (self.epoch or 0, self.sequence or 0) < (
            later.epoch or 0,
            later.sequence or 0,
        )


def record_backup(
    metadata: PairMetadata,
    verified_at: datetime,
    *,
    incarnations: Mapping[Side, str] | None = None,
    id: str | None = None,  # noqa: A002 - the name that backups have everywhere
    point: LogPoint | None = None,
    at: datetime | None = None,
) -> None:
    """Record that a backup was made and verified; an earlier one replaces no later one.

    Args:
        metadata: values of the pair.
        verified_at: when it was verified.
        incarnations: of the stores that it was made of.
        id: of the backup.
        point: its position.
        at: time of that position.
    """
    fact = BackupFact(
        verified_at=verified_at.isoformat(),
        incarnations={str(side): name for side, name in (incarnations or {}).items()},
        id=id,
        identity=None if point is None else point.identity,
        epoch=None if point is None else point.epoch,
        sequence=None if point is None else point.sequence,
        at=None if at is None else at.isoformat(),
    )
    value: JSON = msgspec.to_builtins(fact)
    while True:
        found = metadata.get(BACKUP_META)
        known = _parsed(found)
        if known is not None and known.id != id and fact.is_before(known):
            return
        if metadata.compare_and_set(BACKUP_META, found, value):
            return


def _parsed(value: JSON) -> BackupFact | None:
    try:
        return msgspec.convert(value, BackupFact)
    except msgspec.ValidationError:
        return None


def age_problem(
    at: datetime | None, max_age: timedelta, *, what: str = "the backup"
) -> str | None:
    """Return a sentence on a backup that is too old; None where it is not.

    Args:
        at: time of the state in it; None: not known.
        max_age: up to which it counts.
        what: the backup, for the sentence.
    """
    if at is None:
        return f"the time of {what} cannot be read. {_AGAIN}"
    age = datetime.now(UTC) - at
    if age <= max_age:
        return None
    return (
        f"{what} is too old: it holds the state of {moment(at)}, and max_age is {max_age}. "
        f"{_AGAIN}"
    )


def backup_problem(
    pair: Pair,
    metadata: PairMetadata,
    view: RolePair,
    *,
    max_age: timedelta = BACKUP_MAX_AGE,
) -> str | None:
    """Return a sentence on why no backup counts; None where one does.

    Args:
        pair: both stores.
        metadata: values of the pair.
        view: its roles.
        max_age: up to which a backup counts.

    Raises:
        StoreUnavailable: the primary cannot be reached.
    """
    value = metadata.get(BACKUP_META)
    if value is None:
        return f"there is no backup that was verified. {_AGAIN}"
    fact = _parsed(value)
    if fact is None:
        return f"what is recorded about the last backup cannot be read. {_AGAIN}"
    return (
        _identity_problem(pair, view, fact)
        or _exchange(pair, fact)
        or age_problem(fact.time, max_age, what=fact.name)
    )


def _identity_problem(pair: Pair, view: RolePair, fact: BackupFact) -> str | None:
    """Return a sentence where the primary does not continue what the backup holds."""
    side = view.primary
    if side is None or fact.identity is None or fact.sequence is None:
        return None
    primary, role = pair.store(side), view.of(side)
    if role is not None and (fact.epoch or 0) > role.epoch:
        return (
            f"{fact.name} was made at epoch {fact.epoch}, and the primary is at epoch "
            f"{role.epoch}: it was put back. {_AGAIN}"
        )
    upto = _continued_upto(pair, side, fact.identity)
    if upto is None:
        return f"{fact.name} is of another store than the present primary. {_AGAIN}"
    if fact.sequence <= upto:
        return None
    own = fact.identity == primary.identity()
    have = "'s own log ends at" if own else " has got that log up to"
    return (
        f"{fact.name} holds commits up to {fact.sequence}, and the primary{have} {upto}: "
        f"it was put back, or commits were lost. {_AGAIN}"
    )


def _continued_upto(pair: Pair, side: Side, identity: str) -> int | None:
    """Return up to where the primary has the log of a store; None where it never had it."""
    primary, peer = pair.store(side), pair.store(other(side))
    if identity == primary.identity():
        return primary.head()
    note = note_of(primary)
    if note is not None and note.source == identity:
        return note.sequence
    mark = ReplicationPosition.load(primary)
    followed = mark is not None and mark.source == identity
    try:
        is_peer = peer.identity() == identity
        is_tainted = is_peer and peer.meta(TAINTED_META) is not None
    except PendStorageError:  # out of reach: what the primary knows decides
        is_peer = is_tainted = False
    if is_tainted:  # the primary was promoted without the end of that log
        return mark.sequence if mark is not None and followed else None
    # A switch drains the log first, and a primary numbers above all that it has applied.
    return primary.head() if is_peer or followed else None


def _exchange(pair: Pair, fact: BackupFact) -> str | None:
    """Return a sentence where a server or a directory was exchanged since the backup."""
    for side in SIDES:
        before = fact.incarnations.get(side)
        if before is None:
            continue
        here = pair.store(side).incarnation()
        if before != here:
            return (
                f"the server was exchanged since the backup ({moment(fact.verified_at)}: "
                f"{shown(before)}, now {shown(here)}). {_AGAIN}"
            )
    return None


def incarnation_of(store: Store) -> str | None:
    """Return the incarnation of a store; None where it cannot be reached."""
    try:
        return store.incarnation()
    except PendStorageError:
        return None
