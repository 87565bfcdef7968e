"""Live mapping: behaves as a dict, over a few verbs that a subclass implements."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import (
    Callable,
    ItemsView,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    ValuesView,
)
from typing import Any, Final, Self, TypeVar

from typing_extensions import override

from pend_storage.live._values import as_json, key_text, plain

__all__ = ["MISSING", "LiveMap", "update_items"]

T = TypeVar("T")

MISSING: Final = object()
"""Sentinel value of a missing member."""


class LiveMap(MutableMapping[str, Any]):
    """Object of a legacy file, as a live mapping.

    Every method is one read, or one transaction: a method that reads before it writes is
    atomic. Objects and lists inside are returned as views of their own. ``copy``, ``|``
    and slices return plain containers with live objects inside, as a shallow copy shares
    them; :meth:`snapshot` and ``copy.deepcopy`` return plain data throughout.
    """

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]  # as of a dict

    # -- to implement --------------------------------------------------------------------

    @abstractmethod
    def _data(self) -> dict[str, Any]:
        """Read the content as plain data, which must not be changed."""

    @abstractmethod
    def _child(self, name: str, value: Any) -> Any:
        """Return a member for the caller: a nested view of an object or a list."""

    @abstractmethod
    def _apply(self, change: Callable[[dict[str, Any]], T]) -> T:
        """Change the content in a transaction.

        Args:
            change: called with a plain dict of its own; again after each conflict.

        Returns:
            The result of ``change``.
        """

    # -- reading -------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Copy the whole object as plain data."""
        copied: dict[str, Any] = as_json(self._data())
        return copied

    @override
    def __getitem__(self, name: str) -> Any:
        return self._child(name, self._data()[name])

    @override
    def __contains__(self, name: object) -> bool:
        return name in self._data()

    @override
    def __len__(self) -> int:
        return len(self._data())

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(list(self._data()))

    def __reversed__(self) -> Iterator[str]:
        return reversed(list(self))

    def _pairs(self) -> list[tuple[str, Any]]:
        """Return names and members for the caller, from one read."""
        return [(name, self._child(name, v)) for name, v in self._data().items()]

    @override
    def keys(self) -> KeysView[str]:
        return _Keys(self)

    @override
    def values(self) -> ValuesView[Any]:
        return _Values(self)

    @override
    def items(self) -> ItemsView[str, Any]:
        return _Items(self)

    @override
    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Mapping):
            return NotImplemented
        return bool(self._data() == plain(other))

    @override
    def __repr__(self) -> str:
        return repr(self._data())

    def copy(self) -> dict[str, Any]:
        """Return a plain dict of the same members; objects and lists in it are live."""
        return dict(self._pairs())

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return self.snapshot()

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self.snapshot(),)

    @classmethod
    def fromkeys(cls, names: Any, value: Any = None) -> dict[Any, Any]:
        """Make a dict as ``dict.fromkeys`` does: there is no view without a file."""
        return dict.fromkeys(names, value)

    def __or__(self, other: Any) -> dict[str, Any]:
        if not isinstance(other, Mapping):
            return NotImplemented
        return {**self.copy(), **other}

    def __ror__(self, other: Any) -> dict[str, Any]:
        if not isinstance(other, Mapping):
            return NotImplemented
        return {**other, **self.copy()}

    # -- writing -------------------------------------------------------------------------

    @override
    def __setitem__(self, name: Any, value: Any) -> None:
        text, new = key_text(name), as_json(value)
        self._apply(lambda data: data.__setitem__(text, new))

    @override
    def __delitem__(self, name: str) -> None:
        self._apply(lambda data: data.__delitem__(name))

    @override
    def pop(self, *args: Any) -> Any:
        """Pop as a dict does; returns the removed value as plain data."""
        return self._apply(lambda data: data.pop(*args))

    @override
    def popitem(self) -> tuple[str, Any]:
        """Pop the last member, as a dict does."""
        return self._apply(lambda data: data.popitem())

    @override
    def clear(self) -> None:
        self._apply(lambda data: data.clear())

    @override
    def setdefault(self, name: Any, default: Any = None) -> Any:
        """Set a missing member, as a dict does; never overwrites a concurrent writer's."""
        text, new = key_text(name), as_json(default)
        return self._child(text, self._apply(lambda data: data.setdefault(text, new)))

    @override
    def update(self, *args: Any, **members: Any) -> None:
        """Update as a dict does, in one transaction."""
        new = update_items(*args, **members)
        if new:
            self._apply(lambda data: data.update(new))

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self


def update_items(*args: Any, **members: Any) -> dict[str, Any]:
    """Collect the arguments of an ``update`` as JSON; raises as ``dict.update`` does."""
    new: dict[Any, Any] = {}
    new.update(*args, **members)
    return {key_text(name): as_json(value) for name, value in new.items()}


class _Keys(KeysView[str]):
    """Keys of a live mapping."""

    __slots__ = ()
    _mapping: LiveMap

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._mapping)

    @override
    def __repr__(self) -> str:
        return f"dict_keys({list(self)})"


class _Values(ValuesView[Any]):
    """Values of a live mapping; an iteration is one read of all members."""

    __slots__ = ()
    _mapping: LiveMap

    @override
    def __iter__(self) -> Iterator[Any]:
        return iter([value for _, value in self._mapping._pairs()])  # noqa: SLF001

    @override
    def __contains__(self, value: object) -> bool:
        return plain(value) in self._mapping._data().values()  # noqa: SLF001

    def __reversed__(self) -> Iterator[Any]:
        return iter([value for _, value in self._mapping._pairs()][::-1])  # noqa: SLF001

    @override
    def __repr__(self) -> str:
        return f"dict_values({list(self)})"


class _Items(ItemsView[str, Any]):
    """Items of a live mapping; an iteration is one read of all members."""

    __slots__ = ()
    _mapping: LiveMap

    @override
    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(self._mapping._pairs())  # noqa: SLF001

    def __reversed__(self) -> Iterator[tuple[str, Any]]:
        return iter(self._mapping._pairs()[::-1])  # noqa: SLF001

    @override
    def __repr__(self) -> str:
        return f"dict_items({list(self)})"
