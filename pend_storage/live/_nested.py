"""Objects and lists inside of a record: live as well, and written through.

A nested view knows its record and the way into it. Each change reads the record in a
transaction, changes a copy of what stands at the end of the way, and writes the record:
two writers on different members of one record both get through. What a view was of may
have moved or gone meanwhile: the view follows what it can recognise. What has gone can be
read as it was last, as an object that was taken out of a dict can, and not be changed.
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
from pend_storage.live._values import whereabouts

__all__ = ["NestedList", "NestedMap", "Root", "Roots", "wrapped"]

T = TypeVar("T")


class Root(ABC):
    """A record, as the place in which nested views stand."""

    __slots__ = ()

    @abstractmethod
    def value(self) -> Any:
        """What the file says in its place, as plain data that must not be changed.

        What it said last, where it is not there any more.
        """

    @abstractmethod
    def change(self, change: Callable[[Any], T]) -> T:
        """Change it in a transaction; gives what ``change`` gives.

        Args:
            change: is given plain data of its own, perhaps several times.

        Raises:
            LookupError: it is not there any more.
        """

    @abstractmethod
    def place(self) -> str:
        """How errors call it."""

    @abstractmethod
    def log_place(self) -> Place:
        """Return its place in the log of overwrites."""


def wrapped(root: Root, steps: Steps, value: Any) -> Any:
    """What a view gives for a value: a view of it where it is an object or a list."""
    if isinstance(value, dict):
        return NestedMap((root, steps, overwrites.now()), value)
    if isinstance(value, list):
        return NestedList((root, steps, overwrites.now()), value)
    return value


def _found(root: Root, steps: Steps, value: Any, kind: type) -> tuple[Any, Steps]:
    """What stands at the end of the way, and the way as it is now.

    Raises:
        LookupError: it is gone, or something else stands there now.
    """
    now: list[Step] = []
    for step in steps:
        if isinstance(step, str):
            if not isinstance(value, dict) or step not in value:
                _raise_gone(root, steps, "is not there any more")
            now.append(step)
            value = value[step]
            continue
        place, seen = step
        index = whereabouts(seen, place, value) if isinstance(value, list) else None
        if index is None:
            _raise_gone(root, steps, "was taken out, or cannot be told from others")
        now.append((index, value))
        value = value[index]
    if not isinstance(value, kind):
        what = "an object" if kind is dict else "a list"
        _raise_gone(root, steps, f"is {type(value).__name__} now, and was {what}")
    return value, tuple(now)


def _raise_gone(root: Root, steps: Steps, what: str) -> NoReturn:
    way = "".join(f"[{shown(s if isinstance(s, str) else s[0])}]" for s in steps)
    raise LookupError(
        f"{root.place()}{way} {what}: a view of it is held that was taken before. Nothing "
        "was changed; take it from the file again."
    )


class Roots(ABC):
    """Where the root of a view is made when the view is first looked into.

    One look at a file gives a view for each of its records, and few of them are used.

    Attributes:
        taken: the end of the log of overwrites at the look.
    """

    __slots__ = ("taken",)

    def __init__(self) -> None:
        self.taken = overwrites.now()

    @abstractmethod
    def root(self, item: Any) -> Root:
        """The root of an item of the look."""


class _Nested:
    """Where a nested view stands."""

    __slots__ = ("_at", "_seen")

    _at: tuple[Root, Steps, Point] | Any
    """The record, the way into it, and the end of the log of overwrites when this was
    taken; or an item of a look, as long as :attr:`_seen` is the :class:`Roots` of that
    look."""
    _seen: Any
    """What stood there last: it can be read when it has gone, but not changed."""

    def _place(self) -> tuple[Root, Steps, Point]:
        at, roots = self._at, self._seen
        while type(at) is not tuple:
            if isinstance(roots, Roots):  # else another thread is about to be done
                self._at = (roots.root(at), (), roots.taken)
                self._seen = None
            at, roots = self._at, self._seen
        return at

    def _now(self, kind: type) -> Any:
        root, steps, taken = self._place()
        value = root.value()
        if not steps and type(value) is kind:
            return value
        try:
            self._seen, now = _found(root, steps, value, kind)
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
        root, steps, taken = self._place()
        if taken.following is None:  # nearly always
            return None
        found = overwrites.value_before(taken, root.log_place(), steps)
        return None if found is MISSING else found

    def _changed(self, kind: type, change: Callable[[Any], T]) -> T:
        root, steps, _ = self._place()
        now = steps
        replaced: list[tuple[Step, Any, Any]] = []

        def change_root(value: Any) -> T:
            nonlocal now, replaced
            found, now = _found(root, steps, value, kind)
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
    """An object inside of a record, or a record that is one."""

    __slots__ = ()

    # One is made for each record of a file that is looked at: nothing else is done here.
    def __init__(self, at: Any, seen: Any) -> None:
        self._at = at
        self._seen = seen

    @override
    def _data(self) -> dict[str, Any]:
        found: dict[str, Any] = self._now(dict)
        return found

    @override
    def _child(self, name: str, value: Any) -> Any:
        if isinstance(value, dict | list):
            root, steps, _ = self._place()
            return wrapped(root, (*steps, name), value)
        return value

    @override
    def _apply(self, change: Callable[[dict[str, Any]], T]) -> T:
        return self._changed(dict, change)


class NestedList(_Nested, LiveList):
    """A list inside of a record, or a record that is one."""

    __slots__ = ()

    def __init__(self, at: Any, seen: Any) -> None:
        self._at = at
        self._seen = seen

    @override
    def _data(self) -> list[Any]:
        found: list[Any] = self._now(list)
        return found

    @override
    def _given(self, data: list[Any], index: int) -> Any:
        value = data[index]
        if isinstance(value, dict | list):
            root, steps, _ = self._place()
            place = range(len(data))[index]
            return wrapped(root, (*steps, (place, data)), value)
        return value

    @override
    def _apply(self, change: Callable[[list[Any]], T]) -> T:
        return self._changed(list, change)
