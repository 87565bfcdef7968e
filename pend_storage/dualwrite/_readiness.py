"""Readiness for a phase: the blockers in its way, and which of them can be accepted.

A forward switch is gated by all that an operator should have done before. A backward
switch is gated only by what would be lost, which normally is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol, TypeAlias, runtime_checkable

import msgspec

from pend_storage._model.records import JSON, QuarantinedRecord
from pend_storage._shown import did_you_mean, listed, moment, shown
from pend_storage.dualwrite._backup_fact import backup_problem
from pend_storage.dualwrite._lag import Distance, lag_of
from pend_storage.dualwrite._pair import Pair
from pend_storage.dualwrite._pair_metadata import PairMetadata
from pend_storage.dualwrite._relay_schedule import blocked_reason
from pend_storage.dualwrite._replication_position import (
    ReplicationPosition,
    is_complete_when_resumed,
)
from pend_storage.dualwrite._roles import RolePair, other
from pend_storage.dualwrite._switch import UNCOVERED
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.phases import Phase, path
from pend_storage.query import field, make_query
from pend_storage.schema import FINDINGS
from pend_storage.store import Store

__all__ = [
    "CODES",
    "VALIDATION_META",
    "WAITING",
    "Blocker",
    "Check",
    "Readiness",
    "ReadinessGate",
    "count_waiting",
    "record_validation",
]

CODES: Final = (
    "schema",
    "unclaimed",
    "backfill",
    "validation",
    "lag",
    "quarantine",
    "backup",
)
"""Codes of blockers, in the order in which they are best removed."""
VALIDATION_META: Final = "validation"
"""Meta of a follower: result of the last full validation against its primary."""
_MOST_LAG: Final = 1_000
"""Commits that may be missing: a second or two of work before the fence."""

_SHOWN_NAMES: Final = 5
"""Files that a sentence names."""

Check: TypeAlias = Callable[[], str | None]
"""Returns a sentence on what is wrong and what to do; None where there is no blocker."""

_NEEDED: Final[Mapping[Phase, tuple[str, ...]]] = {
    Phase.PARALLEL: ("schema",),
    Phase.POSTGRES_PRIMARY: CODES,
    Phase.POSTGRES_ONLY: ("unclaimed", "validation", "lag", "quarantine", "backup"),
}


@dataclass(frozen=True, slots=True)
class Blocker:
    """Reason not to switch."""

    code: str
    """One of :data:`CODES`."""
    sentence: str
    """What is wrong, and what to do about it."""

    @property
    def can_be_accepted(self) -> bool:
        """True where an operator may accept it. A backfill cannot be: records are lost."""
        return self.code != UNCOVERED[0]


@dataclass(frozen=True, slots=True)
class Readiness:
    """Readiness for a phase: the blockers of a switch, and the steps that it would take."""

    phase: Phase
    """The phase asked about."""
    steps: tuple[Phase, ...]
    """The phases on the way, it included; none where it is the present one."""
    blockers: tuple[Blocker, ...]
    """On the way back: what would be lost."""

    @property
    def ok(self) -> bool:
        """True where there is no blocker."""
        return not self.blockers

    def refused(self, accept: Collection[str]) -> tuple[Blocker, ...]:
        """Return the blockers that refuse the switch where these codes are accepted."""
        return tuple(
            blocker
            for blocker in self.blockers
            if blocker.code not in accept or not blocker.can_be_accepted
        )


WAITING: Final = field("status") == "waiting"
"""Condition of the quarantined records that need a decision: they are neither placed nor
accepted."""


def count_waiting(store: Store) -> int:
    """Count the quarantined records of a store that need a decision.

    Raises:
        StoreUnavailable: it cannot be reached.
    """
    return store.collection(QuarantinedRecord).count(WAITING)


class _Validation(msgspec.Struct):
    """Value of :data:`VALIDATION_META`."""

    of: str
    base: int
    ok: bool
    found: int
    at: str
    incarnations: tuple[str, str] | None = None
    """Of the primary and the follower; None in facts of older versions."""


def record_validation(
    primary: Store, follower: Store, *, found: int, incarnations: tuple[str, str]
) -> None:
    """Record the result of a full validation, beside the mark that it is about.

    Args:
        primary: one of the stores that were compared.
        follower: the other one; the record is in its meta.
        found: how many records differ, or may differ.
        incarnations: of the two when the comparison began.
    """
    mark = ReplicationPosition.load(follower)
    if mark is None:
        return
    fact: JSON = msgspec.to_builtins(
        _Validation(
            of=primary.identity(),
            base=mark.contiguous_from,
            ok=found == 0,
            found=found,
            at=datetime.now(UTC).isoformat(),
            incarnations=incarnations,
        )
    )
    follower.compare_and_set_meta(VALIDATION_META, follower.meta(VALIDATION_META), fact)


@runtime_checkable
class _HasFiles(Protocol):
    """Store that knows which files of its directory no layout claims."""

    def unclaimed_files(self) -> Sequence[Path]: ...


class ReadinessGate:
    """Finds the blockers of a phase by reading both stores."""

    def __init__(
        self,
        pair: Pair,
        metadata: PairMetadata,
        checks: Mapping[str, Check],
        *,
        can_copy: bool,
        is_complete: Callable[[Store, Store], bool] = is_complete_when_resumed,
        measure: Callable[[Store, ReplicationPosition | None], Distance] = lag_of,
    ) -> None:
        """Make a gate.

        Args:
            pair: both stores.
            metadata: values of the pair.
            checks: by code, in the place of the checks of the gate itself.
            can_copy: whether a switch can bring a stale follower up to date by itself.
            is_complete: returns whether a switch would find the follower complete.
            measure: measures the lag behind a mark.

        Raises:
            ConfigError: there is no such code.
        """
        require_codes(checks)
        self._pair = pair
        self._metadata = metadata
        self._can_copy = can_copy
        self._is_complete = is_complete
        self._measure = measure
        self._checks: dict[str, Callable[[RolePair], str | None]] = {
            "schema": lambda _: None,
            "unclaimed": self._unclaimed,
            "backfill": self._backfill,
            "validation": self._validation,
            "lag": self._lag,
            "quarantine": self._quarantine,
            "backup": self._backup,
        }
        self._given = dict(checks)

    def readiness(self, view: RolePair, wanted: Phase) -> Readiness:
        """Return the blockers, and the steps, from settled roles to a phase."""
        assert view.phase is not None  # noqa: S101 - settled roles are a phase
        steps = path(view.phase, wanted)
        forward = wanted.position > view.phase.position
        found = self._forward(view, steps) if forward else self._backward(view, steps)
        return Readiness(wanted, steps, tuple(found))

    def _forward(self, view: RolePair, steps: Sequence[Phase]) -> Iterator[Blocker]:
        needed = {code for step in steps for code in _NEEDED.get(step, ())}
        # In the order of the codes, which is the order in which blockers are best removed.
        for code in CODES:
            if code in needed and (sentence := self._sentence(code, view)) is not None:
                yield Blocker(code, sentence)

    def _sentence(self, code: str, view: RolePair) -> str | None:
        given = self._given.get(code)
        return self._checks[code](view) if given is None else given()

    def _backward(self, view: RolePair, steps: Sequence[Phase]) -> Iterator[Blocker]:
        """Yield the blockers of a way back."""
        # Only JSON becoming primary can lose something: what it has not got.
        if Phase.PARALLEL not in steps or self._can_copy:
            return
        if (sentence := self._backfill(view)) is not None:
            yield Blocker("backfill", sentence)

    # -- the facts ----------------------------------------------------------------------

    def _unclaimed(self, _: RolePair) -> str | None:
        """Return a sentence on files that no layout claims; neither store has them."""
        json = self._pair.store("json")
        if not isinstance(json, _HasFiles):
            return None
        names = [path.name for path in json.unclaimed_files()]
        if not names:
            return None
        count = "1 JSON file is" if len(names) == 1 else f"{len(names)} JSON files are"
        return (
            f"{count} claimed by no layout, so that nothing of it gets into PostgreSQL: "
            f"{listed(names, _SHOWN_NAMES)}. Declare it in the schema module, or leave it "
            'out of json.include, or set json.unclaimed = "ignore"'
        )

    def _backfill(self, view: RolePair) -> str | None:
        primary, follower = self._sides(view)
        return None if self._is_complete(primary, follower) else UNCOVERED[1]

    def _validation(self, view: RolePair) -> str | None:
        primary, follower = self._sides(view)
        mark = ReplicationPosition.load(follower)
        try:
            fact = msgspec.convert(follower.meta(VALIDATION_META), _Validation)
        except msgspec.ValidationError:
            fact = None
        since = "since the secondary began to follow"
        if (
            fact is None
            or mark is None
            or (fact.of, fact.base) != (primary.identity(), mark.contiguous_from)
        ):
            return f"the stores were not compared {since}: run a full validation"
        # A validation proves something about the copies of the data that it has read. A
        # server that was exchanged since may hold another copy.
        here = (primary.incarnation(), follower.incarnation())
        if fact.incarnations is not None and tuple(fact.incarnations) != here:
            return _exchanged(fact.at, fact.incarnations, here)
        if fact.ok:
            return self._findings(primary)
        return (
            f"the validation of {moment(fact.at)} found {fact.found} divergences: repair them, "
            "and validate again"
        )

    def _findings(self, primary: Store) -> str | None:
        """Return a sentence on open findings; those of edits are in quarantine instead."""
        spec = primary.schema[FINDINGS]
        where = (field("state") == "open", field("source") != "edit")
        found = primary.count(FINDINGS, make_query(spec, where).where)
        if not found:
            return None
        return (
            f"{found} records were found to diverge since the last validation: repair "
            "them, and validate again"
        )

    def _lag(self, view: RolePair) -> str | None:
        primary, follower = self._sides(view)
        try:
            mark = ReplicationPosition.load(follower)
            commits, _, problem = self._measure(primary, mark)
            blocked = problem or blocked_reason(follower, mark)
        except StoreUnavailable as error:
            return f"the lag of the secondary cannot be measured ({error.reason})"
        if blocked is not None:
            return f"replication to the secondary is blocked: {blocked}"
        if commits <= _MOST_LAG:
            return None
        return (
            f"the secondary is {commits} commits behind: wait until it has caught up, or "
            "see what slows it down"
        )

    def _quarantine(self, view: RolePair) -> str | None:
        primary, _ = self._sides(view)
        waiting = count_waiting(primary)
        if not waiting:
            return None
        unread = primary.unread_files()
        names = ", ".join(f"{file.file} ({file.quarantined})" for file in unread)
        also = f"; what these files hold is unknown, because they could never be read: {names}"
        return (
            f"{waiting} legacy records wait in quarantine: correct them, or accept them "
            f"one by one{also if unread else ''}"
        )

    def _backup(self, view: RolePair) -> str | None:
        return backup_problem(self._pair, self._metadata, view)

    def _sides(self, view: RolePair) -> tuple[Store, Store]:
        side = view.primary
        assert side is not None  # noqa: S101 - settled roles have a primary
        return self._pair.store(side), self._pair.store(other(side))


def _exchanged(at: str, before: Sequence[str], here: Sequence[str]) -> str:
    old, new = next((b, h) for b, h in zip(before, here, strict=True) if b != h)
    return (
        f"the server was exchanged since the validation ({moment(at)}: {old}, now {new}): "
        "validate again"
    )


def require_codes(codes: Mapping[str, object] | Sequence[str]) -> None:
    """Check that these are codes of blockers.

    Raises:
        ConfigError: one is not.
    """
    for code in codes:
        if code not in CODES:
            raise ConfigError(
                f"there is no blocker {shown(code)}{did_you_mean(code, CODES)} The codes are: "
                f"{', '.join(CODES)}."
            )
