"""Check of divergences: which differences between two stores in use are certain.

A difference between two stores in use is as a rule no divergence: one of them was just
written to. What distinguishes them is the order of reading. The secondary is read first and
the primary, at a known epoch, after it; whatever the secondary had by then, the primary
had committed before. So a secondary that is not behind, and not equal, is wrong. One that
is behind is wrong only if the change log has passed and it still is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from pend_storage._model.diff import Difference, differences
from pend_storage._model.records import Row
from pend_storage._redaction import redacted
from pend_storage.dualwrite._circuit_breaker import OUT_OF_REACH
from pend_storage.dualwrite._pair import NAMES
from pend_storage.dualwrite._replication_position import HELD_BACK, ReplicationPosition
from pend_storage.dualwrite._route import Route
from pend_storage.errors import PendStorageError, StaleEpoch
from pend_storage.phases import Role, RoleState
from pend_storage.reports import Divergence
from pend_storage.schema import Schema

__all__ = [
    "ComparisonRules",
    "ConfirmedFindings",
    "DivergenceConfirmer",
    "Finding",
    "Kind",
    "Place",
    "Source",
    "State",
    "hide_values",
    "show_values",
]

Place: TypeAlias = tuple[str, str]
"""Collection and key."""
Kind: TypeAlias = Literal["missing", "extra", "different", "answer"]
"""Missing: only the primary has the record. Extra: only the secondary has it. Answer: a
query is answered otherwise though its records are equal."""
State: TypeAlias = Literal["open", "repaired", "gone", "accepted"]
"""State of a finding; see :class:`~pend_storage.records.FindingRecord`."""
Source: TypeAlias = Literal["read", "validation", "edit"]
"""Origin of a finding: a compared read, a validation, or an edit of a legacy file."""
Redact: TypeAlias = Callable[[str, Difference], Difference]
"""Gets the collection and a difference, and returns what may be shown of it."""

_REMEMBERED: Final = 8
"""States of a record of the primary that its followers may still be at."""
_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Finding: a confirmed divergence, of one record or of an answer."""

    collection: str
    key: str
    kind: Kind
    versions: tuple[int, int]
    """In the primary and in the secondary; 0 where not even a tombstone is there."""
    differences: tuple[Difference, ...] = ()
    """Of a different record: field by field, the primary on the left, redacted."""
    first_seen: datetime
    last_seen: datetime
    source: Source = "read"
    state: State = "open"
    id: str = ""
    """Of its record; empty where it was not recorded yet."""
    quarantined: str | None = None
    """Of an edit: id of the quarantined record with its text."""

    def as_divergence(self) -> Divergence:
        """Return it as a validation reports it; an answer is of no one record."""
        assert self.kind != "answer"  # noqa: S101 - only records are validated
        return Divergence(
            collection=self.collection,
            key=self.key,
            kind=self.kind,
            versions=self.versions,
            differences=self.differences,
        )


class ConfirmedFindings(NamedTuple):
    """Outcome for the candidates; those that are in neither are equal."""

    found: dict[str, Finding]
    """Certain differences, by key."""
    unsettled: frozenset[str]
    """Keys that went on changing until the patience was used up: neither equal nor certain."""


def hide_values(collection: str, difference: Difference) -> Difference:  # noqa: ARG001
    """Show the place of a difference, and of its values only the type and size."""
    return difference.hidden()


def show_values(collection: str, difference: Difference) -> Difference:  # noqa: ARG001
    """Show the whole difference, but of personal fields: for data not confidential."""
    return difference


class ComparisonRules:
    """Rules of what counts as a difference, and of what may be shown of one."""

    def __init__(
        self,
        ignore: Iterable[str] = (),
        redact: Redact = hide_values,
        schema: Schema | None = None,
    ) -> None:
        """Make rules.

        Args:
            ignore: places such as ``users.last_seen`` or ``users.extra.session``; a star
                stands for any collection.
            redact: what may be shown. It gets values of personal fields hidden.
            schema: says which fields are personal; None: none is.
        """
        self._schema = schema
        self._ignore = [tuple(place.split(".")) for place in ignore]
        self._redact = redact

    def differences(
        self, collection: str, left: Any, right: Any
    ) -> tuple[Difference, ...]:
        """Return the differences that count, as they may be shown."""
        return tuple(
            self._redact(collection, self._without_personal(collection, found))
            for found in differences(left, right)
            if not self._is_ignored(collection, found.path)
        )

    def _without_personal(self, collection: str, found: Difference) -> Difference:
        if self._schema is None:
            return found
        return redacted(self._schema[collection], found)

    def _is_ignored(self, collection: str, path: tuple[str | int, ...]) -> bool:
        place = tuple(map(str, path))
        return any(
            rule[0] in {collection, "*"} and place[: len(rule) - 1] == rule[1:]
            for rule in self._ignore
        )


@dataclass(frozen=True, slots=True)
class _Observation:
    """Rows of one key in both stores, of which the secondary was read first."""

    primary: Row | None
    secondary: Row | None

    @property
    def versions(self) -> tuple[int, int]:
        return (
            0 if self.primary is None else self.primary.version,
            0 if self.secondary is None else self.secondary.version,
        )

    @property
    def kind(self) -> Kind:
        if self.secondary is None or self.secondary.record is None:
            return "missing"
        if self.primary is None or self.primary.record is None:
            return "extra"
        return "different"


