"""Seal of a restored store: it becomes a store of its own, which no process may use yet.

A copy of a store has its identity, its role and its numbers. Used as it is, it would be
taken for the store that it was copied from, and give numbers a second time. So a restore
begins with a note that makes every process refuse the store, and ends with the seal: a new
identity, the role *detached*, and numbers above all that may have been given.

Every step can be repeated, and the store is refused after each.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from pend_storage._model.records import JSON
from pend_storage._model.snapshots import RESTORED_META, LogPoint
from pend_storage._restored import RestoreNote, note_of
from pend_storage._shown import shown
from pend_storage.crashpoints import declare
from pend_storage.errors import ConfigError, PendStorageError
from pend_storage.phases import IDENTITY_META, ROLE_META, Role, RoleState
from pend_storage.store import Store

__all__ = ["CARRIED_NOT", "begin_filling", "carried_meta", "highest_number", "seal"]

SHARED: Final = "shared"
"""Meta of a pair's primary, with the named values that stay when the primary changes."""
CARRIED_NOT: Final = frozenset(
    {
        # the store itself
        ROLE_META,
        IDENTITY_META,
        RESTORED_META,
        # positions in the logs of other stores, and what was found out about them
        "mark",
        "backfill",
        "validation",
        "spoiled",
        "witness",
        "leave",
        "switch",
        "relay-blocked",
        # facts about backups and the archive of another store
        "backup",
        "archive",
        "migrate-json",
        "physical",
        "restore-loaded",
        # pace of automatic switches that are under way
        "auto_switch",
        # what processes did with another store: their progress, and what they counted
        "jobs",
        "compared",
    }
)
"""Names of meta entries that a restored store does not get."""
_OF_BACKENDS: Final = ("json.", "postgres.")
"""Prefixes of entries that a kind of store keeps for itself."""

_DETACHED: Final = declare(
    "seal.detached", "the restored store has a role, and the identity of another one"
)
_NAMED: Final = declare("seal.named", "the restored store has an identity of its own")
_CARRIED: Final = declare(
    "seal.carried", "the meta entries are there, and no number is reserved"
)
_RESERVED: Final = declare(
    "seal.reserved", "the numbers are reserved, and the seal is not recorded"
)


@dataclass(frozen=True, slots=True)
class _Origin:
    """Origin of a restored store: position, backup, target."""

    source: LogPoint
    backup: str
    target: str


def begin_filling(store: Store, *, source: LogPoint, backup: str, target: str) -> None:
    """Record in an empty store that it is about to be filled: from now on it is refused.

    Call it before the first row is loaded.

    Args:
        store: the empty one.
        source: position that is restored.
        backup: id of the backup.
        target: as it was given.

    Raises:
        ConfigError: another restore has begun to fill it.
        StoreUnavailable: it cannot be reached.
    """
    found = note_of(store)
    if found is not None:
        raise ConfigError(
            f"the store was restored from the backup {shown(found.backup)} before, or a "
            "restore into it was interrupted. Name an empty directory or database."
        )
    note = _note(_Origin(source, backup, target), above=source.sequence)
    if not store.compare_and_set_meta(RESTORED_META, None, note.to_meta()):
        raise ConfigError(
            "another process restores into this store at the same time. Let it finish, "
            "or name another empty directory or database."
        )


def seal(
    store: Store,
    *,
    source: LogPoint,
    above: int,
    meta: Mapping[str, JSON],
    backup: str,
    target: str,
) -> None:
    """Seal a store that was filled from a backup; repeat it after an interruption.

    Args:
        store: the filled one.
        source: position that was restored.
        above: highest number that may have been given: see :func:`highest_number`.
        meta: named values of the source, at that position.
        backup: id of the backup.
        target: as it was given.

    Raises:
        ConfigError: it is in use: it has another role, or was restored from another
            position.
        StoreUnavailable: it cannot be reached.
    """
    origin = _Origin(source, backup, target)
    note = _begin(store, origin, max(above, source.sequence))
    if note.state == "sealed":
        store.reserve_numbers(max(above, note.above))
        return
    _detach(store, source.epoch)
    _DETACHED()
    _set(store, IDENTITY_META, note.identity)
    _NAMED()
    for name in sorted(CARRIED_NOT - {ROLE_META, IDENTITY_META, RESTORED_META}):
        _set(store, name, None)
    for name, value in carried_meta(meta, upto=source.sequence).items():
        _set(store, name, value)
    _CARRIED()
    store.reserve_numbers(note.above)
    _RESERVED()
    sealed = msgspec.structs.replace(note, state="sealed")
    _set(store, RESTORED_META, sealed.to_meta())


