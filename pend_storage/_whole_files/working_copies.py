"""Working copies: the loaded values of files, as merge bases of later saves.

A value is recognised by its identity, in whichever thread it is saved. Plain dictionaries
and lists have no weak references, so the registry holds a strong one, and drops it as soon
as the reference count says that it is the only one; each call checks some entries.

A value that was built anew from a loaded one has another identity. Its base is the last
value that was loaded in the same context (:mod:`contextvars`): a thread, a task, or a
request in most frameworks. That memory ends with the context.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Mapping, MutableSequence
from contextvars import ContextVar
from itertools import count, islice
from typing import Any, Final, TypeAlias

from pend_storage._fork import on_fork
from pend_storage._whole_files.three_way_merge import KeptText

__all__ = ["NEVER", "WorkingCopies", "as_json", "plain_copy"]

_Bases: TypeAlias = Mapping[tuple[int, str], Any]


class _Never:
    """Sentinel type: the base of a value whose caller never loaded the file."""


NEVER: Final = _Never()
_last: Final[ContextVar[_Bases]] = ContextVar("pend_storage_loaded")
"""Last loaded bases of the context, by store and file. Never changed, but replaced."""
_OWN_REFERENCES: Final = 2
"""Reference count of an abandoned value: that of its entry, and of the call itself."""
_MOST_WITHOUT_COUNTS: Final = 64
"""Entries that are kept where the interpreter has no reference counts (PyPy)."""
_CHECKED_PER_CALL: Final = 32
"""Entries that one call checks: the cost of a load stays constant."""


_NOTHING: Final[_Bases] = {}
_numbers: Final = count(1)


class _Loaded:
    """A loaded value, and its content at that time."""

    __slots__ = ("base", "file", "value")

    def __init__(self, file: str, value: Any, base: Any) -> None:
        self.file = file
        self.value = value
        self.base = base

    @property
    def is_abandoned(self) -> bool:
        """True where only this entry refers to the value: no caller can save it."""
        return sys.getrefcount(self.value) <= _OWN_REFERENCES


class WorkingCopies:
    """Registry of the values that callers have loaded from one store, or saved to it."""

    def __init__(self) -> None:
        self._number: Final = next(_numbers)
        self._known: dict[tuple[int, str], _Loaded] = {}
        self._guard = threading.Lock()
        _live[self._number] = self
        on_fork(self.after_fork)

    def after_fork(self) -> None:
        """Replace the lock in a forked child: a thread of the parent may hold it."""
        self._guard = threading.Lock()

    def __len__(self) -> int:
        """Return the number of values that are held."""
        return len(self._known)

    def record(self, file: str, value: Any, base: Any) -> None:
        """Record the base of a value.

        Args:
            file: the file that it belongs to.
            value: the loaded or saved object.
            base: content of the file at that time; ``ABSENT`` if it did not exist. Must
                not be changed later.
        """
        bases = {p: b for p, b in _last.get(_NOTHING).items() if p[0] in _live}
        _last.set({**bases, (self._number, file): base})
        if isinstance(value, dict | list):
            with self._guard:
                self._known[id(value), file] = _Loaded(file, value, base)
                self._prune()

    def base(self, file: str, value: Any) -> Any:
        """Return the base of a value; ``NEVER`` if its caller did not load the file."""
        with self._guard:
            self._prune()
            found = self._known.get((id(value), file))
        # An identity is used again once its object is gone.
        if found is not None and found.value is value:
            return found.base
        return _last.get(_NOTHING).get((self._number, file), NEVER)

    def _prune(self) -> None:
        """Drop abandoned values: checks some entries in each call, oldest first."""
        known = self._known
        for place in list(islice(known, _CHECKED_PER_CALL)):
            loaded = known.pop(place)
            if not (_COUNTS and loaded.is_abandoned):
                known[place] = loaded
        while not _COUNTS and len(known) > _MOST_WITHOUT_COUNTS:
            del known[next(iter(known))]


_live: Final[weakref.WeakValueDictionary[int, WorkingCopies]] = (
    weakref.WeakValueDictionary()
)
_COUNTS: Final = hasattr(sys, "getrefcount")


def plain_copy(value: Any) -> Any:
    """Copy a value as ``json.load`` would return it; the copy may be changed."""
    if isinstance(value, dict):
        return {name: plain_copy(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain_copy(item) for item in value]
    if isinstance(value, KeptText):
        return plain_copy(value.shown)
    return float(value) if isinstance(value, float) else value


def as_json(value: Any) -> Any:
    """Copy a value as ``json.dump`` would write it, of plain types.

    Raises:
        TypeError: ``json.dump`` would not write it.
        ValueError: a circular reference.
    """
    return _as_json(value, frozenset())


def _as_json(value: Any, around: frozenset[int]) -> Any:
    if value is None or isinstance(value, bool):
        return value
    for kind, plain in _SCALARS:
        if isinstance(value, kind):
            return plain(value)
    is_map = isinstance(value, Mapping)
    if not is_map and not isinstance(value, list | tuple | MutableSequence):
        raise TypeError(
            f"Object of type {type(value).__name__} is not JSON serializable"
        )
    if id(value) in around:
        raise ValueError("Circular reference detected")
    around |= {id(value)}
    if is_map:
        return {_name(name): _as_json(item, around) for name, item in value.items()}
    return [_as_json(item, around) for item in value]


_SCALARS: Final[tuple[tuple[type, Callable[[Any], Any]], ...]] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
)
_WORDS: Final = {True: "true", False: "false", None: "null"}


def _name(name: Any) -> str:
    """Return a member name as ``json.dump`` writes it."""
    if isinstance(name, str):
        return str.__str__(name)
    if name is None or isinstance(name, bool):
        return _WORDS[name]
    if isinstance(name, int):
        return int.__repr__(name)
    if isinstance(name, float):
        return float.__repr__(name)
    raise TypeError(
        f"keys must be str, int, float, bool or None, not {type(name).__name__}"
    )
