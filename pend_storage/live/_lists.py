"""Live list: behaves as a list, over a few verbs that a subclass implements."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, MutableSequence
from operator import index as as_index
from typing import Any, ClassVar, Self, TypeVar, overload

from typing_extensions import override

from pend_storage.live._values import as_json, plain

__all__ = ["LiveList", "collect_items"]

T = TypeVar("T")


class LiveList(MutableSequence[Any]):
    """List of a legacy file; see :class:`~pend_storage.live._maps.LiveMap`."""

    __slots__ = ()
    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # as of a list

    # -- to implement --------------------------------------------------------------------

    @abstractmethod
    def _data(self) -> list[Any]:
        """Read the content as plain data, which must not be changed."""

    @abstractmethod
    def _item_view(self, data: list[Any], index: int) -> Any:
        """Return an item for the caller: a nested view of an object or a list."""

    def _children(self) -> list[Any]:
        """Return all items for the caller, from one read."""
        data = self._data()
        return [self._item_view(data, index) for index in range(len(data))]

    @abstractmethod
    def _apply(self, change: Callable[[list[Any]], T]) -> T:
        """Change the content in a transaction.

        Args:
            change: called with a plain list of its own; again after each conflict.

        Returns:
            The result of ``change``.
        """

    # -- reading -------------------------------------------------------------------------

    def snapshot(self) -> list[Any]:
        """Copy the whole list as plain data."""
        copied: list[Any] = as_json(self._data())
        return copied

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    @override
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self._children()[index]
        return self._item_view(self._data(), index)

    @override
    def __len__(self) -> int:
        return len(self._data())

    @override
    def __iter__(self) -> Iterator[Any]:
        return iter(self._children())

    @override
    def __reversed__(self) -> Iterator[Any]:
        return iter(self._children()[::-1])

    @override
    def __contains__(self, value: object) -> bool:
        return plain(value) in self._data()

    @override
    def index(self, value: Any, *places: Any) -> int:
        return self._data().index(plain(value), *places)

    @override
    def count(self, value: Any) -> int:
        return self._data().count(plain(value))

    @override
    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, list | LiveList):
            return NotImplemented
        return bool(self._data() == plain(other))

    def __lt__(self, other: Any) -> bool:
        return self._data() < _items(other) if _is_list(other) else NotImplemented

    def __le__(self, other: Any) -> bool:
        return self._data() <= _items(other) if _is_list(other) else NotImplemented

    def __gt__(self, other: Any) -> bool:
        return self._data() > _items(other) if _is_list(other) else NotImplemented

    def __ge__(self, other: Any) -> bool:
        return self._data() >= _items(other) if _is_list(other) else NotImplemented

    @override
    def __repr__(self) -> str:
        return repr(self._data())

    def copy(self) -> list[Any]:
        """Return a plain list of the same items; objects and lists in it are live."""
        return self._children()

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return self.snapshot()

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return list, (self.snapshot(),)

    def __add__(self, other: Any) -> list[Any]:
        return [*self, *other] if _is_list(other) else NotImplemented

    def __radd__(self, other: Any) -> list[Any]:
        return [*other, *self] if isinstance(other, list) else NotImplemented

    def __mul__(self, times: Any) -> list[Any]:
        product: list[Any] = self._children() * times
        return product

    __rmul__ = __mul__

    # -- writing -------------------------------------------------------------------------

    @overload
    def __setitem__(self, index: int, value: Any) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Iterable[Any]) -> None: ...
    @override
    def __setitem__(self, index: int | slice, value: Any) -> None:
        new = as_json(collect_items(value) if isinstance(index, slice) else value)
        self._apply(lambda data: data.__setitem__(index, new))

    @override
    def __delitem__(self, index: int | slice) -> None:
        self._apply(lambda data: data.__delitem__(index))

    @override
    def insert(self, index: int, value: Any) -> None:
        place, new = as_index(index), as_json(value)
        self._apply(lambda data: data.insert(place, new))

    @override
    def append(self, value: Any) -> None:
        new = as_json(value)
        self._apply(lambda data: data.append(new))

    @override
    def extend(self, values: Iterable[Any]) -> None:
        """Extend as a list does, in one transaction."""
        new = as_json(collect_items(values))
        self._apply(lambda data: data.extend(new))

    @override
    def pop(self, index: int = -1) -> Any:
        """Pop as a list does; returns the removed item as plain data."""
        return self._apply(lambda data: data.pop(index))

    @override
    def remove(self, value: Any) -> None:
        """Remove the first item that equals the value, as a list does."""
        wanted = plain(value)
        self._apply(lambda data: data.remove(wanted))

    @override
    def clear(self) -> None:
        self._apply(lambda data: data.clear())

    @override
    def reverse(self) -> None:
        self._apply(lambda data: data.reverse())

    def sort(
        self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False
    ) -> None:
        """Sort as a list does; ``key`` gets plain data, and may run several times."""
        self._apply(lambda data: data.sort(key=key, reverse=reverse))

    @override
    def __iadd__(self, values: Iterable[Any]) -> Self:
        self.extend(values)
        return self

    def __imul__(self, times: Any) -> Self:
        self._apply(lambda data: data.__imul__(times))
        return self


def collect_items(values: Iterable[Any]) -> list[Any]:
    """Collect values one by one, without trusting their ``__len__`` for the allocation."""
    found: list[Any] = []
    for value in values:
        found.append(value)  # noqa: PERF402 - they may claim to be more than there is room
    return found


def _is_list(other: object) -> bool:
    return isinstance(other, list | LiveList)


def _items(other: Any) -> list[Any]:
    found: list[Any] = plain(other)
    return found