def _begin(store: Store, origin: _Origin, above: int) -> RestoreNote:
    """Record what is to be done, or return what an interrupted call has recorded."""
    found = note_of(store)
    if found is not None and (
        found.point != origin.source or found.backup != origin.backup
    ):
        raise ConfigError(
            f"the store was restored from the backup {shown(found.backup)} up to "
            f"{found.sequence}, not to this position. Name another empty directory or "
            "database."
        )
    if found is not None and found.state != "filling":
        return found
    note = _note(origin, above=above) if found is None else found
    note = msgspec.structs.replace(
        note,
        above=max(note.above, above),
        identity=note.identity or uuid.uuid4().hex,
    )
    _set(store, RESTORED_META, note.to_meta())
    return note


def _note(origin: _Origin, *, above: int) -> RestoreNote:
    return RestoreNote(
        source=origin.source.identity,
        epoch=origin.source.epoch,
        sequence=origin.source.sequence,
        above=above,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        backup=origin.backup,
        target=origin.target,
        state="filling",
    )


def _detach(store: Store, epoch: int) -> None:
    wanted = RoleState(Role.DETACHED, epoch)
    found = store.meta(ROLE_META)
    if found is not None and RoleState.from_meta(found) != wanted:
        state = RoleState.from_meta(found)
        raise ConfigError(
            f"the store is {state.role.value} at epoch {state.epoch}, so it is in use. "
            "Restore into an empty directory or database."
        )
    _set(store, ROLE_META, wanted.to_meta())


def _set(store: Store, name: str, value: JSON) -> None:
    found = store.meta(name)
    if found == value:
        return
    if not store.compare_and_set_meta(name, found, value):
        raise ConfigError(
            "another process uses the restored store at the same time. End it, and "
            "restore again."
        )


def carried_meta(meta: Mapping[str, JSON], *, upto: int) -> dict[str, JSON]:
    """Return the named values of a source that a restored store gets.

    Args:
        meta: of the source.
        upto: sequence number of the position; later marks are left out.
    """
    carried: dict[str, JSON] = {
        name: value for name, value in meta.items() if _is_carried(name) and value
    }
    shared = carried.pop(SHARED, None)
    values = shared.get("values") if isinstance(shared, Mapping) else None
    if isinstance(values, Mapping):
        kept: dict[str, JSON] = {n: v for n, v in values.items() if _is_carried(n)}
        if "marks" in kept:
            kept["marks"] = _marks_upto(kept["marks"], upto)
        if kept:
            carried[SHARED] = {"values": kept}
    if "marks" in carried:
        carried["marks"] = _marks_upto(carried["marks"], upto)
    return carried


def _is_carried(name: str) -> bool:
    return name not in CARRIED_NOT and not name.startswith(_OF_BACKENDS)


def _marks_upto(marks: JSON, upto: int) -> JSON:
    if not isinstance(marks, Mapping):
        return None
    return {
        name: mark
        for name, mark in marks.items()
        if isinstance(mark, Mapping)
        and isinstance(sequence := mark.get("sequence"), int)
        and sequence <= upto
    }


def highest_number(known: int, *stores: Store) -> int:
    """Return the highest number that is known to have been given.

    Exact for stores that take no commits now; the numbers of a running one go on.

    Args:
        known: the highest one in the archive and in manifests.
        stores: that may have given numbers; those out of reach are passed over.
    """
    highest = known
    for store in stores:
        with contextlib.suppress(PendStorageError):
            head = store.head()
            # A transaction that stays open keeps the head of a database below its log.
            last = max((change.sequence for change in store.changes(head)), default=0)
            highest = max(highest, head, last)
    return highest
