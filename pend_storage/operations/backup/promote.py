"""Promotion of a restored store: the environment goes on with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final

from pend_storage._audit_record import record_done
from pend_storage._model.attribution import actor
from pend_storage._model.records import JSON
from pend_storage._model.snapshots import StoredChange
from pend_storage._shown import clause, shown
from pend_storage.backfill import backfill
from pend_storage.backup._catalog import Catalog
from pend_storage.backup._marks import mark_before
from pend_storage.backup._promote import Promoted, Promotion
from pend_storage.backup._promotion_plan import PromotionPlan, Scene
from pend_storage.backup._segments import read_segment
from pend_storage.config import JsonSettings, PostgresSettings, Settings
from pend_storage.config._database_url import shown_url
from pend_storage.dualwrite._phase_controller import ALONE
from pend_storage.dualwrite._roles import SIDES, Side, other
from pend_storage.errors import (
    ConfigError,
    CorruptFile,
    LockTimeout,
    PendStorageError,
    SchemaOutOfDate,
    StoreUnavailable,
)
from pend_storage.factory import open_json, open_pair, open_postgres
from pend_storage.flags import flag_source
from pend_storage.operations.backup.opening import keys_of, open_repository
from pend_storage.operations.backup.side import (
    SideAddress,
    open_side_postgres,
    require_restored,
)
from pend_storage.operations.election import note_promotion, phase_of_roles
from pend_storage.operations.facts import known, read_flag
from pend_storage.operations.jobs import acted, running_job
from pend_storage.operations.phase import FlagChange, change_flag
from pend_storage.phases import Phase, Role
from pend_storage.store import Store

__all__ = ["PromotionReport", "promote", "side_settings"]

_LOST: Final = (
    StoreUnavailable,
    SchemaOutOfDate,
    CorruptFile,
    ConfigError,
    LockTimeout,
)
"""Errors of a store that cannot be opened: it is lost, or out of reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionReport:
    """Report of a promotion, or of its plan."""

    side: Side
    place: str
    """Directory or address of the restored store."""
    plan: PromotionPlan
    done: Promoted | None
    """None for a dry run."""
    phase: Phase
    """In which the environment is afterwards."""
    configuration: str | None
    """Line of the configuration to change; None: it names the restored store already."""
    flag: FlagChange | None
    notes: tuple[str, ...]
    """What is left to do by hand."""


def promote(
    settings: Settings,
    side: str,
    *,
    schema_name: str | None = None,
    roll_forward: Side | None = None,
    dry_run: bool = False,
    by: str | None = None,
    reason: str | None = None,
) -> PromotionReport:
    """Promote a restored store to primary of an environment.

    The store that it replaces and the other one of the pair are detached first. Call it
    again after an interruption.

    Args:
        settings: of the environment.
        side: directory or URL of the restored store.
        schema_name: schema of the database with its tables.
        roll_forward: the other store of the pair, to bring what it has beyond the restored
            position; None: that is lost.
        dry_run: only report what would happen.
        by: who does it; None: the author of this context, or user, machine, process.
        reason: of the person; it is in the history of switches.

    Raises:
        ConfigError: the store was not restored, or it cannot be rolled forward.
        Conflict: roles change at this moment.
        StoreUnavailable: the restored store cannot be reached.
    """
    kind, wanted = side_settings(settings, side, schema_name)
    if roll_forward == kind:
        raise ConfigError(
            f"the restored store is the one of {kind}: what is brought over comes from "
            f"{other(kind)}. Say --roll-forward {other(kind)}, or leave it out."
        )
    address = SideAddress.parse(side, schema_name)
    if address.directory is None:
        with open_side_postgres(settings, address) as database:
            require_restored(address, database)
    with ExitStack() as opened:
        restored = opened.enter_context(_open(wanted, kind))
        others, gone = _others(settings, kind, wanted, restored, opened)
        archive = _Archive(settings)
        scene = Scene(
            restored,
            others,
            peer=other(kind),
            archived=lambda: archive.after(scene.note.sequence),
            unreachable=gone,
        )
        plan = scene.plan(roll_forward=roll_forward is not None)
        done = None
        if not dry_run:
            before = _phase_before(kind, others)
            _mark(others)
            with (
                acted(by, reason) as author,
                running_job(restored, "promote", can_wait=False),
            ):
                done = Promotion(scene).execute(
                    known=archive.highest(),
                    copy=None if roll_forward is None else _copy,
                )
                note_promotion(
                    restored,
                    kind,
                    kind="promotion",
                    before=before,
                    author=actor(),
                )
                details: dict[str, JSON] = {
                    "side": kind,
                    "rolled_forward": roll_forward,
                }
                record_done(
                    restored, "promote", by=author, reason=None, details=details
                )
        has_place = settings.json if kind == "json" else settings.postgres
        is_configured = has_place is not None and kind not in {*others, *gone}
    flag, notes = None, list(_left_to_do(plan, done, scene))
    if done is not None and _has_both(wanted):
        with acted(by, reason) as author:
            flag, problem = _set_flag(wanted, ALONE[kind], by=author)
        notes += [] if problem is None else [problem]
    return PromotionReport(
        side=kind,
        place=_place(wanted, kind),
        plan=plan,
        done=done,
        phase=ALONE[kind],
        configuration=None if is_configured else _line(wanted, kind),
        flag=flag,
        notes=tuple(notes),
    )


