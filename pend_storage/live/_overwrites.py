"""Overwrites of legacy values: what a view stood for before its place got another value.

``view[a], view[b] = view[b], view[a]`` takes two views, and writes into the place of the
first one before the other is put there. With plain data the second assignment writes the
object that was taken. So a view that is assigned counts as the value that it stood for
when the same thread, and the same task, overwrote its place. What others overwrite is
followed: two requests on one record both get through.

The log is a chain of points. A view holds the point that was the end when it was taken,
and the log holds its end weakly: entries that no view can need any more are freed, and
where no view is held nothing is recorded.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from pend_storage._model.diff import equal
from pend_storage.live._maps import MISSING
from pend_storage.live._values import track_index

__all__ = [
    "Place",
    "Point",
    "Step",
    "Steps",
    "is_watched",
    "now",
    "record",
    "value_before",
]

Step: TypeAlias = str | tuple[int, Sequence[Any]]
"""A member name; or an index, and the list as it was when the index was right."""

Steps: TypeAlias = tuple[Step, ...]
"""The way into a record."""

Place: TypeAlias = tuple[Any, ...]
"""A record: the store or the transaction, the file, and what names it there."""

_MOST_VALUES: Final = 250_000
"""Values in the entries of a thread at most: a view may be held for as long as the program
runs. Views from before that follow their place."""


class Point:
    """A place in the log of a thread."""

    __slots__ = ("__weakref__", "entry", "following")

    def __init__(self) -> None:
        self.entry: _Overwrite | None = None
        self.following: Point | None = None


class _Overwrite(NamedTuple):
    """A value got into the place of an object or a list."""

    place: Place
    path: Steps
    old: Any
    new: Any
    task: int

    def rest(self, steps: Steps) -> Steps | None:
        """Return the way from the value that was overwritten; None if it leads elsewhere."""
        if len(steps) < len(self.path):
            return None
        for mine, step in zip(self.path, steps, strict=False):
            if isinstance(mine, str) or isinstance(step, str):
                if mine != step:
                    return None
            elif track_index(step[1], step[0], mine[1]) != mine[0]:
                return None
        return steps[len(self.path) :]


class _Log(threading.local):
    """The overwrites of this thread."""

    def __init__(self) -> None:
        self.end: weakref.ref[Point] | None = None
        self.kept: deque[tuple[weakref.ref[Point], int]] = deque()
        self.values = 0


_log: Final = _Log()


def now() -> Point:
    """Return the end of the log: its holder sees every later overwrite."""
    end = None if _log.end is None else _log.end()
    if end is None:
        end = Point()
        _log.end = weakref.ref(end)
    return end


def is_watched() -> bool:
    """Return whether a view is held that was taken in this thread."""
    return _log.end is not None and _log.end() is not None


def record(place: Place, path: Steps, old: Any, new: Any) -> None:
    """Record that a value was overwritten.

    Args:
        place: the record.
        path: the way to it, inside of the record.
        old: what was there; only an object or a list can have views.
        new: what is there now; ``MISSING`` where it was taken out.
    """
    end = None if _log.end is None else _log.end()
    if end is None or not isinstance(old, dict | list) or equal(old, new):
        return
    following = Point()
    end.entry = _Overwrite(place, path, old, new, _task())
    end.following = following
    _log.end = weakref.ref(following)
    _keep(end, _count(old))


def value_before(taken: Point, place: Place, steps: Steps) -> Any:
    """Return the value of a view before its place was overwritten.

    Args:
        taken: the end of the log when the view was taken.
        place: the record that it is of.
        steps: the way into it.

    Returns:
        ``MISSING`` where that was not overwritten, or was put back since.
    """
    found: Any = MISSING
    point, task = taken, _task()
    while (following := point.following) is not None:
        entry, point = point.entry, following
        if entry is None or entry.task != task or entry.place != place:
            continue
        rest = entry.rest(steps)
        if rest is None:
            continue
        if found is MISSING:
            found = _at(entry.old, rest)
        elif not rest and equal(entry.new, found):
            found = MISSING
    return found


def _at(value: Any, steps: Steps) -> Any:
    for step in steps:
        if isinstance(step, str):
            if not isinstance(value, dict) or step not in value:
                return MISSING
            value = value[step]
        else:
            index, seen = step
            where = track_index(seen, index, value) if isinstance(value, list) else None
            if where is None:
                return MISSING
            value = value[where]
    return value


def _keep(point: Point, values: int) -> None:
    """Count an entry, and drop the oldest ones where there are too many values."""
    kept = _log.kept
    kept.append((weakref.ref(point), values))
    _log.values += values
    while kept:
        oldest, its_values = kept[0]
        held = oldest()
        # A point holds the following ones: those that are gone are the oldest.
        if held is not None and _log.values <= _MOST_VALUES:
            return
        if held is not None:
            held.entry = None
        kept.popleft()
        _log.values -= its_values


def _count(value: Any) -> int:
    """Count the values inside of a value, itself included; at most one too many."""
    left, count = [value], 0
    while left and count <= _MOST_VALUES:
        count += 1
        some = left.pop()
        if isinstance(some, dict):
            left.extend(some.values())
        elif isinstance(some, list):
            left.extend(some)
    return count


def _task() -> int:
    """The asyncio task that is running; 0 where there is none."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return 0
    try:
        return id(asyncio.current_task())
    except RuntimeError:  # no loop runs in this thread
        return 0
