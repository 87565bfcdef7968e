"""Objects and lists inside of a record: live as well, and written through.

A nested view knows its record and the way into it. Each change reads the record in a
transaction, changes a copy of what stands at the end of the way, and writes the record:
two writers on different members of one record both get through. What a view was of may
have moved or gone meanwhile: the view follows what it can recognise. What has gone can be
read as it was last, as an object that was taken out of a dict can, and not be changed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias, TypeVar

from typing_extensions import override

from pend_storage._shown import shown
from pend_storage.live._lists import LiveList
from pend_storage.live._maps import LiveMap
from pend_storage.live._values import whereabouts

__all__ = ["NestedList", "NestedMap", "Root", "Roots", "wrapped"]

T = TypeVar("T")

Step: TypeAlias = str | tuple[int, Sequence[Any]]
"""A member name; or an index, and the list as it was when the index was right."""

Steps: TypeAlias = tuple[Step, ...]
"""The way into a record."""


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


def wrapped(root: Root, steps: Steps, value: Any) -> Any:
    """What a view gives for a value: a view of it where it is an object or a list."""
    if isinstance(value, dict):
        return NestedMap((root, steps), value)
    if isinstance(value, list):
        return NestedList((root, steps), value)
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
    """

    @abstractmethod
    def root(self, item: Any) -> Root:
        """The root of an item of the look."""


class _Nested:
    """Where a nested view stands."""

    __slots__ = ("_at", "_seen")

    _at: tuple[Root, Steps] | Any
    """The record and the way into it; or an item of a look, as long as :attr:`_seen` is
    the :class:`Roots` of that look."""
    _seen: Any
    """What stood there last: it can be read when it has gone, but not changed."""

    def _place(self) -> tuple[Root, Steps]:
        at, roots = self._at, self._seen
        while type(at) is not tuple:
            if isinstance(roots, Roots):  # else another thread is about to be done
                self._at = (roots.root(at), ())
                self._seen = None
            at, roots = self._at, self._seen
        return at

    def _now(self, kind: type) -> Any:
        root, steps = self._place()
        value = root.value()
        if not steps and type(value) is kind:
            return value
        try:
            self._seen, now = _found(root, steps, value, kind)
        except LookupError:
            if not isinstance(self._seen, kind):
                raise
        else:
            self._at = (root, now)
        return self._seen

    def _changed(self, kind: type, change: Callable[[Any], T]) -> T:
        root, steps = self._place()
        now = steps

        def change_root(value: Any) -> T:
            nonlocal now
            found, now = _found(root, steps, value, kind)
            return change(found)

        result = root.change(change_root)
        self._at = (root, now)
        return result


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
            root, steps = self._place()
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
            root, steps = self._place()
            place = range(len(data))[index]
            return wrapped(root, (*steps, (place, data)), value)
        return value

    @override
    def _apply(self, change: Callable[[list[Any]], T]) -> T:
        return self._changed(list, change)
