"""Plan of a promotion: the stores that take part, and what would be lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pend_storage._model.records import Change
from pend_storage._model.snapshots import StoredChange
from pend_storage._restored import RestoreNote, note_of
from pend_storage._shown import shown
from pend_storage.backup._lineage import (
    Ahead,
    Losses,
    compare,
    is_complete,
    is_related,
    losses,
    own_changes,
)
from pend_storage.errors import ConfigError, SchemaOutOfDate, StoreUnavailable
from pend_storage.phases import Role, RoleState
from pend_storage.store import Store

__all__ = ["OUT_OF_REACH", "UNKNOWN", "PromotionPlan", "Scene"]

_APART: Final = 2
"""Epochs between the last primary and the restored one. At the next epoch a follower that
was out of reach would be taken for one that missed a switch, and be made to follow."""
UNKNOWN: Final = 100
"""Epochs more where a store is out of reach: its roles may have changed since the backup."""
OUT_OF_REACH: Final = (StoreUnavailable, SchemaOutOfDate)
"""Errors of a store that cannot be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionPlan:
    """Plan of a promotion."""

    note: RestoreNote
    epoch: int
    """At which the restored store becomes primary."""
    is_done: bool
    """True where it is primary already."""
    roles: Mapping[str, str]
    """Present role of each other store, by the name of the store."""
    lost: Losses
    """Commits after the restored position that nothing brings back."""
    ahead: Ahead | None
    """What the peer has in other versions; None: it is out of reach, or unrelated."""
    may_roll_forward: bool
    """True where the peer continues the restored state: what it has can be brought."""
    refusal: str | None
    """Why not."""


class Scene:
    """Stores that take part in a promotion, as they are now. Used by one thread."""

    def __init__(
        self,
        restored: Store,
        others: Mapping[str, Store],
        *,
        peer: str | None,
        archived: Callable[[], Iterable[StoredChange]] = tuple,
        unreachable: tuple[str, ...] = (),
    ) -> None:
        """Look at the stores.

        Args:
            restored: the store that is to be primary.
            others: the stores of the environment by name, without the restored one.
            peer: name of the one that stays in the pair; None without one.
            archived: returns the entries of the archive after the restored position; they
                show what is lost where the store that made them is out of reach.
            unreachable: names of stores that could not be opened.

        Raises:
            ConfigError: the store was not restored, or its restore did not end.
            StoreUnavailable: it cannot be reached.
        """
        self.restored = restored
        self.others = dict(others)
        self.peer_name = peer
        self._archived = archived
        self.unreachable = list(unreachable)
        self.note = _require_sealed(restored)

    @property
    def peer(self) -> Store | None:
        """Other store of the pair, if it could be opened."""
        return self.others.get(self.peer_name or "")

    def plan(self, *, roll_forward: bool = False) -> PromotionPlan:
        """Return what a promotion would do; nothing is changed.

        Args:
            roll_forward: count what the peer has as brought over.
        """
        states = self.states()
        ahead, refusal = self.look_at_peer()
        kept = self.peer if roll_forward and refusal is None else None
        return PromotionPlan(
            note=self.note,
            epoch=self.epoch(states),
            is_done=self.restored.role().role is Role.PRIMARY,
            roles={
                name: f"{state.role.value} at epoch {state.epoch}"
                for name, state in states.items()
            },
            lost=self.losses(kept or self.restored),
            ahead=ahead,
            may_roll_forward=refusal is None,
            refusal=refusal,
        )

    def look_at_peer(self) -> tuple[Ahead | None, str | None]:
        """Return what the peer has, and why it cannot be rolled forward from."""
        peer = self.peer
        if peer is None:
            return None, "there is no other store, or it cannot be reached"
        try:
            if not is_related(self.note, peer):
                return None, (
                    "the other store holds records that do not come from the restored log"
                )
            ahead = compare(self.restored, peer)
            is_behind = ahead.erased and not is_complete(self.note, peer)
            if ahead.older or is_behind:
                return ahead, (
                    "the other store does not have all that was restored, so it does not "
                    "continue it"
                )
        except OUT_OF_REACH as error:
            return None, f"the other store cannot be reached ({shown(str(error))})"
        return ahead, None

    def losses(self, kept: Store) -> Losses:
        """Return the commits after the restored position that a store lacks."""
        cut, is_known = [], False
        logs: list[Iterable[Change | StoredChange]] = []
        for store in self.others.values():
            with contextlib.suppress(*OUT_OF_REACH):
                entries, is_cut = own_changes(store, self.note.sequence)
                logs.append(entries)
                cut.append(is_cut)
                is_known = is_known or store.identity() == self.note.source
        if not is_known or any(cut):
            logs.append(self._archived())
        found = losses(
            _chained(logs), kept, is_at_least=any(cut) or bool(self.unreachable)
        )
        if is_known or found.commits:
            return found
        return Losses(commits=None, is_at_least=True)

    def states(self) -> dict[str, RoleState]:
        """Read the roles of the other stores; those out of reach are noted."""
        states = {}
        for name, store in self.others.items():
            try:
                states[name] = store.role()
            except OUT_OF_REACH:
                self.note_unreachable(name)
        return states

    def note_unreachable(self, name: str) -> None:
        """Note that a store is out of reach."""
        if name not in self.unreachable:
            self.unreachable.append(name)

    def epoch(self, states: Mapping[str, RoleState]) -> int:
        """Return the epoch at which the store becomes, or has become, primary."""
        mine = self.restored.role()
        if mine.role is Role.PRIMARY:
            return mine.epoch
        last = max([self.note.epoch, *(state.epoch for state in states.values())])
        apart = _APART + (UNKNOWN if self.unreachable else 0)
        planned = self.note.promoted or 0
        if planned > max(last, mine.epoch) and (
            not self.unreachable or planned >= self.note.epoch + apart
        ):
            return planned
        return max(last, mine.epoch) + apart


def _require_sealed(store: Store) -> RestoreNote:
    note = note_of(store)
    if note is None:
        raise ConfigError(
            "this store was not restored from a backup, so there is nothing to promote. "
            "Name the directory or the database into which `pend-storage backup restore` "
            "has written."
        )
    if note.state == "filling":
        raise ConfigError(
            f"the restore of the backup {shown(note.backup)} did not end, so the store "
            "holds a part of the data only. Empty it, and restore again."
        )
    return note


def _chained(
    logs: Iterable[Iterable[Change | StoredChange]],
) -> Iterator[Change | StoredChange]:
    """Chain logs; one that is out of reach ends early."""
    for entries in logs:
        with contextlib.suppress(*OUT_OF_REACH):
            yield from entries
