"""Nested views: live objects and lists inside of a record, written through.

A nested view has its record and the path into it. Each change reads the record in a
transaction, changes a copy of the value at the end of the path, and writes the record: two
writers on different members of one record both succeed. The value may have moved or gone
meanwhile: the view follows a list item that it can recognise. A value that is gone can be
read as it was last, as an object that was removed from a dict can, but not changed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

from typing_extensions import override

from pend_storage._shown import shown
from pend_storage.live import _overwrites as overwrites
from pend_storage.live._lists import LiveList
from pend_storage.live._maps import MISSING, LiveMap
from pend_storage.live._overwrites import Place, Point, Step, Steps
from pend_storage.live._values import track_index

__all__ = ["NestedList", "NestedMap", "Root", "Roots", "wrapped"]

T = TypeVar("T")


class Root(ABC):
    """Record that nested views are inside of."""

    __slots__ = ()

    @abstractmethod
    def value(self) -> Any:
        """Read the record's value in the file, as plain data that must not be changed.

        The last value that was read, where the record is gone.
        """

    @abstractmethod
    def change(self, change: Callable[[Any], T]) -> T:
        """Change the value in a transaction.

        Args:
            change: called with plain data of its own; again after each conflict.

        Returns:
            The result of ``change``.

        Raises:
            LookupError: the record is gone.
        """

    @abstractmethod
    def place(self) -> str:
        """Return the name of the record for errors."""

    @abstractmethod
    def log_place(self) -> Place:
        """Return its place in the log of overwrites."""


def wrapped(root: Root, steps: Steps, value: Any) -> Any:
    """Wrap a value for the caller: a nested view of an object or a list."""
    if isinstance(value, dict):
        return NestedMap((root, steps, overwrites.now()), value)
    if isinstance(value, list):
        return NestedList((root, steps, overwrites.now()), value)
    return value


def _resolve(root: Root, steps: Steps, value: Any, kind: type) -> tuple[Any, Steps]:
    """Resolve a path in the present value of a record.

    Returns:
        The value at the end of the path, and the path with its indices updated.

    Raises:
        LookupError: the value is gone, or of another type now.
    """
    now: list[Step] = []
    for step in steps:
        if isinstance(step, str):
            if not isinstance(value, dict) or step not in value:
                _raise_stale(root, steps, "no longer exists")
            now.append(step)
            value = value[step]
            continue
        place, seen = step
        index = track_index(seen, place, value) if isinstance(value, list) else None
        if index is None:
            _raise_stale(root, steps, "was removed, or equals other items")
        now.append((index, value))
        value = value[index]
    if not isinstance(value, kind):
        what = "an object" if kind is dict else "a list"
        _raise_stale(root, steps, f"is {type(value).__name__} now, and was {what}")
    return value, tuple(now)


def _raise_stale(root: Root, steps: Steps, what: str) -> NoReturn:
    way = "".join(f"[{shown(s if isinstance(s, str) else s[0])}]" for s in steps)
    raise LookupError(
        f"{root.place()}{way} {what}: this view of it is stale. Nothing was changed; read "
        "it from the file again."
    )


class Roots(ABC):
    """Factory of roots: makes the root of a view at its first access.

    A read of a file returns a view for each of its records, and few of them are used.

    Attributes:
        taken: end of the log of overwrites at the read.
    """

    __slots__ = ("taken",)

    def __init__(self) -> None:
        self.taken = overwrites.now()

    @abstractmethod
    def root(self, item: Any) -> Root:
        """Make the root of an item of the read."""


class _Nested:
    """Common part of nested views: record and path, resolved lazily."""

    __slots__ = ("_at", "_seen")

    _at: tuple[Root, Steps, Point] | Any
    """Record, path, and the end of the log of overwrites when the view was taken; or an
    item of a read, as long as :attr:`_seen` is the :class:`Roots` of that read."""
    _seen: Any
    """Last value that was read: readable when it is gone, but not changeable."""

    def _location(self) -> tuple[Root, Steps, Point]:
        at, roots = self._at, self._seen
        while type(at) is not tuple:
            # Without a lock: if another thread is between the two assignments below, the
            # loop reads again until both are set.
            if isinstance(roots, Roots):
                self._at = (roots.root(at), (), roots.taken)
                self._seen = None
            at, roots = self._at, self._seen
        return at

    def _current(self, kind: type) -> Any:
        root, steps, taken = self._location()
        value = root.value()
        if not steps and type(value) is kind:
            return value
        try:
            self._seen, now = _resolve(root, steps, value, kind)
        except LookupError:
            if not isinstance(self._seen, kind):
                before = self.value_before()
                if before is None:
                    raise
                self._seen = before
        else:
            self._at = (root, now, taken)
        return self._seen

    def value_before(self) -> Any:
        """Return its value before its place was overwritten; None where it was not."""
        root, steps, taken = self._location()
        if taken.following is None:  # nearly always
            return None
        found = overwrites.value_before(taken, root.log_place(), steps)
        return None if found is MISSING else found

    def _changed(self, kind: type, change: Callable[[Any], T]) -> T:
        root, steps, _ = self._location()
        now = steps
        replaced: list[tuple[Step, Any, Any]] = []

        def change_root(value: Any) -> T:
            nonlocal now, replaced
            found, now = _resolve(root, steps, value, kind)
            before = found.copy()
            result = change(found)
            replaced = [*_replaced(before, found)]
            return result

        result = root.change(change_root)
        for step, old, new in replaced:
            overwrites.record(root.log_place(), (*now, step), old, new)
        # What it has changed is what it stands for.
        self._at = (root, now, overwrites.now())
        return result


def _replaced(before: Any, after: Any) -> Iterator[tuple[Step, Any, Any]]:
    """List the objects and lists that left a container, each with what is there now."""
    if isinstance(before, dict):
        for name, value in before.items():
            if isinstance(value, dict | list):
                new = after.get(name, MISSING)
                if new is not value:
                    yield name, value, new
        return
    kept = {id(value) for value in after}
    for index, value in enumerate(before):
        if isinstance(value, dict | list) and id(value) not in kept:
            new = after[index] if len(after) == len(before) else MISSING
            yield (index, before), value, new


class NestedMap(_Nested, LiveMap):
    """Live object inside of a record, or a record that is an object."""

    __slots__ = ()

    # Constructed for each record of a file that is read: keep it this cheap.
    def __init__(self, at: Any, seen: Any) -> None:
        self._at = at
        self._seen = seen

    @override
    def _data(self) -> dict[str, Any]:
        found: dict[str, Any] = self._current(dict)
        return found

    @override
    def _child(self, name: str, value: Any) -> Any:
        if isinstance(value, dict | list):
            root, steps, _ = self._location()
            return wrapped(root, (*steps, name), value)
        return value

    @override
    def _apply(self, change: Callable[[dict[str, Any]], T]) -> T:
        return self._changed(dict, change)


class NestedList(_Nested, LiveList):
    """Live list inside of a record, or a record that is a list."""

    __slots__ = ()

    def __init__(self, at: Any, seen: Any) -> None:
        self._at = at
        self._seen = seen

    @override
    def _data(self) -> list[Any]:
        found: list[Any] = self._current(list)
        return found

    @override
    def _item_view(self, data: list[Any], index: int) -> Any:
        value = data[index]
        if isinstance(value, dict | list):
            root, steps, _ = self._location()
            place = range(len(data))[index]
            return wrapped(root, (*steps, (place, data)), value)
        return value

    @override
    def _apply(self, change: Callable[[list[Any]], T]) -> T:
        return self._changed(list, change)
