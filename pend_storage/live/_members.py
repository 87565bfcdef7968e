"""Live mapping whose members are stored one by one, each read without the others."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, TypeVar

from typing_extensions import override

from pend_storage._model.diff import equal
from pend_storage._shown import shown
from pend_storage._transaction import Transaction
from pend_storage.errors import StoreUnavailable
from pend_storage.live import _overwrites as overwrites
from pend_storage.live._maps import MISSING, LiveMap, update_items
from pend_storage.live._nested import Root, wrapped
from pend_storage.live._overwrites import Place
from pend_storage.live._recent import NEVER, Moment, is_closed, run_change
from pend_storage.live._values import as_json, key_text
from pend_storage.store import Store

__all__ = ["MemberRoot", "Members"]

T = TypeVar("T")


class Members(LiveMap):
    """Mapping of member names to values, each stored by itself.

    Over a store each method is one read or one transaction of its own; over a transaction
    it is part of that.
    """

    def __init__(self, file: str, store: Store, tx: Transaction | None = None) -> None:
        self._file: Final = file
        self._store: Final = store
        self._tx: Final = tx

    @abstractmethod
    def _value(self, reads: Store | Transaction, name: str) -> Any:
        """Read a member as plain data; ``MISSING`` where there is none."""

    @abstractmethod
    def _set(self, tx: Transaction, name: str, value: Any) -> None:
        """Write a member."""

    @abstractmethod
    def _remove(self, tx: Transaction, name: str) -> None:
        """Delete an existing member."""

    @abstractmethod
    def _all(self, reads: Store | Transaction) -> dict[str, Any]:
        """Read all members as plain data, in order."""

    @property
    def _reads(self) -> Store | Transaction:
        return self._store if self._tx is None else self._tx

    def _run(self, change: Callable[[Transaction], T]) -> T:
        return run_change(self._store, self._tx, change)

    def log_place(self, name: str) -> Place:
        """Return the place of a member in the log of overwrites."""
        return (self._reads, self._file, "member", name)

    def _overwrite(self, tx: Transaction, name: str, value: Any) -> None:
        """Write a member, or take it out; views of it know what they stood for.

        Args:
            tx: that it is part of.
            name: of the member.
            value: another one, or ``MISSING``.
        """
        if overwrites.is_watched():
            self._log_overwrite(tx, name, value)
        if value is MISSING:
            self._remove(tx, name)
        else:
            self._set(tx, name, value)

    def _overwrite_all(self, tx: Transaction, items: Mapping[str, Any]) -> None:
        """Write members; views of them know what they stood for."""
        if overwrites.is_watched():
            for name, value in items.items():
                self._log_overwrite(tx, name, value)
        self._set_all(tx, items)

    def _log_overwrite(self, tx: Transaction, name: str, new: Any) -> None:
        old = self._value(tx, name)
        record = partial(overwrites.record, self.log_place(name), (), old, new)
        if self._tx is None:
            tx.after_commit(record)
        else:
            record()

    # -- reading -------------------------------------------------------------------------

    @override
    def _data(self) -> dict[str, Any]:
        return self._all(self._reads)

    @override
    def _child(self, name: str, value: Any, moment: Moment = NEVER) -> Any:
        if isinstance(value, dict | list):
            return wrapped(MemberRoot(self, name, value, moment), (), value)
        return value

    @override
    def __getitem__(self, name: str) -> Any:
        moment = Moment.now(self._store, self._tx)
        found = self._lookup_member(name)
        if found is MISSING:
            raise KeyError(name)
        return self._child(name, found, moment)

    @override
    def __contains__(self, name: object) -> bool:
        return self._lookup_member(name) is not MISSING

    def _lookup_member(self, name: Any) -> Any:
        if not isinstance(name, str):
            hash(name)  # raises TypeError for an unhashable name, as a dict does
            return MISSING
        return self._value(self._reads, name)

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(list(self._data()))

    @override
    def __repr__(self) -> str:
        return f"<live view of {self._file}: {shown(self._data())}>"

    @override
    def __str__(self) -> str:
        return str(self._data())

    # -- writing -------------------------------------------------------------------------

    @override
    def _apply(self, change: Callable[[dict[str, Any]], T]) -> T:
        raise NotImplementedError("members are changed one by one")

    @override
    def __setitem__(self, name: Any, value: Any) -> None:
        text, new = key_text(name), as_json(value)
        self._run(lambda tx: self._overwrite(tx, text, new))

    @override
    def __delitem__(self, name: str) -> None:
        if self._pop_member(name) is MISSING:
            raise KeyError(name)

    @override
    def pop(self, name: str, *default: Any) -> Any:
        """Pop as a dict does; returns the removed value as plain data."""
        if len(default) > 1:
            raise TypeError(f"pop expected at most 2 arguments, got {1 + len(default)}")
        found = self._pop_member(name)
        if found is not MISSING:
            return found
        if default:
            return default[0]
        raise KeyError(name)

    def _pop_member(self, name: Any) -> Any:
        """Delete a member; returns its value, or ``MISSING``."""
        if not isinstance(name, str):
            hash(name)
            return MISSING

        def take(tx: Transaction) -> Any:
            found = self._value(tx, name)
            if found is not MISSING:
                self._overwrite(tx, name, MISSING)
            return found

        return self._run(take)

    def _poppable(self) -> list[str]:
        """Return the members that ``popitem`` may delete, in order."""
        return list(self)

    @override
    def popitem(self) -> tuple[str, Any]:
        """Pop the last member, as a dict does."""
        while names := self._poppable():
            found = self._pop_member(names[-1])
            if found is not MISSING:  # else a concurrent writer has deleted it
                return names[-1], found
        raise KeyError("popitem(): the file has no member")

    @override
    def clear(self) -> None:
        def take_all(tx: Transaction) -> None:
            for name in list(self):
                if self._value(tx, name) is not MISSING:
                    self._overwrite(tx, name, MISSING)

        self._run(take_all)

    @override
    def setdefault(self, name: Any, default: Any = None) -> Any:
        """Set a missing member, as a dict does; never overwrites a concurrent writer's."""
        text, new = key_text(name), as_json(default)

        def settle(tx: Transaction) -> Any:
            found = self._value(tx, text)
            if found is not MISSING:
                return found
            self._set(tx, text, new)
            return new

        return self._child(text, self._run(settle))

    @override
    def update(self, *args: Any, **members: Any) -> None:
        """Update as a dict does, in one transaction."""
        new = update_items(*args, **members)
        if new:
            self._run(lambda tx: self._overwrite_all(tx, new))

    def _set_all(self, tx: Transaction, items: Mapping[str, Any]) -> None:
        for name, value in items.items():
            self._set(tx, name, value)


