"""Election of one store of an environment, and the record of promotions in the history."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Literal

from pend_storage._audit_record import record_done
from pend_storage._model.attribution import Actor, actor, current_actor
from pend_storage.config import Settings
from pend_storage.dualwrite import ForcedPromotion, Switch, force_promotion
from pend_storage.dualwrite._phase_controller import ALONE
from pend_storage.dualwrite._roles import Side
from pend_storage.dualwrite._switch_history import record_promotion
from pend_storage.errors import PendStorageError
from pend_storage.factory import open_json, open_postgres
from pend_storage.operations.facts import known
from pend_storage.operations.jobs import acted
from pend_storage.phases import Phase
from pend_storage.store import Store

__all__ = ["elect", "note_promotion", "phase_of_roles"]


def elect(
    settings: Settings,
    side: Side,
    *,
    by: str | None = None,
    reason: str | None = None,
) -> ForcedPromotion:
    """Promote one store to primary by force, whatever the other one holds.

    A switch needs both stores; this is for an environment that has lost one, or whose
    store was restored from a backup. Every server must have ended before.

    Args:
        settings: of the environment; both stores must be configured.
        side: the store to promote.
        by: who does it; None: the author of this context, or user, machine, process.
        reason: of the person; it is in the history of switches.

    Raises:
        ConfigError: a store is not configured.
        StoreUnavailable: the store that is to be primary cannot be reached.
        Conflict: roles are changing at this moment: a server still runs.
    """
    with (
        acted(by, reason),
        open_json(settings) as json,
        open_postgres(settings) as postgres,
    ):
        before = phase_of_roles(json, postgres)
        done = force_promotion(json, postgres, side)
        chosen = json if side == "json" else postgres
        note_promotion(
            chosen,
            side,
            kind="election",
            before=before,
            author=actor(),
        )
        record_done(chosen, "elect", by=None, reason=None, details={"side": side})
        return done


def phase_of_roles(json: Store, postgres: Store) -> Phase | None:
    """Return the phase by the roles of both stores; None where they are in none, or away."""
    states = [known(json.role), known(postgres.role)]
    roles = tuple(None if state is None else state.role for state in states)
    for phase in Phase:
        if (phase.json_role, phase.postgres_role) == roles:
            return phase
    return None


def note_promotion(
    store: Store,
    side: Side,
    *,
    kind: Literal["election", "promotion"],
    before: Phase | None,
    author: Actor,
) -> None:
    """Record in the history of switches that a store was promoted; once.

    The promotion is made all the same where this fails.

    Args:
        store: the new primary.
        side: which one it is.
        kind: of the entry.
        before: the phase before; None: not known, and the entry has the new one.
        author: who did it, and why.
    """
    with contextlib.suppress(PendStorageError):
        entry = Switch(
            at=datetime.now(UTC),
            by=author.by or current_actor(),
            reason=author.reason,
            kind=kind,
            before=before or ALONE[side],
            after=ALONE[side],
            epoch=store.role().epoch,
            pause=0.0,
        )
        record_promotion(store, entry)
