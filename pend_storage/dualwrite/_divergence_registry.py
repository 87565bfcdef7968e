"""Registry of divergences: findings as rows of the primary, seen by every process.

Findings are ordinary commits, so the relay applies them to the secondary and they are there
after every switch. Their commits never wait for the secondary, and are made by the thread
that compares, never by a call that reads. Only so many are kept: an operator who sees a
thousand knows enough, and a broken secondary must not fill the primary.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

from pend_storage._model.records import Delete, FindingRecord, Put, Row
from pend_storage._redaction import record_label
from pend_storage._shown import shown
from pend_storage.dualwrite._divergence_check import Finding, Place, State
from pend_storage.dualwrite._finding_records import (
    Seen,
    as_record,
    id_of,
    is_accepted,
    is_as,
    seen,
    to_finding,
)
from pend_storage.dualwrite._relay_schedule import RelaySchedule
from pend_storage.dualwrite._route import Route
from pend_storage.dualwrite._router import Router
from pend_storage.errors import ConfigError, Conflict, PendStorageError
from pend_storage.events import Event, Hook
from pend_storage.query import Condition, field, make_query
from pend_storage.schema import FINDINGS
from pend_storage.store import Store

__all__ = ["DivergenceRegistry"]

_MOST: Final = 1_000
"""Findings kept; where more come, closed ones make room, and then no more are taken."""
_AT_ONCE: Final = 100
_ATTEMPTS: Final = 5
_FRESH: Final = 1.0
"""Seconds for which it is believed which findings are open."""
_RENEW: Final = 60.0
"""Seconds after which a finding that is seen again and again is written again."""


class _Plan(NamedTuple):
    """One commit to the findings, made from what is there now."""

    operations: list[Put | Delete]
    checks: dict[str, int]
    """Key to the version that must still be there."""
    news: list[str]
    """Ids of findings that are opened."""


class DivergenceRegistry:
    """Records the findings of a pair. Safe to share between threads."""

    def __init__(
        self,
        router: Router,
        hook: Hook,
        schedule: RelaySchedule,
        *,
        most: int = _MOST,
    ) -> None:
        """Make a registry.

        Args:
            router: knows the primary.
            hook: gets an event for each new finding.
            schedule: of the relay, notified of commits that the secondary does not have.
            most: findings kept.
        """
        self._router = router
        self._hook = hook
        self._schedule = schedule
        self._most = most
        self.after_fork()

    def after_fork(self) -> None:
        """Make a new lock in a forked child: a thread of the parent may hold the old one."""
        self._lock = threading.Lock()
        self._known: frozenset[str] = frozenset()
        self._known_at = -_FRESH
        self._written: dict[str, float] = {}
        self._accepted: dict[str, Seen] = {}
        self._is_full = False

    # -- reading ------------------------------------------------------------------------

    def findings(self, *, closed: bool = False) -> tuple[Finding, ...]:
        """Return the open findings, or all of them, ordered by when they were first seen.

        Raises:
            StoreUnavailable: the primary cannot be reached.
        """
        where = () if closed else (field("state") == "open",)
        return tuple(to_finding(row.record) for row in self._rows(where))

    def _rows(self, where: tuple[Condition, ...]) -> list[Row]:
        spec = self._router.pair.json.schema[FINDINGS]
        query = make_query(spec, where, order_by=("first_seen",))
        return self._router.call_reading(
            lambda store, at: store.query(FINDINGS, query, epoch=at)
        )

    def _open(self) -> frozenset[str]:
        """Return the ids of open findings, at most a second old."""
        with self._lock:
            if time.monotonic() - self._known_at < _FRESH:
                return self._known
        rows = self._rows((field("state") == "open",))
        return self._learn(frozenset(row.key for row in rows))

    def _learn(self, known: frozenset[str]) -> frozenset[str]:
        with self._lock:
            self._known, self._known_at = known, time.monotonic()
            self._accepted = dict(list(self._accepted.items())[-self._most :])
            self._written = {
                i: at
                for i, at in self._written.items()
                if i in known or i in self._accepted
            }
        return known

    # -- opening findings ---------------------------------------------------------------

    def record(self, findings: Iterable[Finding]) -> None:
        """Open findings, or record that they were seen again.

        Errors of the store are emitted as ``findings-not-kept`` and not raised: a divergence
        that could not be recorded will be found again.
        """
        # A finding that is seen at every read is written once a minute only: a broken
        # secondary must not turn reads of the pair into writes of the primary.
        wanted = {id_of(f.collection, f.key): f for f in findings}
        try:
            known = self._open()
            due = [i for i in wanted if self._is_news(i, wanted[i], known)]
            for start in range(0, len(due), _AT_ONCE):
                part = due[start : start + _AT_ONCE]
                news = self._write(partial(self._opening, part, wanted))
                self._written.update(dict.fromkeys(part, time.monotonic()))
                for identity in news:
                    self._emit(wanted[identity])
        except PendStorageError as error:
            self._emit_not_recorded(error)

    def _is_news(self, identity: str, finding: Finding, known: Collection[str]) -> bool:
        """Return whether a finding has to be written, as far as this process knows."""
        if identity in known:
            return self._is_due(identity)
        # One that was accepted is not open, and is looked up only now and then.
        return self._accepted.get(identity) != seen(finding) or self._is_due(identity)

    def _is_due(self, identity: str) -> bool:
        return time.monotonic() - self._written.get(identity, -_RENEW) >= _RENEW

    def _opening(
        self, part: Sequence[str], wanted: dict[str, Finding], route: Route
    ) -> _Plan:
        """Plan a commit that opens these findings, or records that they were seen again."""
        rows = route.store.read(FINDINGS, part, deleted=True, epoch=route.epoch)
        open_ones = {i for i, row in rows.items() if row.record and _is_open(row)}
        accepted = {i for i in part if is_accepted(rows.get(i), wanted[i])}
        self._accepted.update((i, seen(wanted[i])) for i in accepted)
        part = [identity for identity in part if identity not in accepted]
        news = [identity for identity in part if identity not in open_ones]
        # Only rows that do not exist yet need room; a closed finding is opened in its place.
        fresh = [i for i in news if i not in rows or rows[i].record is None]
        room = self._most - route.store.count(
            FINDINGS, _everything(route.store), epoch=route.epoch
        )
        leaving = self._closed(route, max(0, len(fresh) - room), set(news))
        excess = set(fresh[max(0, room + len(leaving)) :])
        self._emit_full(bool(excess))
        kept = [identity for identity in part if identity not in excess]
        operations: list[Put | Delete] = [
            route.store.schema.put(
                FINDINGS,
                as_record(i, wanted[i], rows[i].record if i in open_ones else None),
            )
            for i in kept
        ]
        # Every row is checked at the version that was read: of two processes that find the
        # same at once, one conflicts and plans again on top of the other's row.
        checks = {i: rows[i].version if _is_there(rows.get(i)) else 0 for i in kept}
        operations += [Delete(FINDINGS, row.key) for row in leaving]
        checks |= {row.key: row.version for row in leaving}
        return _Plan(operations, checks, [i for i in news if i not in excess])

    def _closed(self, route: Route, wanted: int, but: Collection[str]) -> list[Row]:
        """Return the oldest closed findings, which may make room for others."""
        if not wanted:
            return []
        query = make_query(
            route.store.schema[FINDINGS],
            (field("state") != "open",),
            order_by=("last_seen",),
            limit=wanted + len(but),
        )
        rows = route.store.query(FINDINGS, query, epoch=route.epoch)
        return [row for row in rows if row.key not in but][:wanted]

    def _emit_full(self, full: bool) -> None:  # noqa: FBT001 - the fact itself
        if full and not self._is_full:
            message = (
                f"{self._most} findings are open, and further ones are not recorded: repair "
                "the secondary, or see what is wrong with it"
            )
            fields = {"findings": self._most}
            self._hook(Event("findings-full", message, logging.ERROR, fields))
        self._is_full = full

    def _emit(self, finding: Finding) -> None:
        self._hook(
            Event(
                "divergence",
                f"{self._label(finding.collection, finding.key)} is {finding.kind} in the "
                "secondary: `pend-storage repair` repairs it",
                logging.ERROR,
                {"collection": finding.collection, "kind": finding.kind},
            )
        )

    def _label(self, collection: str, key: str) -> str:
        return record_label(self._router.pair.json.schema[collection], key)

    def _emit_not_recorded(self, error: PendStorageError) -> None:
        self._hook(
            Event(
                "findings-not-kept",
                f"findings of a comparison could not be recorded: {error}",
                logging.WARNING,
            )
        )

    # -- closing findings -----------------------------------------------------------------

    def record_equal(self, places: Iterable[Place]) -> None:
        """Close the open findings of records that were seen to be equal."""
        try:
            known = self._open()
            if known:
                self._close(known & {id_of(*place) for place in places}, "gone")
        except PendStorageError as error:
            self._emit_not_recorded(error)

    def record_repaired(self, places: Iterable[Place]) -> None:
        """Close the findings of records that were repaired."""
        try:
            self._close({id_of(*place) for place in places}, "repaired")
        except PendStorageError as error:
            self._emit_not_recorded(error)

    def emit_edits(self, edits: Iterable[FindingRecord]) -> None:
        """Emit a ``divergence`` for each edit of a legacy file that was set aside."""
        for record in edits:
            if record.state == "open":
                self._hook(
                    Event(
                        "divergence",
                        f"{self._label(record.collection, record.key)} was changed in a legacy "
                        "file while JSON is secondary: what it said is in quarantine "
                        f"as {shown(record.quarantined)}",
                        logging.WARNING,
                        {"collection": record.collection, "kind": record.kind},
                    )
                )

    def accept(self, findings: Mapping[str, Finding]) -> None:
        """Close findings that an operator accepts, as they were seen.

        Args:
            findings: by id, as the operator has seen them.

        Raises:
            ConfigError: one of them was closed, or seen otherwise, meanwhile; none was
                accepted with it.
        """
        self._write(partial(_accepting, findings))
        with self._lock:
            self._known -= findings.keys()

    def record_accepted(self, identities: Collection[str]) -> None:
        """Close findings of edits that an operator has settled in quarantine."""
        self._close(identities, "accepted")

    def _close(self, identities: Collection[str], state: State) -> None:
        ordered = sorted(identities)
        for start in range(0, len(ordered), _AT_ONCE):
            part = ordered[start : start + _AT_ONCE]
            self._write(partial(_closing, part, state))
        if ordered:
            with self._lock:
                self._known -= frozenset(ordered)

    # -- writing --------------------------------------------------------------------------

    def _write(
        self,
        plan: Callable[[Route], _Plan],
    ) -> list[str]:
        """Commit a plan, anew while it conflicts; return the ids of new findings.

        Args:
            plan: makes the commit from the rows that the primary has now.

        Raises:
            Conflict: other processes wrote the same findings at each attempt.
        """

        def attempt(route: Route) -> list[str]:
            wanted = plan(route)
            if wanted.operations:
                checks = {(FINDINGS, key): at for key, at in wanted.checks.items()}
                batch = route.store.schema.batch(wanted.operations, checks)
                route.store.commit(batch, epoch=route.epoch)
            return wanted.news

        for left in reversed(range(_ATTEMPTS)):
            try:
                news = self._router.call(attempt)
            except Conflict:
                if not left:
                    raise
                continue
            with self._lock:
                self._known |= frozenset(news)
            self._schedule.notify()
            return news
        raise AssertionError("the last attempt returns or raises")


def _accepting(findings: Mapping[str, Finding], route: Route) -> _Plan:
    rows = route.store.read(FINDINGS, list(findings), epoch=route.epoch)
    for identity, finding in findings.items():
        row = rows.get(identity)
        if row is None or not _is_open(row) or not is_as(row.record, finding):
            raise ConfigError(
                f"the divergence {identity} has changed meanwhile: look at it again. "
                "pend-storage divergences list"
            )
    puts: list[Put | Delete] = [
        route.store.schema.put(FINDINGS, replace(row.record, state="accepted"))
        for row in rows.values()
    ]
    return _Plan(puts, {key: row.version for key, row in rows.items()}, [])


def _closing(part: Sequence[str], state: State, route: Route) -> _Plan:
    rows = route.store.read(FINDINGS, part, epoch=route.epoch)
    mine = [row for row in rows.values() if _is_open(row)]
    puts: list[Put | Delete] = [
        route.store.schema.put(FINDINGS, replace(row.record, state=state))
        for row in mine
    ]
    return _Plan(puts, {row.key: row.version for row in mine}, [])


def _is_open(row: Row) -> bool:
    return bool(row.record.state == "open")


def _is_there(row: Row | None) -> bool:
    return row is not None and row.record is not None


def _everything(store: Store) -> Condition:
    return make_query(store.schema[FINDINGS], ()).where