class _Candidate:
    """Key that may differ, and what was observed of it so far."""

    __slots__ = ("_past", "_since", "_versions")

    def __init__(self) -> None:
        self._versions: tuple[int, int] | None = None
        self._since = 0.0
        self._past: dict[int, Row] = {}

    def add(self, observation: _Observation, now: float) -> float:
        """Add an observation; return the seconds for which nothing has moved."""
        if self._versions != observation.versions:
            self._versions, self._since = observation.versions, now
        if observation.primary is not None:
            self._past[observation.primary.version] = observation.primary
            while len(self._past) > _REMEMBERED:
                del self._past[next(iter(self._past))]
        return now - self._since

    def past(self, observation: _Observation) -> _Observation | None:
        """Return the secondary beside the primary as it was at the secondary's version."""
        # A record that is written all the time is never observed equal in both, but the
        # secondary has in time what the primary had.
        there = observation.secondary
        before = None if there is None else self._past.get(there.version)
        return None if before is None else _Observation(before, there)


class DivergenceConfirmer:
    """Confirms which differences are certain."""

    def __init__(
        self,
        rules: ComparisonRules,
        catch_up: Callable[[], object],
        *,
        patience: float = 10.0,
    ) -> None:
        """Make a confirmer.

        Args:
            rules: what counts.
            catch_up: drains the change log into the secondary.
            patience: seconds after which a key that goes on changing is left unsettled.
        """
        self._rules = rules
        self._catch_up = catch_up
        self._patience = patience

    def confirm(
        self,
        route: Route,
        collection: str,
        keys: Iterable[str],
        *,
        source: Source = "read",
        stop: threading.Event | None = None,
    ) -> ConfirmedFindings:
        """Confirm which of these keys differ.

        Args:
            route: the primary and its follower.
            collection: name of the collection.
            keys: candidates, which may differ.
            source: recorded in the findings.
            stop: ends the work when set.

        Returns:
            The findings, and the keys that went on changing.

        Raises:
            StaleEpoch: the roles have changed, which makes the observations worthless.
            StoreUnavailable: a store cannot be reached.
        """
        deadline = time.monotonic() + self._patience
        found: dict[str, Finding] = {}
        candidates = {key: _Candidate() for key in keys}
        pause = _FIRST_PAUSE
        while candidates:
            mark = self._mark(route)
            observed = _observe(route, collection, candidates)
            now = time.monotonic()
            for key, observation in observed.items():
                quiet = candidates[key].add(observation, now) >= HELD_BACK
                if self._is_settled(collection, candidates[key], observation):
                    del candidates[key]
                elif _is_certain(observation, mark, quiet=quiet):
                    found[key] = self._finding(collection, key, observation, source)
                    del candidates[key]
            if not candidates or now >= deadline:
                break
            self.wait(pause, stop)
            if stop is not None and stop.is_set():
                break
            pause = min(2 * pause, _LONGEST_PAUSE)
        return ConfirmedFindings(found, frozenset(candidates))

    def _is_settled(
        self, collection: str, candidate: _Candidate, observation: _Observation
    ) -> bool:
        """Return whether both are equal, or the secondary has what the primary just had."""
        past = candidate.past(observation)
        return self._agree(collection, observation) or (
            past is not None and self._agree(collection, past)
        )

    def wait(self, pause: float, stop: threading.Event | None) -> None:
        """Drain the change log and wait, so that what is on its way can arrive."""
        try:
            self._catch_up()
        except (StaleEpoch, *OUT_OF_REACH):
            raise
        except PendStorageError:
            pass  # a refused commit is a divergence that this check is to confirm
        (stop or threading.Event()).wait(pause)

    def _mark(self, route: Route) -> int:
        mark = ReplicationPosition.load(route.secondary)
        return 0 if mark is None else mark.sequence

    def _agree(self, collection: str, observation: _Observation) -> bool:
        left = None if observation.primary is None else observation.primary.record
        right = None if observation.secondary is None else observation.secondary.record
        if left is None or right is None:
            return left is right
        return not self._rules.differences(collection, left, right)

    def _finding(
        self, collection: str, key: str, observation: _Observation, source: Source
    ) -> Finding:
        now = datetime.now(UTC)
        shown: tuple[Difference, ...] = ()
        if (
            observation.kind == "different"
            and observation.primary
            and observation.secondary
        ):
            shown = self._rules.differences(
                collection, observation.primary.record, observation.secondary.record
            )
        return Finding(
            collection=collection,
            key=key,
            kind=observation.kind,
            versions=observation.versions,
            differences=shown,
            first_seen=now,
            last_seen=now,
            source=source,
        )


def _is_certain(observation: _Observation, mark: int, *, quiet: bool) -> bool:
    """Return whether a difference is certain: it cannot be a commit on its way.

    Args:
        observation: of one key.
        mark: how far the log had been applied before it was read.
        quiet: neither row has changed for longer than a commit can be on its way.
    """
    primary, secondary = observation.versions
    # The secondary was read first: a version that it had, the primary had committed before.
    if secondary >= primary:
        return True
    # A version is never below the number of the commit that gave it.
    return mark >= primary or quiet


def _observe(
    route: Route, collection: str, keys: Iterable[str]
) -> Mapping[str, _Observation]:
    wanted = sorted(keys)
    secondary = route.secondary.read(collection, wanted, deleted=True)
    primary = route.store.read(collection, wanted, deleted=True, epoch=route.epoch)
    require_following(route)
    return {key: _Observation(primary.get(key), secondary.get(key)) for key in wanted}


def require_following(route: Route) -> None:
    """Check that the follower is still one, after it was read.

    A primary that detaches its follower stays at its epoch, so only the follower shows it.

    Raises:
        StaleEpoch: it does not follow any more, which makes what was read from it worthless.
    """
    state = route.secondary.role()
    if state != RoleState(Role.SECONDARY, route.epoch):
        raise StaleEpoch(
            store=NAMES[route.follower_side], role=state.role.value, epoch=state.epoch
        )
