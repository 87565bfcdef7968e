"""Pair of stores: reads both roles, changes them step by step, and sets the first ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pend_storage._model.records import JSON, ChangedRecord
from pend_storage._restored import require_usable
from pend_storage.crashpoints import declare
from pend_storage.dualwrite._replication_position import (
    POSITION_META,
    TAINTED_META,
    is_empty,
    position_from_now,
)
from pend_storage.dualwrite._roles import (
    SIDES,
    RolePair,
    Side,
    Step,
    is_possible,
    other,
)
from pend_storage.errors import (
    ConfigError,
    PendStorageError,
    SchemaOutOfDate,
    StoreUnavailable,
)
from pend_storage.phases import ROLE_META, Phase, Role, RoleState
from pend_storage.schema import LEGACY_FILES
from pend_storage.store import Store

__all__ = ["NAMES", "Pair", "joining_role", "rewound_text"]

NAMES: Final[dict[Side, str]] = {"json": "JSON", "postgres": "PostgreSQL"}
"""Names of the two stores in messages."""

_STEP_TAKEN: Final = declare("role.changed", "one store has a new role, durably")
_BEGUN: Final = declare("role.begun", "one store of a fresh pair has its first role")


class Pair:
    """Two stores of one schema, whose roles change by one compare-and-set on one of them."""

    def __init__(
        self, json: Store, postgres: Store, *, begin: Phase | None = None
    ) -> None:
        """Make a pair of two stores with one schema.

        Args:
            json: the store of the JSON side.
            postgres: the store of the PostgreSQL side.
            begin: phase of a fresh pair, ``json-only`` or ``postgres-only``; None: the
                phase of the store that has records.

        Raises:
            ConfigError: the schemas differ, or a pair cannot begin in that phase.
        """
        if json.schema.fingerprint() != postgres.schema.fingerprint():
            raise ConfigError(
                "the two stores were made with different schemas: make both with one."
            )
        if begin not in {None, Phase.JSON_ONLY, Phase.POSTGRES_ONLY}:
            raise ConfigError(
                f"a fresh pair begins json-only or postgres-only, not {begin}: switch to "
                "the phase that you want."
            )
        self.json = json
        self.postgres = postgres
        self._begin_phase = begin
        self.unreachable: dict[Side, PendStorageError] = {}
        """Why the role of a store could not be read the last time."""

    def store(self, side: Side) -> Store:
        """Return one of the stores."""
        return self.json if side == "json" else self.postgres

    # -- reading ------------------------------------------------------------------------

    def read_roles(self) -> RolePair:
        """Read both roles; a fresh pair is given its first ones.

        The role of a store that cannot be reached is None. The other one's role holds all
        the same: a store that says it is primary is primary.

        Raises:
            StoreUnavailable: neither can be reached, or a fresh pair not both.
            ConfigError: a store was restored from a backup, or replaced.
        """
        view = self._read_once()
        while not is_possible(view):
            # Perhaps roles changed between the two reads. No store has one role at one
            # epoch twice, so two equal reads in a row are a read at one instant.
            again = self._read_again()
            if again == view:
                self._require_usable()
                raise ConfigError(rewound_text(view))
            view = again
        return view

    def _read_again(self) -> RolePair:
        return self._read_once()

    def _read_once(self) -> RolePair:
        metas = {side: self._read_role(side) for side in SIDES}
        if len(self.unreachable) == len(SIDES):
            raise self.unreachable["json"]
        if any(metas[side] is None and side not in self.unreachable for side in SIDES):
            if self.unreachable:  # whether the pair is fresh is not known
                raise next(iter(self.unreachable.values()))
            self._require_usable()
            self._begin(metas["json"], metas["postgres"])
            metas = {side: self.store(side).meta(ROLE_META) for side in SIDES}
        json, postgres = (
            None if side in self.unreachable else RoleState.from_meta(metas[side])
            for side in SIDES
        )
        return RolePair(json, postgres)

    def _require_usable(self) -> None:
        """Refuse a store that was restored from a backup, and not promoted."""
        for side in SIDES:
            if side not in self.unreachable:
                require_usable(self.store(side), f"the {NAMES[side]} store")

    def _read_role(self, side: Side) -> JSON:
        try:
            meta = self.store(side).meta(ROLE_META)
        except (StoreUnavailable, SchemaOutOfDate) as error:
            self.unreachable[side] = error
            return None
        self.unreachable.pop(side, None)
        return meta

    def try_role(self, side: Side) -> RoleState | None:
        """Read the role of one store; None where it cannot be reached."""
        try:
            return self.store(side).role()
        except (StoreUnavailable, SchemaOutOfDate):
            return None

    # -- changing -----------------------------------------------------------------------

    def apply_step(self, step: Step, given: Mapping[str, JSON] | None = None) -> bool:
        """Apply one step; return False where that store has another role by now.

        Args:
            step: the compare-and-set.
            given: other meta entries of that store that the step depends on.
        """
        done = self.store(step.side).compare_and_set_meta(
            ROLE_META, step.before.to_meta(), step.after.to_meta(), given=given
        )
        if done:
            _STEP_TAKEN()
        return done

    # -- the first roles ----------------------------------------------------------------

    def _begin(self, json: JSON, postgres: JSON) -> None:
        """Set the first role of a store that has none; any number of processes may try."""
        mine = None if json is None else RoleState.from_meta(json)
        peer = None if postgres is None else RoleState.from_meta(postgres)
        following = peer == RoleState(Role.SECONDARY, 0)  # as ``db seed`` leaves it
        if mine is None and (peer is None or following):
            first: Side = self._first_primary()
            self._record_emptiness(self.store(first), self.store(other(first)))
            # The detached one first: two primaries must never be seen.
            self._set_first_role(
                other(first), Role.DETACHED, postgres if following else None
            )
            self._set_first_role(first, Role.PRIMARY, None)
        elif mine is None:
            self._join("json", RoleState.from_meta(postgres))
        else:
            self._join("postgres", mine)

    def _first_primary(self) -> Side:
        if self._begin_phase is not None:
            return "json" if self._begin_phase is Phase.JSON_ONLY else "postgres"
        if next(self.postgres.changes(), None) is None:
            self._raise_clock()
            return "json"
        if is_empty(self.json):
            return "postgres"
        raise ConfigError(
            "both stores were written to before they became a pair, and which one holds "
            "the truth is not known. Say so with begin=Phase.JSON_ONLY or "
            "begin=Phase.POSTGRES_ONLY."
        )

    def _record_emptiness(self, primary: Store, detached: Store) -> None:
        """Record that no backfill is needed, where the primary is empty."""
        mark = position_from_now(primary)
        if mark.needs_no_backfill:
            detached.compare_and_set_meta(POSITION_META, None, mark.to_meta())

    def _raise_clock(self) -> None:
        """Raise the version counter of JSON above every version in PostgreSQL.

        Rows that were written to PostgreSQL while it stood alone could never be
        overwritten otherwise.
        """
        ahead = self.postgres.head()
        if ahead > self.json.head() and not is_empty(self.postgres):
            self.json.apply((ChangedRecord(LEGACY_FILES, "clock", ahead, None),))

    def _join(self, side: Side, known: RoleState) -> None:
        """Set the role of a store without one, beside a store that has one."""
        role = joining_role(side, known)
        if role is Role.DETACHED:
            self._record_unknown_records(side)
        self._set_first_role(side, role, None)

    def _record_unknown_records(self, side: Side) -> None:
        """Mark a JSON store as tainted that replaces another one and has records."""
        # Nothing compares the stores before JSON becomes primary again, on the way back; so
        # what was deleted long ago would be there again. PostgreSQL is compared first.
        store = self.store(side)
        if side == "json" and not is_empty(store):
            store.compare_and_set_meta(TAINTED_META, None, {"by": "replaced"})

    def _set_first_role(self, side: Side, role: Role, before: JSON) -> None:
        first = RoleState(role, 1).to_meta()
        self.store(side).compare_and_set_meta(ROLE_META, before, first)
        _BEGUN()


def joining_role(side: Side, known: RoleState) -> Role:
    """Return the role that a store without one gets at epoch 1.

    Args:
        side: of the store without a role.
        known: role of the other one.

    Raises:
        ConfigError: the store was replaced, or the wrong one is configured.
    """
    if known.role is Role.PRIMARY:
        return Role.DETACHED
    if known == RoleState(Role.DETACHED, 1):
        # The process that began the pair died between its two steps: this is the second.
        return Role.PRIMARY
    raise ConfigError(
        f"{NAMES[side]} has no role, as if it were new, but {NAMES[other(side)]} is "
        f"{known.role} at epoch {known.epoch}: the {NAMES[side]} store was replaced, or the "
        f"wrong one is configured. Configure or restore the right one; or, if it is lost, "
        f"let {NAMES[other(side)]} take over with `pend-storage doctor --elect "
        f"{other(side)}`."
    )


def rewound_text(view: RolePair) -> str:
    """Return the sentence on roles that no switch can have left behind."""
    shown = " and ".join(
        f"{NAMES[side]} {state.role} at epoch {state.epoch}"
        for side in SIDES
        if (state := view.of(side)) is not None
    )
    return (
        f"the stores disagree about who is primary ({shown}), in a way that no switch "
        "leaves behind: one of them was restored from a backup, or replaced. Nothing was "
        "changed. Either bring the store back that was there before; or decide which of "
        "the two holds the truth, and let it take over with `pend-storage doctor "
        "--elect json` or `--elect postgres`. The other one is detached then, and must be "
        "emptied before it can follow."
    )
