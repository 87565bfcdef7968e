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
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeAlias

import msgspec

from pend_storage._model.snapshots import RESTORED_META
from pend_storage._restored import RestoreNote
from pend_storage.backup._lineage import (
    BACKFILL_META,
    POSITION_META,
    TAINTED_META,
    Losses,
    compare,
    followed,
    is_related,
)
from pend_storage.backup._promotion_plan import OUT_OF_REACH, UNKNOWN, Scene
from pend_storage.backup._seal import highest_number
from pend_storage.crashpoints import declare
from pend_storage.errors import ConfigError, Conflict
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.store import Store

__all__ = ["Copy", "Promoted", "Promotion"]

Copy: TypeAlias = Callable[[Store, Store, int], object]
"""Copies the newer rows of a store into one that is secondary, at an epoch."""

_UNSEEN: Final = 1 << 34
"""Numbers reserved where a store is out of reach, for those that it gave and no archive has:
as many as a database gives in 16 million transactions."""
_ATTEMPTS: Final = 20
_AT_ONCE: Final = 500

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

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._restored = scene.restored
        self._others = scene.others

    @property
    def note(self) -> RestoreNote:
        """Record of the restore, in the restored store."""
        return self._scene.note

    def execute(self, *, known: int = 0, copy: Copy | None = None) -> Promoted:
        """Promote the store; call it again after an interruption.

        Args:
            known: highest number in the archive and in manifests.
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
        epoch = self._scene.epoch(self._scene.states())
        if not is_open:
            self._record(promoted=epoch)
            _PLANNED()
        epoch = self._retire(epoch, is_open=is_open)
        _RETIRED()
        if is_open:
            return self._finish(epoch, brought=0)
        above = max(known, self.note.above)
        above = highest_number(above, self._restored, *self._others.values())
        above += _UNSEEN if self._scene.unreachable else 0
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
        _, refusal = self._scene.look_at_peer()
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
        self._scene.note = note

    def _retire(self, epoch: int, *, is_open: bool) -> int:
        """Detach the other stores, the primary first: until both are, look again.

        Returns:
            The epoch; a higher one where a store went out of reach meanwhile.
        """
        known = len(self._scene.unreachable)
        for _ in range(_ATTEMPTS):
            states = self._scene.states()
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
        if len(self._scene.unreachable) > known == 0 and not is_open:
            epoch += UNKNOWN
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
        except OUT_OF_REACH:
            self._scene.note_unreachable(name)

    def _bring_over(self, copy: Copy, epoch: int) -> int:
        """Bring over what only the peer has; the store is secondary meanwhile."""
        peer = self._scene.peer
        assert peer is not None  # noqa: S101 - it was compared
        # Detached by now, so that this comparison holds until the end.
        ahead, refusal = self._scene.look_at_peer()
        if refusal is not None or ahead is None:
            raise ConfigError(
                f"the restored store cannot be rolled forward: {refusal}. The other stores "
                "are detached already. Promote it without that."
            )
        before = epoch - 1
        self._set_role({Role.DETACHED}, RoleState(Role.SECONDARY, before))
        copy(peer, self._restored, before)
        erased = iter(ahead.erased)
        while page := tuple(islice(erased, _AT_ONCE)):
            self._restored.apply(page, epoch=before)
        _forget(self._restored, BACKFILL_META, POSITION_META)
        return ahead.newer + len(ahead.erased)

    def _taint(self, name: str, store: Store, epoch: int, *, is_brought: bool) -> None:
        """Mark a store that holds what the new primary does not know of."""
        with contextlib.suppress(*OUT_OF_REACH):
            is_peer = name == self._scene.peer_name
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
        peer, may_follow = self._scene.peer, False
        with contextlib.suppress(*OUT_OF_REACH):
            may_follow = peer is not None and peer.meta(TAINTED_META) is None
            if peer is not None and followed(peer) != self._restored.identity():
                # Positions in a log that is not followed any more. Not before: they show
                # how the two are related.
                _forget(peer, POSITION_META, "witness", BACKFILL_META)
        return Promoted(
            epoch=epoch,
            above=self.note.above,
            brought=brought,
            lost=self._scene.losses(self._restored),
            peer_may_follow=may_follow,
            unreachable=tuple(self._scene.unreachable),
        )


def _forget(store: Store, *names: str) -> None:
    for name in names:
        store.compare_and_set_meta(name, store.meta(name), None)
