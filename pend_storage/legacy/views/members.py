"""What views of objects have in common: changes that read first are transactions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import MutableMapping
from typing import Any, Final

from typing_extensions import override

from pend_storage.legacy.views.contents import Contents
from pend_storage.legacy.writing import Writing
from pend_storage.store import Store
from pend_storage.transaction import Transaction

__all__ = ["MISSING", "Members"]

MISSING: Final = object()
"""Stands for the value of a member that is not there."""


class Members(MutableMapping[str, Any]):
    """Member name to value.

    The methods of a dict that look before they change something are atomic, as they are
    for a dict under the lock of the interpreter. Those of ``MutableMapping`` are not:
    between the look and the change somebody else may have written.
    """

    def __init__(self, contents: Contents) -> None:
        self._contents: Final = contents
        self._store: Final = contents.store

    @abstractmethod
    def _value(self, reads: Store | Transaction, name: str) -> Any:
        """The value of a member as plain data, or ``MISSING``."""

    @abstractmethod
    def _set(self, writing: Writing, name: str, value: Any) -> None:
        """Write a member."""

    @abstractmethod
    def _remove(self, writing: Writing, name: str) -> None:
        """Take out a member that is there."""

    @override
    def __setitem__(self, name: str, value: Any) -> None:
        self._contents.run(lambda writing: self._set(writing, name, value))

    @override
    def __delitem__(self, name: str) -> None:
        if self._taken(name) is MISSING:
            raise KeyError(name)

    @override
    def pop(self, name: str, default: Any = MISSING) -> Any:
        """As that of a dict: what it gives is what it took out."""
        found = self._taken(name)
        if found is not MISSING:
            return found
        if default is MISSING:
            raise KeyError(name)
        return default

    @override
    def update(self, *args: Any, **more: Any) -> None:
        """As that of a dict, and as one edit: all of it is written, or nothing."""
        given: dict[str, Any] = dict(*args, **more)

        def write(writing: Writing) -> None:
            self._set_all(writing, given)

        if given:
            self._contents.run(write)

    def _set_all(self, writing: Writing, given: dict[str, Any]) -> None:
        for name, value in given.items():
            self._set(writing, name, value)

    def _poppable(self) -> list[str]:
        """The members that can be taken out, in order."""
        return list(self)

    @override
    def popitem(self) -> tuple[str, Any]:
        """As that of a dict: the last member."""
        while names := self._poppable():
            found = self._taken(names[-1])
            if found is not MISSING:  # else somebody else has taken it
                return names[-1], found
        raise KeyError("the file has no member")

    @override
    def setdefault(self, name: str, default: Any = None) -> Any:
        """As that of a dict: never overwrites a member that somebody else has set."""

        def settle(writing: Writing) -> Any:
            found = self._value(writing.tx, name)
            if found is not MISSING:
                return found
            self._set(writing, name, default)
            return default

        return self._contents.run(settle)

    def _taken(self, name: str) -> Any:
        """Take out a member; gives its value, or ``MISSING``."""

        def take(writing: Writing) -> Any:
            found = self._value(writing.tx, name)
            if found is not MISSING:
                self._remove(writing, name)
            return found

        return self._contents.run(take)
