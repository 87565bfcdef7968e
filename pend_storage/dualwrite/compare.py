"""Compares what the two stores hold, away from the callers, and reports what is certain.

A difference between two stores in use is as a rule no divergence: one of them was just
written to. What tells them apart is the order of looking. The secondary is read first and
the primary, at a known epoch, after it; whatever the secondary had by then, the primary
had committed before. So a secondary that is not behind, and not equal, is wrong. One that
is behind is wrong only if the change log has passed and it still is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from pend_storage.diff import Difference, differences
from pend_storage.dualwrite.circuit_breaker import OUT_OF_REACH
from pend_storage.dualwrite.marks import HELD_BACK, Mark
from pend_storage.dualwrite.pair import NAMES
from pend_storage.dualwrite.routing import Route
from pend_storage.errors import PendStorageError, StaleEpoch
from pend_storage.phases import Role, RoleState
from pend_storage.records import Row

__all__ = [
    "Finding",
    "Judge",
    "Kind",
    "Place",
    "Rules",
    "Source",
    "State",
    "Verdicts",
    "hide_values",
    "show_values",
]

Place: TypeAlias = tuple[str, str]
"""Collection and key."""
Kind: TypeAlias = Literal["missing", "extra", "different", "answer"]
"""Missing: only the primary has the record. Extra: only the secondary has it. Answer: a
query is answered otherwise though its records are equal."""
State: TypeAlias = Literal["open", "repaired", "gone", "accepted"]
"""What became of it; see :class:`~pend_storage.records.FindingRecord`."""
Source: TypeAlias = Literal["read", "validation", "edit"]
"""Who found it: a compared read, a validation, or the keeper of an edited file."""
Redact: TypeAlias = Callable[[str, Difference], Difference]
"""Gets the collection and a difference, and gives what may be shown of it."""

_REMEMBERED: Final = 8
"""States of a record of the primary that its followers may still be at."""
_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A record that is certainly not the same in both stores."""

    collection: str
    key: str
    kind: Kind
    versions: tuple[int, int]
    """In the primary and in the secondary; 0 where there is no trace of it."""
    differences: tuple[Difference, ...] = ()
    """Of a different record: field by field, the primary on the left, redacted."""
    first_seen: datetime
    last_seen: datetime
    source: Source = "read"
    state: State = "open"


class Verdicts(NamedTuple):
    """What became of the suspects; those that are in neither are equal."""

    found: dict[str, Finding]
    """What certainly differs, by key."""
    unsettled: frozenset[str]
    """What went on changing until the patience was used up: nothing is known of it."""


def hide_values(collection: str, difference: Difference) -> Difference:  # noqa: ARG001
    """The place of a difference, and of its values no more than the kind."""
    return Difference(
        difference.path, _outline(difference.left), _outline(difference.right)
    )


def show_values(collection: str, difference: Difference) -> Difference:  # noqa: ARG001
    """The whole difference: for data that anybody may see."""
    return difference


def _outline(value: Any) -> str:
    size = f" of length {len(value)}" if isinstance(value, str | bytes | list) else ""
    return f"<{type(value).__name__}{size}>"


class Rules:
    """What does not count as a difference, and what is shown of one that does."""

    def __init__(
        self, ignore: Iterable[str] = (), redact: Redact = hide_values
    ) -> None:
        """Make them.

        Args:
            ignore: places such as ``users.last_seen`` or ``users.extra.session``; a star
                stands for any collection.
            redact: what may be shown.
        """
        self._ignore = [tuple(place.split(".")) for place in ignore]
        self._redact = redact

    def differences(
        self, collection: str, left: Any, right: Any
    ) -> tuple[Difference, ...]:
        """What counts, as it may be shown."""
        return tuple(
            self._redact(collection, found)
            for found in differences(left, right)
            if not self._is_ignored(collection, found.path)
        )

    def _is_ignored(self, collection: str, path: tuple[str | int, ...]) -> bool:
        place = tuple(map(str, path))
        return any(
            rule[0] in {collection, "*"} and place[: len(rule) - 1] == rule[1:]
            for rule in self._ignore
        )


@dataclass(frozen=True, slots=True)
class _Look:
    """One key in both stores: the secondary was read first."""

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


class _Suspect:
    """One key that may differ, and what was seen of it so far."""

    __slots__ = ("_past", "_since", "_versions")

    def __init__(self) -> None:
        self._versions: tuple[int, int] | None = None
        self._since = 0.0
        self._past: dict[int, Row] = {}

    def note(self, look: _Look, now: float) -> float:
        """Take note of a look; gives the seconds for which nothing has moved."""
        if self._versions != look.versions:
            self._versions, self._since = look.versions, now
        if look.primary is not None:
            self._past[look.primary.version] = look.primary
            while len(self._past) > _REMEMBERED:
                del self._past[next(iter(self._past))]
        return now - self._since

    def past(self, look: _Look) -> _Look | None:
        """The secondary beside the primary as it was when it had that version.

        A record that is written all the time is never seen equal in both, but the
        secondary has in time what the primary had.
        """
        there = look.secondary
        before = None if there is None else self._past.get(there.version)
        return None if before is None else _Look(before, there)


