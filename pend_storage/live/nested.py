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
from typing import Any, NoReturn, TypeAlias, TypeVar, cast

from typing_extensions import override

from pend_storage.live.lists import LiveList
from pend_storage.live.maps import LiveMap
from pend_storage.live.values import whereabouts
from pend_storage.shown import shown

__all__ = ["NestedList", "NestedMap", "Root", "wrapped"]

T = TypeVar("T")

Step: TypeAlias = str | tuple[int, Sequence[Any]]
"""A member name; or an index, and the list as it was when the index was right."""


class Root(ABC):
    """A record, as the place in which nested views stand."""

    __slots__ = ()

    @abstractmethod
    def value(self) -> Any:
        """What the file says in its place, as plain data that nobody changes.

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


def wrapped(root: Root, steps: tuple[Step, ...], value: Any) -> Any:
    """What a view gives for a value: a view of it where it is an object or a list."""
    if isinstance(value, dict):
        return NestedMap(root, steps, value)
    if isinstance(value, list):
        return NestedList(root, steps, value)
    return value


def _found(root: Root, steps: tuple[Step, ...], value: Any, kind: type) -> Any:
    """What stands at the end of the way.

    Raises:
        LookupError: it is gone, or something else stands there now.
    """
    for step in steps:
        if isinstance(step, str):
            if not isinstance(value, dict) or step not in value:
                _raise_gone(root, steps, "is not there any more")
            value = value[step]
            continue
        index, seen = step
        now = whereabouts(seen, index, value) if isinstance(value, list) else None
        if now is None:
            _raise_gone(root, steps, "was taken out, or cannot be told from others")
        value = value[now]
    if not isinstance(value, kind):
        what = "an object" if kind is dict else "a list"
        _raise_gone(root, steps, f"is {type(value).__name__} now, and was {what}")
    return value


def _raise_gone(root: Root, steps: tuple[Step, ...], what: str) -> NoReturn:
    way = "".join(f"[{shown(s if isinstance(s, str) else s[0])}]" for s in steps)
    raise LookupError(
        f"{root.place()}{way} {what}: a view of it is held that was taken before. Nothing "
        "was changed; take it from the file again."
    )


class NestedMap(LiveMap):
    """An object inside of a record, or a record that is one."""

    __slots__ = ("_root", "_seen", "_steps")

    def __init__(
        self, root: Root, steps: tuple[Step, ...], seen: dict[str, Any] | None
    ) -> None:
        self._root = root
        self._steps = steps
        self._seen = seen
        """What stood there last: it can be read when it has gone, but not changed."""

    @override
    def _data(self) -> dict[str, Any]:
        value = self._root.value()
        if not self._steps and type(value) is dict:
            return value
        try:
            self._seen = _found(self._root, self._steps, value, dict)
        except LookupError:
            if self._seen is None:
                raise
        return cast("dict[str, Any]", self._seen)

    @override
    def _child(self, name: str, value: Any) -> Any:
        if isinstance(value, dict | list):
            return wrapped(self._root, (*self._steps, name), value)
        return value

    @override
    def _apply(self, change: Callable[[dict[str, Any]], T]) -> T:
        root, steps = self._root, self._steps
        return root.change(lambda value: change(_found(root, steps, value, dict)))


class NestedList(LiveList):
    """A list inside of a record, or a record that is one."""

    __slots__ = ("_root", "_seen", "_steps")

    def __init__(
        self, root: Root, steps: tuple[Step, ...], seen: list[Any] | None
    ) -> None:
        self._root = root
        self._steps = steps
        self._seen = seen
        """What stood there last: it can be read when it has gone, but not changed."""

    @override
    def _data(self) -> list[Any]:
        value = self._root.value()
        try:
            self._seen = _found(self._root, self._steps, value, list)
        except LookupError:
            if self._seen is None:
                raise
        return cast("list[Any]", self._seen)

    @override
    def _given(self, data: list[Any], index: int) -> Any:
        value = data[index]
        if isinstance(value, dict | list):
            place = range(len(data))[index]
            return wrapped(self._root, (*self._steps, (place, data)), value)
        return value

    @override
    def _apply(self, change: Callable[[list[Any]], T]) -> T:
        root, steps = self._root, self._steps
        return root.change(lambda value: change(_found(root, steps, value, list)))