class MemberRoot(Root):
    """Root of nested views: a member of an object, identified by its name."""

    __slots__ = ("_moment", "_name", "_seen", "_view")

    def __init__(self, view: Members, name: str, seen: Any, moment: Moment) -> None:
        self._view = view
        self._name = name
        self._seen = seen
        self._moment = moment

    @override
    def value(self) -> Any:
        view = self._view
        if self._moment.holds(view._store):  # noqa: SLF001 - its own view
            return self._seen
        moment = Moment.now(view._store, view._tx)  # noqa: SLF001
        try:
            found = view._value(view._reads, self._name)  # noqa: SLF001
        except StoreUnavailable as error:
            if is_closed(error):
                return self._last()  # an object outlives the file that it came from
            raise
        if found is MISSING:
            return self._last()
        self._seen, self._moment = found, moment
        return found

    def _last(self) -> Any:
        """Return the last value that was read."""
        if self._seen is MISSING:
            raise self._stale_error()
        return self._seen

    @override
    def change(self, change: Callable[[Any], T]) -> T:
        view, name = self._view, self._name

        def write(tx: Transaction) -> T:
            value = view._value(tx, name)  # noqa: SLF001
            if value is MISSING:
                raise self._stale_error()
            new = as_json(value)
            result = change(new)
            if not equal(value, new):
                view._set(tx, name, new)  # noqa: SLF001
            return result

        self._moment = NEVER
        return view._run(write)  # noqa: SLF001

    def _stale_error(self) -> LookupError:
        return LookupError(
            f"{self.place()} no longer exists: this view of it is stale. Nothing was "
            "changed; put it into the file again."
        )

    @override
    def place(self) -> str:
        return f"{self._view._file}[{shown(self._name)}]"  # noqa: SLF001

    @override
    def log_place(self) -> Place:
        return self._view.log_place(self._name)
