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
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

from pend_storage.diff import Difference, differences
from pend_storage.dualwrite.follower import OUT_OF_REACH
from pend_storage.dualwrite.marks import HELD_BACK, Mark
from pend_storage.dualwrite.routing import Route
from pend_storage.errors import PendStorageError, StaleEpoch
from pend_storage.records import Row

__all__ = [
    "Finding",
    "Judge",
    "Kind",
    "Place",
    "Rules",
    "hide_values",
    "show_values",
]

Place: TypeAlias = tuple[str, str]
"""Collection and key."""
Kind: TypeAlias = Literal["missing", "extra", "different", "answer"]
"""Missing: only the primary has the record. Extra: only the secondary has it. Answer: a
query is answered otherwise though its records are equal."""
Redact: TypeAlias = Callable[[str, Difference], Difference]
"""Gets the collection and a difference, and gives what may be shown of it."""

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


class Judge:
    """Decides which differences are certain."""

    def __init__(self, rules: Rules, catch_up: Callable[[], object]) -> None:
        """Make it.

        Args:
            rules: what counts.
            catch_up: brings the secondary up to date.
        """
        self._rules = rules
        self._catch_up = catch_up

    def certain(
        self,
        route: Route,
        collection: str,
        keys: Iterable[str],
        *,
        patience: float = 10.0,
        stop: threading.Event | None = None,
    ) -> dict[str, Finding]:
        """Which of these keys certainly differ.

        Args:
            route: the primary and its follower.
            collection: name of the collection.
            keys: that may differ.
            patience: seconds after which a key that goes on changing is left alone.
            stop: gives up when set.

        Raises:
            StaleEpoch: roles have changed: what was seen means nothing.
            StoreUnavailable: a store cannot be reached.
        """
        deadline = time.monotonic() + patience
        found: dict[str, Finding] = {}
        behind: dict[str, tuple[tuple[int, int], float]] = {}
        pause = _FIRST_PAUSE
        open_keys = set(keys)
        while open_keys:
            mark = self._mark(route)
            looks = _looks(route, collection, open_keys)
            now = time.monotonic()
            for key, look in looks.items():
                if self._agree(collection, look):
                    open_keys.discard(key)
                    continue
                versions, since = behind.get(key, (look.versions, now))
                if versions != look.versions:
                    since = now
                behind[key] = (look.versions, since)
                if _is_certain(look, mark, quiet=now - since >= HELD_BACK):
                    found[key] = self._finding(collection, key, look)
                    open_keys.discard(key)
            if not open_keys or now >= deadline:
                break
            self.wait(pause, stop)
            if stop is not None and stop.is_set():
                break
            pause = min(2 * pause, _LONGEST_PAUSE)
        return found

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
    return {key: _Look(primary.get(key), secondary.get(key)) for key in wanted}