# -- the stores -----------------------------------------------------------------------------


def side_settings(
    settings: Settings, side: str, schema_name: str | None = None
) -> tuple[Side, Settings]:
    """Return the kind of a store that was restored, and settings that lead to it.

    Args:
        settings: of the environment.
        side: directory or URL.
        schema_name: schema of the database; None: ``public``.
    """
    address = SideAddress.parse(side, schema_name)
    if address.directory is None:
        known = settings.postgres or PostgresSettings(url=address.url)
        database = replace(known, url=address.url, schema=address.schema_name)
        return "postgres", replace(settings, postgres=database)
    directory = (
        JsonSettings(directory=address.directory)
        if settings.json is None
        else replace(settings.json, directory=address.directory, files={})
    )
    return "json", replace(settings, json=directory)


def _open(settings: Settings, side: Side) -> Store:
    return open_json(settings) if side == "json" else open_postgres(settings)


def _others(
    settings: Settings,
    kind: Side,
    wanted: Settings,
    restored: Store,
    opened: ExitStack,
) -> tuple[dict[str, Store], tuple[str, ...]]:
    """Open the configured stores, without the restored one if it is one of them.

    Returns:
        The stores by side, and the sides that cannot be opened.
    """
    found: dict[str, Store] = {}
    gone: list[str] = []
    for side in SIDES:
        configured = settings.json if side == "json" else settings.postgres
        if configured is None:
            continue
        if side == kind and _is_same_place(settings, wanted, side):
            continue
        try:
            store = opened.enter_context(_open(settings, side))
            if store.identity() == restored.identity():
                continue
            store.role()
        except _LOST:
            gone.append(side)
            continue
        found[side] = store
    return found, tuple(gone)


def _is_same_place(settings: Settings, wanted: Settings, side: Side) -> bool:
    if side == "postgres":
        mine, theirs = settings.require_postgres(), wanted.require_postgres()
        return (mine.url, mine.schema) == (theirs.url, theirs.schema)
    here, there = (s.require_json().directory for s in (settings, wanted))
    with contextlib.suppress(OSError):
        return here.samefile(there)
    return here == there


def _has_both(settings: Settings) -> bool:
    return settings.json is not None and settings.postgres is not None


def _mark(others: dict[str, Store]) -> None:
    """Mark the position of the primary that is replaced: the way back to it."""
    for store in others.values():
        with contextlib.suppress(PendStorageError):
            if store.role().role is Role.PRIMARY:
                mark_before(store, store, "promote")


