"""What callers have loaded of files: the bases of what they save later.

A value is known again by its identity, in whatever thread it is saved. Plain dictionaries
and lists cannot be referred to weakly, so a value is held here; but only as long as
somebody else holds it as well, which is looked up at each call.

A value that was built anew from what was loaded has another identity. For it counts what
its caller has loaded last: a thread, a task, or whatever else runs in a context of its own
(:mod:`contextvars`), as a request does in most frameworks. It ends with the context.
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
    """Stands for the base of a value whose caller never loaded the file."""


NEVER: Final = _Never()
_last: Final[ContextVar[_Bases]] = ContextVar("pend_storage_loaded")
"""What the caller has loaded last, by store and file. Never changed, but replaced."""
_OURS: Final = 2
"""References to a value that nobody else holds: that of its entry, and the question's."""
_MOST_WITHOUT_COUNTS: Final = 64
_LOOKED_AT: Final = 32


_NOTHING: Final[_Bases] = {}
_numbers: Final = count(1)


class _Loaded:
    """A value that somebody got, and what it was then."""

    __slots__ = ("base", "file", "value")

    def __init__(self, file: str, value: Any, base: Any) -> None:
        self.file = file
        self.value = value
        self.base = base

    @property
    def is_forgotten(self) -> bool:
        """Whether nobody but this entry holds the value."""
        return sys.getrefcount(self.value) <= _OURS


class WorkingCopies:
    """The values that one store gave, and got, of its files."""

    def __init__(self) -> None:
        self._number: Final = next(_numbers)
        self._known: dict[tuple[int, str], _Loaded] = {}
        self._guard = threading.Lock()
        _live[self._number] = self
        on_fork(self.after_fork)

    def after_fork(self) -> None:
        """In a forked child: the locks of the parent's threads mean nothing."""
        self._guard = threading.Lock()

    def __len__(self) -> int:
        """How many values are held."""
        return len(self._known)

    def note(self, file: str, value: Any, base: Any) -> None:
        """Remember what a value is by now.

        Args:
            file: it is of.
            value: was loaded or saved.
            base: what the file said then; ``ABSENT`` if it did not exist. It is not
                changed any more.
        """
        bases = {p: b for p, b in _last.get(_NOTHING).items() if p[0] in _live}
        _last.set({**bases, (self._number, file): base})
        if isinstance(value, dict | list):
            with self._guard:
                self._known[id(value), file] = _Loaded(file, value, base)
                self._prune()

    def base(self, file: str, value: Any) -> Any:
        """What a value was when its caller loaded it; ``NEVER`` if he did not."""
        with self._guard:
            self._prune()
            found = self._known.get((id(value), file))
        if found is not None and found.value is value:
            return found.base
        return _last.get(_NOTHING).get((self._number, file), NEVER)

    def _prune(self) -> None:
        """Let go of what nobody can save any more: some are looked at in each call."""
        known = self._known
        for place in list(islice(known, _LOOKED_AT)):
            loaded = known.pop(place)
            if not (_COUNTS and loaded.is_forgotten):
                known[place] = loaded
        while not _COUNTS and len(known) > _MOST_WITHOUT_COUNTS:
            del known[next(iter(known))]


_live: Final[weakref.WeakValueDictionary[int, WorkingCopies]] = (
    weakref.WeakValueDictionary()
)
_COUNTS: Final = hasattr(sys, "getrefcount")


def plain_copy(value: Any) -> Any:
    """A copy as ``json.load`` would give it, which its owner may change."""
    if isinstance(value, dict):
        return {name: plain_copy(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain_copy(item) for item in value]
    if isinstance(value, KeptText):
        return plain_copy(value.shown)
    return float(value) if isinstance(value, float) else value


def as_json(value: Any) -> Any:
    """A copy of a value as ``json.dump`` would write it, of plain types.

    Raises:
        TypeError: ``json.dump`` would not write it.
        ValueError: it contains itself.
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
    """A member name as ``json.dump`` makes it."""
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
