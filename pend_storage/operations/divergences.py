"""Divergences of a pair: list, show and accept the findings of all processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from pend_storage._model.diff import Difference, differences
from pend_storage._model.records import JSON
from pend_storage._shown import shown
from pend_storage.config import Settings
from pend_storage.dualwrite import DualWriteStore, Finding
from pend_storage.dualwrite._divergence_acceptance import (
    ACCEPTED_META,
    Acceptance,
    acceptances_in,
)
from pend_storage.dualwrite._divergence_check import Kind, Source, State
from pend_storage.dualwrite._roles import RolePair
from pend_storage.errors import ConfigError
from pend_storage.factory import ConfiguredPair, has_begun, open_pair
from pend_storage.operations.jobs import acted
from pend_storage.store import Store

__all__ = [
    "Divergence",
    "accept",
    "list_divergences",
    "open_findings",
    "show",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Finding, and the decision about it."""

    id: str
    collection: str
    key: str
    """Empty where an answer is meant, and no single record."""
    kind: Kind
    source: Source
    state: State
    versions: tuple[int, int]
    """In the primary and in the secondary, when it was last seen."""
    differences: tuple[Difference, ...]
    """Of a different record: field by field, the primary on the left. Redacted, unless
    the values were asked for."""
    quarantined: str | None
    """Of an edit of a legacy file: id of the quarantined record with its text."""
    first_seen: datetime
    last_seen: datetime
    accepted: Acceptance | None = None
    """Who let it stay, and why; of an open one, the decision about an earlier form of it."""

    @property
    def is_open(self) -> bool:
        """True where it needs a repair or a decision."""
        return self.state == "open"


class Findings(Protocol):
    """Reader of the findings of a pair."""

    def divergences(self, *, closed: bool = False) -> tuple[Finding, ...]:
        """As :meth:`DualWriteStore.divergences`."""

    def meta(self, name: str) -> JSON:
        """As :meth:`DualWriteStore.meta`."""


class Sides(Findings, Protocol):
    """Reader of the findings, and of the records that they are about."""

    @property
    def json(self) -> Store | None:
        """The JSON store; None: it cannot be read."""

    @property
    def postgres(self) -> Store | None:
        """The PostgreSQL store; None: it cannot be read."""

    def roles(self) -> RolePair:
        """As :meth:`DualWriteStore.roles`."""


@contextmanager
def open_findings(settings: Settings) -> Iterator[ConfiguredPair]:
    """Open the pair of an environment, for its findings.

    Raises:
        ConfigError: the environment has no pair of stores, or they were not used as one
            yet.
        StoreUnavailable: the primary cannot be reached.
    """
    settings.require_postgres()
    settings.require_json()
    if not has_begun(settings):  # opening them would begin the pair
        raise ConfigError(
            "the stores were not used as a pair yet, so nothing was compared. See: "
            "pend-storage status"
        )
    with contextlib.closing(open_pair(settings)) as pair:
        yield pair


def list_divergences(
    store: Findings,
    *,
    closed: bool = False,
    collection: str | None = None,
    kind: Kind | None = None,
) -> tuple[Divergence, ...]:
    """List the findings of all processes, by the time they were first seen.

    Args:
        store: the pair.
        closed: also those that were repaired, accepted, or seen to be equal again.
        collection: only those of one collection.
        kind: only ``missing``, ``extra``, ``different`` or ``answer``.

    Raises:
        StoreUnavailable: the primary cannot be reached.
    """
    decisions = acceptances_in(store.meta(ACCEPTED_META))
    return tuple(
        _divergence(found, decisions.get(found.id))
        for found in store.divergences(closed=closed)
        if collection in {None, found.collection} and kind in {None, found.kind}
    )


def show(store: Sides, identity: str, *, values: bool = False) -> Divergence:
    """Return one finding, open or closed.

    Args:
        store: the pair.
        identity: its id, or an unambiguous beginning of it.
        values: read both stores again, and return the differences that are there now with
            their values; personal data are among them.

    Raises:
        ConfigError: no finding matches, or more than one.
        StoreUnavailable: a store that is needed cannot be reached.
    """
    found = _find(list_divergences(store, closed=True), identity)
    if not values or found.kind != "different":
        return found
    primary, secondary = _ordered(store)
    rows = [
        side.read(found.collection, (found.key,)).get(found.key)
        for side in (primary, secondary)
    ]
    records = [None if row is None else row.record for row in rows]
    if None in records:
        return replace(found, differences=())
    there = differences(records[0], records[1])
    return replace(found, differences=tuple(each.bounded() for each in there))


def accept(
    store: DualWriteStore,
    identities: Iterable[str],
    *,
    by: str | None = None,
    reason: str,
) -> tuple[Divergence, ...]:
    """Accept open divergences: the stores may differ there, as they do now.

    One whose record is written again, or that differs in another way, is open again. A
    validation goes on counting it, and a repair repairs it.

    Args:
        store: the pair.
        identities: ids, or unambiguous beginnings of them.
        by: who decides; None: the author of this context, or user, machine, process.
        reason: of the decision, which is kept with it, and with its commit.

    Raises:
        ConfigError: one of them is not open, or cannot be accepted; none was then.
        Conflict: other processes wrote the same findings all the time.
        StoreUnavailable: the primary cannot be reached.
    """
    known = list_divergences(store)
    ids = [_find(known, identity).id for identity in identities]
    with acted(by, reason) as author:
        store.accept_divergences(ids, by=author, reason=reason)
    after = {each.id: each for each in list_divergences(store, closed=True)}
    return tuple(after[identity] for identity in ids)


def _divergence(found: Finding, decision: Acceptance | None) -> Divergence:
    return Divergence(
        id=found.id,
        collection=found.collection,
        key=found.key,
        kind=found.kind,
        source=found.source,
        state=found.state,
        versions=found.versions,
        differences=found.differences,
        quarantined=found.quarantined,
        first_seen=found.first_seen,
        last_seen=found.last_seen,
        accepted=decision,
    )


def _find(known: Iterable[Divergence], text: str) -> Divergence:
    every = tuple(known)
    exact = [each for each in every if each.id == text]
    found = exact or [each for each in every if text and each.id.startswith(text)]
    if len(found) == 1:
        return found[0]
    how = "more than one divergence" if found else "no divergence"
    raise ConfigError(
        f"there is {how} whose id begins with {shown(text)}. See: pend-storage "
        "divergences list"
    )


def _ordered(store: Sides) -> tuple[Store, Store]:
    """Return the primary and the secondary."""
    sides = (store.json, store.postgres)
    primary, secondary = sides if store.roles().primary == "json" else sides[::-1]
    if primary is None or secondary is None:
        raise ConfigError(
            "the values can be shown only where both stores can be read: bring the other "
            "one back, or leave --show-values out."
        )
    return primary, secondary