class Judge:
    """Decides which differences are certain."""

    def __init__(
        self,
        rules: Rules,
        catch_up: Callable[[], object],
        *,
        patience: float = 10.0,
    ) -> None:
        """Make it.

        Args:
            rules: what counts.
            catch_up: brings the secondary up to date.
            patience: seconds after which a key that goes on changing is left alone.
        """
        self._rules = rules
        self._catch_up = catch_up
        self._patience = patience

    def judge(
        self,
        route: Route,
        collection: str,
        keys: Iterable[str],
        *,
        source: Source = "read",
        stop: threading.Event | None = None,
    ) -> Verdicts:
        """Which of these keys certainly differ.

        Args:
            route: the primary and its follower.
            collection: name of the collection.
            keys: that may differ.
            source: who asks; the findings tell it.
            stop: gives up when set.

        Raises:
            StaleEpoch: roles have changed: what was seen means nothing.
            StoreUnavailable: a store cannot be reached.
        """
        deadline = time.monotonic() + self._patience
        found: dict[str, Finding] = {}
        suspects = {key: _Suspect() for key in keys}
        pause = _FIRST_PAUSE
        while suspects:
            mark = self._mark(route)
            looks = _looks(route, collection, suspects)
            now = time.monotonic()
            for key, look in looks.items():
                quiet = suspects[key].note(look, now) >= HELD_BACK
                if self._is_settled(collection, suspects[key], look):
                    del suspects[key]
                elif _is_certain(look, mark, quiet=quiet):
                    finding = self._finding(collection, key, look)
                    found[key] = replace(finding, source=source)
                    del suspects[key]
            if not suspects or now >= deadline:
                break
            self.wait(pause, stop)
            if stop is not None and stop.is_set():
                break
            pause = min(2 * pause, _LONGEST_PAUSE)
        return Verdicts(found, frozenset(suspects))

    def _is_settled(self, collection: str, suspect: _Suspect, look: _Look) -> bool:
        """Whether both are equal, or the secondary has what the primary just had."""
        past = suspect.past(look)
        return self._agree(collection, look) or (
            past is not None and self._agree(collection, past)
        )

    def wait(self, pause: float, stop: threading.Event | None) -> None:
        """Give what is on its way the time, and the relay, to arrive."""
        try:
            self._catch_up()
        except (StaleEpoch, *OUT_OF_REACH):
            raise
        except PendStorageError:
            pass  # the secondary does not take something: just what is looked for here
        (stop or threading.Event()).wait(pause)

    def _mark(self, route: Route) -> int:
        assert route.follower is not None  # noqa: S101 - its callers have looked
        mark = Mark.load(route.follower)
        return 0 if mark is None else mark.after

    def _agree(self, collection: str, look: _Look) -> bool:
        left = None if look.primary is None else look.primary.record
        right = None if look.secondary is None else look.secondary.record
        if left is None or right is None:
            return left is right
        return not self._rules.differences(collection, left, right)

    def _finding(self, collection: str, key: str, look: _Look) -> Finding:
        now = datetime.now(UTC)
        shown: tuple[Difference, ...] = ()
        if look.kind == "different" and look.primary and look.secondary:
            shown = self._rules.differences(
                collection, look.primary.record, look.secondary.record
            )
        return Finding(
            collection=collection,
            key=key,
            kind=look.kind,
            versions=look.versions,
            differences=shown,
            first_seen=now,
            last_seen=now,
        )


def _is_certain(look: _Look, mark: int, *, quiet: bool) -> bool:
    """Whether a difference cannot be a commit on its way.

    Args:
        look: at one key.
        mark: how far the log had been applied before the look.
        quiet: nothing has moved for so long that nothing is on its way any more.
    """
    primary, secondary = look.versions
    if secondary >= primary:
        return True
    # A version is never below the number of the commit that gave it.
    return mark >= primary or quiet


def _looks(route: Route, collection: str, keys: Iterable[str]) -> Mapping[str, _Look]:
    wanted = sorted(keys)
    assert route.follower is not None  # noqa: S101 - its callers have looked
    secondary = route.follower.read(collection, wanted, deleted=True)
    primary = route.store.read(collection, wanted, deleted=True, epoch=route.epoch)
    require_following(route)
    return {key: _Look(primary.get(key), secondary.get(key)) for key in wanted}


def require_following(route: Route) -> None:
    """See that the follower is still one, after it was looked at.

    A primary that lets its follower go stays at its epoch, so only the follower can tell.

    Raises:
        StaleEpoch: it follows no more; what it said before means nothing.
    """
    assert route.follower is not None  # noqa: S101 - its callers have looked
    state = route.follower.role()
    if state != RoleState(Role.SECONDARY, route.epoch):
        raise StaleEpoch(
            store=NAMES[route.follower_side], role=state.role.value, epoch=state.epoch
        )
