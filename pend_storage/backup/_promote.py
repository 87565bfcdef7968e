"""Promotion of a restored store: it becomes the primary of its environment.

Three stores take part: the restored one, the one that it replaces, and the *peer*, the
other store of the pair. In this order: the plan is recorded in the restored store; both of
the others are detached at a later epoch, so that no process may write any more; numbers
are reserved above all that they gave; what only the peer has is brought over, where that
is wanted; and the restored store is opened, two epochs above the last one at least. A
peer out of reach is a secondary one epoch behind at most by its own account, and would be
healed into following a primary at the next epoch.

Every step can be repeated: after an interruption, the next call finishes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeAlias

import msgspec

from pend_storage._model.records import Change
from pend_storage._model.snapshots import RESTORED_META, StoredChange
from pend_storage._restored import RestoreNote, note_of
from pend_storage._shown import shown
from pend_storage.backup._lineage import (
    FILLED_META,
    POSITION_META,
    TAINTED_META,
    Ahead,
    Losses,
    compare,
    followed,
    is_complete,
    is_related,
    losses,
    own_changes,
)
from pend_storage.backup._seal import highest_number
from pend_storage.crashpoints import declare
from pend_storage.errors import (
    ConfigError,
    Conflict,
    SchemaOutOfDate,
    StoreUnavailable,
)
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.store import Store

__all__ = ["Copy", "Promoted", "Promotion", "PromotionPlan"]

Copy: TypeAlias = Callable[[Store, Store, int], int]
"""Copies the newer rows of a store into one that is secondary, at an epoch; returns their
number."""

_APART: Final = 2
"""Epochs between the last primary and the restored one. At the next epoch a follower that
was out of reach would be taken for one that missed a switch, and be made to follow."""
_UNKNOWN: Final = 100
"""Epochs more where a store is out of reach: its roles may have changed since the backup."""
_UNSEEN: Final = 1 << 34
"""Numbers reserved where a store is out of reach, for those that it gave and nobody saw:
as many as a database gives in 16 million transactions."""
_ATTEMPTS: Final = 20
_AT_ONCE: Final = 500
_OUT_OF_REACH: Final = (StoreUnavailable, SchemaOutOfDate)

_PLANNED: Final = declare("promote.planned", "the epoch is recorded, nothing else is")
_RETIRED: Final = declare(
    "promote.retired", "the other stores are detached, no number is reserved"
)
_RESERVED: Final = declare(
    "promote.reserved", "numbers are reserved, nothing is brought over"
)
_BROUGHT: Final = declare(
    "promote.brought", "what the peer had is brought over, the store is not open"
)
_OPENED: Final = declare(
    "promote.opened", "the store is primary, the note is as before"
)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted:
    """Outcome of a promotion."""

    epoch: int
    above: int
    """Number above which the store numbers its commits."""
    brought: int
    """Rows that were brought over from the peer."""
    lost: Losses
    peer_may_follow: bool
    """True where the peer may follow as it is; else it must be emptied first."""
    unreachable: tuple[str, ...]
    """Stores that could not be detached: see that no server uses them, and repeat."""


class Promotion:
    """Promotion of one restored store. Used by one thread."""

    def __init__(
        self,
        restored: Store,
        others: Mapping[str, Store],
        *,
        peer: str | None,
        known: int = 0,
        archived: Callable[[], Iterable[StoredChange]] = tuple,
        unreachable: tuple[str, ...] = (),
    ) -> None:
        """Look at the stores.

        Args:
            restored: the store that is to be primary.
            others: the stores of the environment by name, without the restored one.
            peer: name of the one that stays in the pair; None without one.
            known: highest number in the archive and in manifests.
            archived: returns the entries of the archive after the restored position; they
                show what is lost where the store that made them is out of reach.
            unreachable: names of stores that could not be opened.

        Raises:
            ConfigError: the store was not restored, or its restore did not end.
            StoreUnavailable: it cannot be reached.
        """
        self._restored = restored
        self._others = dict(others)
        self._peer_name = peer
        self._known = known
        self._archived = archived
        self._unreachable = list(unreachable)
        self.note = _require_sealed(restored)

    @property
    def _peer(self) -> Store | None:
        return self._others.get(self._peer_name or "")

    # -- the plan -------------------------------------------------------------------------

    def plan(self, *, roll_forward: bool = False) -> PromotionPlan:
        """Return what a promotion would do; nothing is changed.

        Args:
            roll_forward: count what the peer has as brought over.
        """
        states = self._states()
        ahead, refusal = self._look_at_peer()
        kept = self._peer if roll_forward and refusal is None else None
        return PromotionPlan(
            note=self.note,
            epoch=self._epoch(states),
            is_done=self._restored.role().role is Role.PRIMARY,
            roles={
                name: f"{state.role.value} at epoch {state.epoch}"
                for name, state in states.items()
            },
            lost=self._losses(kept or self._restored),
            ahead=ahead,
            may_roll_forward=refusal is None,
            refusal=refusal,
        )

    def _look_at_peer(self) -> tuple[Ahead | None, str | None]:
        """Return what the peer has, and why it cannot be rolled forward from."""
        peer = self._peer
        if peer is None:
            return None, "there is no other store, or it cannot be reached"
        try:
            if not is_related(self.note, peer):
                return None, (
                    "the other store holds records that do not come from the restored log"
                )
            ahead = compare(self._restored, peer)
            is_behind = ahead.erased and not is_complete(self.note, peer)
            if ahead.older or is_behind:
                return ahead, (
                    "the other store does not have all that was restored, so it does not "
                    "continue it"
                )
        except _OUT_OF_REACH as error:
            return None, f"the other store cannot be reached ({shown(str(error))})"
        return ahead, None

    def _losses(self, kept: Store) -> Losses:
        """Return the commits after the restored position that a store lacks."""
        cut, is_known = [], False
        logs: list[Iterable[Change | StoredChange]] = []
        for store in self._others.values():
            with contextlib.suppress(*_OUT_OF_REACH):
                entries, is_cut = own_changes(store, self.note.sequence)
                logs.append(entries)
                cut.append(is_cut)
                is_known = is_known or store.identity() == self.note.source
        if not is_known or any(cut):
            logs.append(self._archived())
        found = losses(
            _chained(logs), kept, is_at_least=any(cut) or bool(self._unreachable)
        )
        if is_known or found.commits:
            return found
        return Losses(commits=None, is_at_least=True)

    def _states(self) -> dict[str, RoleState]:
        """Read the roles of the other stores; those out of reach are noted."""
        states = {}
        for name, store in self._others.items():
            try:
                states[name] = store.role()
            except _OUT_OF_REACH:
                self._note_unreachable(name)
        return states

    def _note_unreachable(self, name: str) -> None:
        if name not in self._unreachable:
            self._unreachable.append(name)

    def _epoch(self, states: Mapping[str, RoleState]) -> int:
        """Return the epoch at which the store becomes, or has become, primary."""
        mine = self._restored.role()
        if mine.role is Role.PRIMARY:
            return mine.epoch
        last = max([self.note.epoch, *(state.epoch for state in states.values())])
        apart = _APART + (_UNKNOWN if self._unreachable else 0)
        planned = self.note.promoted or 0
        if planned > max(last, mine.epoch) and (
            not self._unreachable or planned >= self.note.epoch + apart
        ):
            return planned
        return max(last, mine.epoch) + apart

    # -- the steps ------------------------------------------------------------------------

    def execute(self, *, copy: Copy | None = None) -> Promoted:
        """Promote the store; call it again after an interruption.

        Args:
            copy: brings over what the peer has beyond the restored position; None: that
                is lost.

        Raises:
            ConfigError: the peer does not continue the restored state; nothing was
                changed.
            Conflict: roles change at this moment: end the server that does so.
            StoreUnavailable: the restored store cannot be reached.
        """
        is_open = self._restored.role().role is Role.PRIMARY
        self._require_promotable(copy, is_open=is_open)
        epoch = self._epoch(self._states())
        if not is_open:
            self._record(promoted=epoch)
            _PLANNED()
        epoch = self._retire(epoch, is_open=is_open)
        _RETIRED()
        if is_open:
            return self._finish(epoch, brought=0)
        above = max(self._known, self.note.above)
        above = highest_number(above, self._restored, *self._others.values())
        above += _UNSEEN if self._unreachable else 0
        self._restored.reserve_numbers(above)
        self._record(above=above)
        _RESERVED()
        brought = 0 if copy is None else self._bring_over(copy, epoch)
        _BROUGHT()
        for name, store in self._others.items():
            self._taint(name, store, epoch, is_brought=copy is not None)
        self._open(epoch)
        _OPENED()
        return self._finish(epoch, brought=brought)

    def _require_promotable(self, copy: Copy | None, *, is_open: bool) -> None:
        role = self._restored.role().role
        if self.note.state == "promoted" and not is_open:
            raise ConfigError(
                f"the store was promoted at epoch {self.note.promoted}, and is {role.value} "
                "since. Change its role with `pend-storage phase set`."
            )
        if is_open:
            return
        if copy is None and role is Role.SECONDARY:
            raise ConfigError(
                "the roll forward of this store was interrupted, so it holds a part of what "
                "the other store has. Call it again with --roll-forward."
            )
        if copy is not None:
            self._require_continuing()

    def _require_continuing(self) -> None:
        _, refusal = self._look_at_peer()
        if refusal is not None:
            raise ConfigError(
                f"the restored store cannot be rolled forward: {refusal}. Nothing was "
                "changed. Promote it without that, or restore to a later target."
            )

    def _record(self, *, promoted: int | None = None, above: int | None = None) -> None:
        """Record the plan in the restored store."""
        note = msgspec.structs.replace(
            self.note,
            promoted=self.note.promoted if promoted is None else promoted,
            above=self.note.above if above is None else above,
        )
        self._replace_note(note)

    def _replace_note(self, note: RestoreNote) -> None:
        if note != self.note and not self._restored.compare_and_set_meta(
            RESTORED_META, self.note.to_meta(), note.to_meta()
        ):
            raise Conflict(
                collection="the note of a restored store",
                key=note.backup,
                expected=self.note.promoted or 0,
                actual=note.promoted or 0,
            )
        self.note = note

    def _retire(self, epoch: int, *, is_open: bool) -> int:
        """Detach the other stores, the primary first: until both are, look again.

        Returns:
            The epoch; a higher one where a store went out of reach meanwhile.
        """
        known = len(self._unreachable)
        for _ in range(_ATTEMPTS):
            states = self._states()
            left = {
                name: state
                for name, state in states.items()
                if state.role is not Role.DETACHED
                and not (is_open and self._follows(name, state, epoch))
            }
            if not left:
                break
            if max(state.epoch for state in left.values()) >= epoch:
                raise ConfigError(
                    "a store of the environment is at a later epoch than was planned: its "
                    "roles have changed meanwhile. Call it again."
                )
            # With no primary left, no process finds a step to take. A follower that goes
            # first could be attached again.
            order = sorted(left, key=lambda name: left[name].role is not Role.PRIMARY)
            for name in order:
                if is_open:
                    self._taint(name, self._others[name], epoch, is_brought=False)
                self._detach(name, left[name])
        else:
            raise Conflict(
                collection="the role of a store",
                key=", ".join(self._others),
                expected=epoch,
                actual=epoch,
            )
        if len(self._unreachable) > known == 0 and not is_open:
            epoch += _UNKNOWN
            self._record(promoted=epoch)
        return epoch

    def _follows(self, name: str, state: RoleState, epoch: int) -> bool:
        """Return whether a store follows the promoted one already."""
        follows = state == RoleState(Role.SECONDARY, epoch)
        return follows and followed(self._others[name]) == self._restored.identity()

    def _detach(self, name: str, state: RoleState) -> None:
        store = self._others[name]
        try:
            found = store.meta(ROLE_META)
            if found is not None and RoleState.from_meta(found) != state:
                return  # another process changed it: look again
            detached = RoleState(Role.DETACHED, state.epoch + 1)
            store.compare_and_set_meta(ROLE_META, found, detached.to_meta())
        except _OUT_OF_REACH:
            self._note_unreachable(name)

    def _bring_over(self, copy: Copy, epoch: int) -> int:
        """Bring over what only the peer has; the store is secondary meanwhile."""
        peer = self._peer
        assert peer is not None  # noqa: S101 - it was compared
        # Detached by now, so that this comparison holds until the end.
        ahead, refusal = self._look_at_peer()
        if refusal is not None or ahead is None:
            raise ConfigError(
                f"the restored store cannot be rolled forward: {refusal}. The other stores "
                "are detached already. Promote it without that."
            )
        before = epoch - 1
        self._set_role({Role.DETACHED}, RoleState(Role.SECONDARY, before))
        brought = copy(peer, self._restored, before)
        erased = iter(ahead.erased)
        while page := tuple(islice(erased, _AT_ONCE)):
            brought += self._restored.apply(page, epoch=before)
        _forget(self._restored, FILLED_META, POSITION_META)
        return brought

    def _taint(self, name: str, store: Store, epoch: int, *, is_brought: bool) -> None:
        """Mark a store that holds what the new primary does not know of."""
        with contextlib.suppress(*_OUT_OF_REACH):
            is_peer = name == self._peer_name
            if is_peer and (is_brought or self._has_nothing_else(store)):
                return
            if store.meta(TAINTED_META) is None:
                store.compare_and_set_meta(TAINTED_META, None, {"by": epoch})
            _forget(store, POSITION_META, "witness")

    def _has_nothing_else(self, peer: Store) -> bool:
        """Return whether all that a peer has is in the restored store."""
        if not is_related(self.note, peer):
            return False
        return not compare(self._restored, peer).newer

    def _open(self, epoch: int) -> None:
        self._set_role({Role.DETACHED, Role.SECONDARY}, RoleState(Role.PRIMARY, epoch))

    def _set_role(self, before: set[Role], after: RoleState) -> None:
        found = self._restored.meta(ROLE_META)
        state = RoleState.from_meta(found)
        if state == after:
            return
        if state.role not in before or not self._restored.compare_and_set_meta(
            ROLE_META, found, after.to_meta()
        ):
            raise Conflict(
                collection="the role of a store",
                key=f"{state.role} at epoch {state.epoch}",
                expected=after.epoch,
                actual=state.epoch,
            )

    def _finish(self, epoch: int, *, brought: int) -> Promoted:
        self._replace_note(
            msgspec.structs.replace(self.note, state="promoted", promoted=epoch)
        )
        peer, may_follow = self._peer, False
        with contextlib.suppress(*_OUT_OF_REACH):
            may_follow = peer is not None and peer.meta(TAINTED_META) is None
            if peer is not None and followed(peer) != self._restored.identity():
                # Positions in a log that is not followed any more. Not before: they show
                # how the two are related.
                _forget(peer, POSITION_META, "witness", FILLED_META)
        return Promoted(
            epoch=epoch,
            above=self.note.above,
            brought=brought,
            lost=self._losses(self._restored),
            peer_may_follow=may_follow,
            unreachable=tuple(self._unreachable),
        )


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
        with contextlib.suppress(*_OUT_OF_REACH):
            yield from entries


def _forget(store: Store, *names: str) -> None:
    for name in names:
        store.compare_and_set_meta(name, store.meta(name), None)
