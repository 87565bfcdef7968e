"""History of switches: actor, time, phases and write pause of each.

Two values of the pair hold it. The first one has the latest switches, and a version of the
library before this one appends to it, too; it drops all but the last 200 there, so there are
never as many. The second one has the earlier switches. An entry of a person stays as it is;
automatic switches that follow one another are folded to one entry with their number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final, Literal

import msgspec

from pend_storage._model.attribution import current_actor
from pend_storage._model.records import JSON
from pend_storage._shown import cut
from pend_storage.dualwrite._pair_metadata import SharedValues, StoreMetadata
from pend_storage.phases import AUTOMATIC, Phase
from pend_storage.store import Store

__all__ = [
    "EARLIER_META",
    "HISTORY_META",
    "Switch",
    "current_actor",
    "record_promotion",
    "record_switch",
    "recorded_switches",
]

HISTORY_META: Final = "switches"
"""Metadata of the pair: the latest switches, oldest first."""
EARLIER_META: Final = "earlier_switches"
"""Metadata of the pair: the switches before those, folded, oldest first."""
_LATEST: Final = 100
"""Latest switches that are kept one by one; the older half of more becomes earlier ones."""
_EARLIER: Final = 1_000
"""Earlier entries at most, until those of one actor are folded, too."""
_LONGEST_ACTOR: Final = 200
_LONGEST_REASON: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """Step from a phase to a neighbouring one; or several, folded to one entry."""

    at: datetime
    """When it was done, UTC; of a folded entry, the last one."""
    by: str
    """Actor: user, machine and process, or a name that the caller gave."""
    before: Phase
    """Of a folded entry: before the first step."""
    after: Phase
    """Of a folded entry: after the last step."""
    epoch: int
    """Of the primary, afterwards."""
    accepted: tuple[str, ...] = ()
    """Codes of the blockers that were accepted."""
    pause: float
    """Seconds for which writes waited; of a folded entry, the sum."""
    count: int = 1
    """Number of steps that are folded to this entry."""
    since: datetime | None = None
    """Time of the first of them; None for a single step."""
    reason: str | None = None
    """Reason that the actor gave; of a folded entry, that of the last step."""
    kind: Literal["switch", "election", "promotion"] = "switch"
    """Election: one store was made primary by force. Promotion: a store that was restored
    from a backup became primary. Both are one entry each, whatever lies between the phases."""

    @property
    def is_automatic(self) -> bool:
        """True where a server that follows the phase flag made it."""
        return self.by.startswith(AUTOMATIC)


def recorded_switches(metadata: SharedValues) -> tuple[Switch, ...]:
    """Return all switches, oldest first; the earlier ones are folded."""
    # The earlier ones are read last: entries that become earlier ones in between are found
    # twice then, and not missed.
    latest = _parsed(metadata.get(HISTORY_META))
    earlier = _parsed(metadata.get(EARLIER_META))
    return (*(entry for entry in earlier if entry not in latest), *latest)


def _parsed(value: JSON) -> list[Switch]:
    return msgspec.convert(value or [], list[Switch])


def _order(switch: Switch) -> tuple[int, datetime]:
    return switch.epoch, switch.at


def record_promotion(store: Store, entry: Switch) -> None:
    """Append the promotion of a store to its history, once; no process may use it as a pair.

    Args:
        store: the new primary.
        entry: an election or a promotion.

    Raises:
        StoreUnavailable: it cannot be reached.
    """
    metadata = StoreMetadata(store)
    known = recorded_switches(metadata)
    if not any((e.kind, e.epoch) == (entry.kind, entry.epoch) for e in known):
        record_switch(metadata, entry)


def record_switch(metadata: SharedValues, switch: Switch) -> bool:
    """Append a switch; the oldest of many are moved to the earlier ones.

    Returns:
        False where another process has recorded the same step: an epoch belongs to one.
    """
    reason = None if switch.reason is None else cut(switch.reason, _LONGEST_REASON)
    switch = replace(switch, by=cut(switch.by, _LONGEST_ACTOR), reason=reason)
    while True:
        found = metadata.get(HISTORY_META)
        known = _parsed(found)
        if any(map(partial(_is_same_step, switch), known)):
            return False
        entries = [*known, switch]
        if len(entries) <= _LATEST:
            if metadata.compare_and_set(HISTORY_META, found, _plain(entries)):
                return True
            continue
        before = metadata.get(EARLIER_META)
        moved, kept = entries[: -_LATEST // 2], entries[-_LATEST // 2 :]
        if metadata.compare_and_set(
            HISTORY_META,
            found,
            _plain(kept),
            given={EARLIER_META: before},
            also={EARLIER_META: _plain(folded([*_parsed(before), *moved]))},
        ):
            return True


def _is_same_step(one: Switch, other: Switch) -> bool:
    return (one.kind, one.epoch, one.before, one.after) == (
        other.kind,
        other.epoch,
        other.before,
        other.after,
    )


def _plain(entries: list[Switch]) -> JSON:
    members: list[JSON] = []
    for entry in entries:
        written: dict[str, JSON] = msgspec.to_builtins(entry)
        if (
            entry.since is None
        ):  # a single step, as every version of the library writes it
            del written["count"], written["since"]
        if entry.reason is None:
            del written["reason"]
        if entry.kind == "switch":
            del written["kind"]
        members.append(written)
    return members


def folded(entries: list[Switch]) -> list[Switch]:
    """Fold automatic switches that follow one another; nothing of a person is dropped.

    Where there are very many entries all the same, those of one actor in the older half are
    folded: the number of actors, not of switches, bounds the history then.
    """
    result: list[Switch] = []
    for entry in entries:
        if result and entry.is_automatic and result[-1].is_automatic:
            result[-1] = _joined(result[-1], entry)
        else:
            result.append(entry)
    if len(result) <= _EARLIER:
        return result
    half = len(result) // 2
    return [*_folded_by_actor(result[:half]), *result[half:]]


def _folded_by_actor(entries: list[Switch]) -> list[Switch]:
    by_actor: dict[str, Switch] = {}
    for entry in entries:
        actor = AUTOMATIC if entry.is_automatic else _PROCESS.sub("", entry.by)
        earlier = by_actor.get(actor)
        by_actor[actor] = entry if earlier is None else _joined(earlier, entry)
    return sorted(by_actor.values(), key=_order)


def _joined(first: Switch, last: Switch) -> Switch:
    return replace(
        last,
        before=first.before,
        accepted=tuple(sorted({*first.accepted, *last.accepted})),
        pause=first.pause + last.pause,
        count=first.count + last.count,
        since=first.since or first.at,
    )


_PROCESS: Final = re.compile(r", process \d+")