def _copy(source: Store, target: Store, epoch: int) -> None:
    """Bring over what is newer; see :data:`pend_storage.backup._promote.Copy`."""
    backfill(source, target, epoch=epoch)


class _Archive:
    """Archive of the environment, as far as it is configured and in reach."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._catalog: Catalog | None = None
        if settings.backup is not None:
            with contextlib.suppress(PendStorageError):
                self._catalog = Catalog(open_repository(settings))

    def highest(self) -> int:
        """Return the highest number in it."""
        if self._catalog is None:
            return 0
        with contextlib.suppress(PendStorageError):
            backups = (backup.point.sequence for backup in self._catalog.backups())
            segments = (segment.upto for segment in self._catalog.segments())
            return max([0, *backups, *segments])
        return 0

    def after(self, sequence: int) -> Iterator[StoredChange]:
        """Yield the entries after a number, as far as they can be read here."""
        if self._catalog is None:
            return
        with contextlib.suppress(PendStorageError, FileNotFoundError):
            keys = keys_of(self._settings)
            for segment in self._catalog.segments():
                if segment.upto > sequence:
                    for change in read_segment(self._catalog.repository, segment, keys):
                        if change.sequence > sequence:
                            yield change


# -- afterwards -----------------------------------------------------------------------------


def _phase_before(kind: Side, others: dict[str, Store]) -> Phase | None:
    """Return the phase that the promotion ends, by the stores that it replaces."""
    if len(others) == len(SIDES):
        return phase_of_roles(others["json"], others["postgres"])
    if other(kind) in others:
        state = known(others[other(kind)].role)
        return ALONE[other(kind)] if state and state.role is Role.PRIMARY else None
    return None


def _set_flag(
    settings: Settings, phase: Phase, *, by: str
) -> tuple[FlagChange | None, str | None]:
    """Set the flag to the phase that is, so that no server leaves it by itself."""
    source = flag_source(settings)
    try:
        with open_pair(settings) as pair:
            remembering = source.remembering(pair)
            flag = read_flag(remembering)
            change = change_flag(pair, remembering, flag, phase, by=by)
    except PendStorageError as error:
        return None, (
            f"the phase flag was not set ({clause(str(error))}): set it to {phase.value} "
            "where it comes from, with a later version"
        )
    finally:
        source.close()
    return change, change.note or None


def _left_to_do(
    plan: PromotionPlan, done: Promoted | None, scene: Scene
) -> Iterator[str]:
    """Yield what is left to do by hand."""
    for side in scene.unreachable:
        yield (
            f"{side} cannot be reached, so it could not be detached: see that no server "
            "uses it, and call this again once it is back"
        )
    if done is None:
        if plan.ahead is not None and plan.ahead.newer and plan.may_roll_forward:
            yield (
                f"the other store continues the restored state with {plan.ahead.newer:,} "
                "newer rows: --roll-forward brings them over"
            )
        return
    if scene.peer is not None and not done.peer_may_follow:
        yield (
            "the other store holds what the new primary does not know of: give it an empty "
            "directory or database before it follows again"
        )
    yield "caches that hold records of the time after the restored position: empty them"
    yield "the archive begins anew with this store: pend-storage backup create"


def _place(settings: Settings, side: Side) -> str:
    if side == "json":
        return str(settings.require_json().directory)
    return settings.require_postgres().shown_url


def _line(settings: Settings, side: Side) -> str:
    """Return the line of the configuration that leads to the restored store."""
    table = f"[environments.{settings.environment}.{side}]"
    if side == "json":
        return f"{table} directory = {shown(str(settings.require_json().directory))}"
    database = settings.require_postgres()
    schema = (
        f", schema = {shown(database.schema)}" if database.schema != "public" else ""
    )
    return f"{table} url = {shown(shown_url(database.url))}{schema}"
