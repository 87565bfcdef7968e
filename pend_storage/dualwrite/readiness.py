"""What stands in the way of a phase, and whose word lets it pass.

A forward switch is gated by all that an operator should have seen to. A backward switch
is gated only by what would be lost, which normally is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol, TypeAlias, runtime_checkable

import msgspec

from pend_storage._records import JSON
from pend_storage.dualwrite.lag import lag_of
from pend_storage.dualwrite.marks import Mark, covers, resume_mark
from pend_storage.dualwrite.pair import Pair
from pend_storage.dualwrite.roles import SIDES, Side, View, other
from pend_storage.dualwrite.shared import SharedMeta
from pend_storage.dualwrite.standstill import reason_of
from pend_storage.dualwrite.switch import UNCOVERED
from pend_storage.errors import ChangesExpired, ConfigError, StoreUnavailable
from pend_storage.phases import Phase, path
from pend_storage.query import field, make_query
from pend_storage.schema import FINDINGS, QUARANTINE
from pend_storage.shown import did_you_mean, listed, moment
from pend_storage.store import Store

__all__ = [
    "BACKUP_META",
    "CODES",
    "VALIDATION_META",
    "Blocker",
    "Check",
    "Gate",
    "Readiness",
    "note_backup",
    "note_validation",
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
"""Meta of a follower: what the last full comparison with its primary found."""
BACKUP_META: Final = "backup"
"""Shared value: ``{"verified_at": ...}`` of the last backup that was verified."""
_MOST_LAG: Final = 1_000
"""Commits that may be missing: a second or two of work before the fence."""

_SHOWN_NAMES: Final = 5
"""Files that a sentence names."""

Check: TypeAlias = Callable[[], str | None]
"""Gives a sentence that says what is wrong, and what to do; None if nothing is."""

_NEEDED: Final[Mapping[Phase, tuple[str, ...]]] = {
    Phase.PARALLEL: ("schema",),
    Phase.POSTGRES_PRIMARY: CODES,
    Phase.POSTGRES_ONLY: ("unclaimed", "validation", "lag", "quarantine", "backup"),
}


@dataclass(frozen=True, slots=True)
class Blocker:
    """One reason not to switch."""

    code: str
    """One of :data:`CODES`."""
    sentence: str
    """What is wrong, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a switch may be made, and what it would do."""

    phase: Phase
    """The phase asked about."""
    steps: tuple[Phase, ...]
    """The phases on the way, it included; none where it is the present one."""
    blockers: tuple[Blocker, ...]
    """On the way back: what would be lost."""

    @property
    def ok(self) -> bool:
        """Whether nothing stands in the way."""
        return not self.blockers


class _Validation(msgspec.Struct):
    """The fact that a validation leaves behind."""

    of: str
    base: int
    ok: bool
    found: int
    at: str
    incarnations: tuple[str, str] | None = None
    """Of the primary and the follower; None in facts of older versions."""


def note_validation(
    primary: Store, follower: Store, *, found: int, incarnations: tuple[str, str]
) -> None:
    """Leave behind what a full comparison found, for as long as it means something.

    Args:
        primary: one of the stores that were compared.
        follower: the other one; it keeps the fact.
        found: how many records differ, or may differ.
        incarnations: what stood behind the two when the comparison began.
    """
    mark = Mark.load(follower)
    if mark is None:
        return
    fact: JSON = msgspec.to_builtins(
        _Validation(
            of=primary.identity(),
            base=mark.base,
            ok=found == 0,
            found=found,
            at=datetime.now(UTC).isoformat(),
            incarnations=incarnations,
        )
    )
    follower.compare_and_set_meta(VALIDATION_META, follower.meta(VALIDATION_META), fact)


def note_backup(
    shared: SharedMeta, at: datetime, *, incarnations: Mapping[Side, str] | None = None
) -> None:
    """Leave behind that a backup was made and verified.

    Args:
        shared: values of the pair.
        at: when.
        incarnations: what stood behind the stores that it was made of.
    """
    stood: JSON = msgspec.to_builtins(dict(incarnations or {}))
    fact: JSON = {"verified_at": at.isoformat(), "incarnations": stood}
    while not shared.compare_and_set(BACKUP_META, shared.get(BACKUP_META), fact):
        pass


@runtime_checkable
class _HasFiles(Protocol):
    """A store that knows which files of its directory nobody looks after."""

    def unclaimed_files(self) -> Sequence[Path]: ...


class Gate:
    """Looks at the facts."""

    def __init__(
        self,
        pair: Pair,
        shared: SharedMeta,
        checks: Mapping[str, Check],
        *,
        can_copy: bool,
    ) -> None:
        """Make it.

        Args:
            pair: both stores.
            shared: values of the pair.
            checks: by code, instead of what is looked at here.
            can_copy: whether a switch can bring a stale follower up to date by itself.

        Raises:
            ConfigError: there is no such code.
        """
        require_codes(checks)
        self._pair = pair
        self._shared = shared
        self._can_copy = can_copy
        self._checks: dict[str, Callable[[View], str | None]] = {
            "schema": lambda _: None,
            "unclaimed": self._unclaimed,
            "backfill": self._backfill,
            "validation": self._validation,
            "lag": self._lag,
            "quarantine": self._quarantine,
            "backup": self._backup,
        }
        self._given = dict(checks)

    def readiness(self, view: View, wanted: Phase) -> Readiness:
        """What stands in the way from settled roles to a phase."""
        assert view.phase is not None  # noqa: S101 - settled roles are a phase
        steps = path(view.phase, wanted)
        forward = wanted.position > view.phase.position
        found = self._forward(view, steps) if forward else self._backward(view, steps)
        return Readiness(wanted, steps, tuple(found))

    def _forward(self, view: View, steps: Sequence[Phase]) -> Iterator[Blocker]:
        needed = {code for step in steps for code in _NEEDED.get(step, ())}
        for code in CODES:
            if code in needed and (sentence := self._sentence(code, view)) is not None:
                yield Blocker(code, sentence)

    def _sentence(self, code: str, view: View) -> str | None:
        given = self._given.get(code)
        return self._checks[code](view) if given is None else given()

    def _backward(self, view: View, steps: Sequence[Phase]) -> Iterator[Blocker]:
        """Only JSON becoming primary can lose something: what it has not got."""
        if Phase.PARALLEL not in steps or self._can_copy:
            return
        if (sentence := self._backfill(view)) is not None:
            yield Blocker("backfill", sentence)

    # -- the facts ----------------------------------------------------------------------

    def _unclaimed(self, _: View) -> str | None:
        """Files that stay behind, for nothing of them is in either store."""
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

    def _backfill(self, view: View) -> str | None:
        primary, follower = self._sides(view)
        try:
            fits = covers(primary, follower, resume_mark(primary, follower))
        except ChangesExpired:
            fits = False
        return None if fits else UNCOVERED[1]

    def _validation(self, view: View) -> str | None:
        primary, follower = self._sides(view)
        mark = Mark.load(follower)
        try:
            fact = msgspec.convert(follower.meta(VALIDATION_META), _Validation)
        except msgspec.ValidationError:
            fact = None
        since = "since the secondary began to follow"
        if (
            fact is None
            or mark is None
            or (fact.of, fact.base) != (primary.identity(), mark.base)
        ):
            return f"the stores were not compared {since}: run a full validation"
        here = (primary.incarnation(), follower.incarnation())
        if fact.incarnations is not None and tuple(fact.incarnations) != here:
            return _exchanged(fact.at, fact.incarnations, here, "validation")
        if fact.ok:
            return self._findings(primary)
        return (
            f"the validation of {moment(fact.at)} found {fact.found} divergences: repair them, "
            "and validate again"
        )

    def _findings(self, primary: Store) -> str | None:
        """What was found since, and is not known to be equal; edits are in quarantine."""
        spec = primary.schema[FINDINGS]
        where = (field("state") == "open", field("source") != "edit")
        found = primary.count(FINDINGS, make_query(spec, where).where)
        if not found:
            return None
        return (
            f"{found} records were found to diverge since the last validation: repair "
            "them, and validate again"
        )

    def _lag(self, view: View) -> str | None:
        primary, follower = self._sides(view)
        try:
            mark = Mark.load(follower)
            commits, _, problem = lag_of(primary, mark)
            blocked = problem or reason_of(follower, mark)
        except StoreUnavailable as error:
            return f"the secondary cannot be asked how far it is ({error.reason})"
        if blocked is not None:
            return f"the secondary does not get on: {blocked}"
        if commits <= _MOST_LAG:
            return None
        return (
            f"the secondary is {commits} commits behind: wait until it has caught up, or "
            "see why it does not"
        )

    def _quarantine(self, view: View) -> str | None:
        primary, _ = self._sides(view)
        spec = primary.schema[QUARANTINE]
        where = make_query(spec, (field("status") == "waiting",)).where
        waiting = primary.count(QUARANTINE, where)
        if not waiting:
            return None
        unread = primary.unread_files()
        names = ", ".join(f"{file.file} ({file.quarantined})" for file in unread)
        also = f"; what these files hold is unknown, because they could never be read: {names}"
        return (
            f"{waiting} legacy records wait in quarantine: correct them, or accept them "
            f"one by one{also if unread else ''}"
        )

    def _backup(self, _: View) -> str | None:
        fact = self._shared.get(BACKUP_META)
        if fact is None:
            return "there is no backup that was verified: make one, and verify it"
        if not isinstance(fact, Mapping):
            return None
        known = fact.get("incarnations")
        for side in SIDES:
            before = known.get(side) if isinstance(known, Mapping) else None
            here = self._pair.store(side).incarnation() if before else before
            if before != here:
                at = str(fact.get("verified_at"))
                return _exchanged(at, (str(before),), (str(here),), "backup")
        return None

    def _sides(self, view: View) -> tuple[Store, Store]:
        side = view.primary
        assert side is not None  # noqa: S101 - settled roles have a primary
        return self._pair.store(side), self._pair.store(other(side))


def _exchanged(at: str, before: Sequence[str], here: Sequence[str], what: str) -> str:
    old, new = next((b, h) for b, h in zip(before, here, strict=True) if b != h)
    again = (
        "validate again" if what == "validation" else "make one again, and verify it"
    )
    return f"the server was exchanged since the {what} ({moment(at)}: {old}, now {new}): {again}"


def require_codes(codes: Mapping[str, object] | Sequence[str]) -> None:
    """See that these are codes of blockers.

    Raises:
        ConfigError: one is not.
    """
    for code in codes:
        if code not in CODES:
            raise ConfigError(
                f"there is no blocker {code!r}{did_you_mean(code, CODES)} The codes are: "
                f"{', '.join(CODES)}."
            )
