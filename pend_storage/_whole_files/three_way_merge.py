"""Three-way merges of JSON values. Pure.

Two writers began with the same value, the *base*. One of them has written already (*now*),
the other one is about to (*new*). Both changes are kept: objects are merged by member,
lists of records by the member that names a record, other lists by position. Numbers, texts
and other scalars are merged whole. A :class:`~pend_storage.errors.MergeConflict` is raised
only where both have changed one member to different values.

The result is built from the objects of *now*, wherever the values are equal: so digits that
a float does not hold, and texts that are not JSON, stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final, NoReturn, TypeAlias

from pend_storage._model.diff import ABSENT
from pend_storage.errors import MergeConflict

__all__ = ["KEY_MEMBERS", "KeptText", "merge", "same"]

Path: TypeAlias = tuple[str | int, ...]

KEY_MEMBERS: Final = ("id", "_id", "uid", "uuid", "key")
"""Key members of records in a list; the first that all items have, uniquely, is used."""

_MOST_COMPARED: Final = 4_000_000
"""Pairs of items up to which two lists are aligned; longer ones are paired by index."""


@dataclass(frozen=True, slots=True, eq=False)
class KeptText:
    """Raw text of a file that no Python value holds exactly; kept as it is."""

    raw: bytes
    """Bytes in the file; in an object, together with the member name."""
    shown: Any
    """Value of a lenient parser."""


def same(left: Any, right: Any) -> bool:
    """Return whether two JSON values are equal: numbers by value, but true is not 1."""
    if isinstance(left, KeptText) or isinstance(right, KeptText):
        return _same_kept(left, right)
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and left.keys() == right.keys()
            and all(same(value, right[name]) for name, value in left.items())
        )
    if isinstance(left, list):
        return (
            isinstance(right, list)
            and len(left) == len(right)
            and all(map(same, left, right))
        )
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right) or (left != left and right != right)  # noqa: PLR0124 - NaN


def _same_kept(left: Any, right: Any) -> bool:
    if isinstance(left, KeptText) and isinstance(right, KeptText):
        return left.raw == right.raw
    if isinstance(left, KeptText):
        return same(left.shown, right)
    return same(left, right.shown)


def merge(base: Any, now: Any, new: Any, *, file: str, key: str | None = None) -> Any:
    """Merge the changes of two writers.

    Args:
        base: common ancestor: what both writers loaded.
        now: what the other writer has written since.
        new: what this writer is about to write.
        file: for messages.
        key: the member that names the records of the file, if its layout has one.

    Returns:
        The merged value; ``ABSENT`` where it is deleted.

    Raises:
        MergeConflict: both have changed the same member to different values.
    """
    names = KEY_MEMBERS if key is None else (key, *KEY_MEMBERS)
    return _Merge(file, names).merged(base, now, new, ())


class _Merge:
    """Merge of one file: its name for errors, and its candidate key members."""

    def __init__(self, file: str, names: Sequence[str]) -> None:
        self._file = file
        self._names = names

    def merged(self, base: Any, now: Any, new: Any, path: Path) -> Any:
        """Merge one value. ``ABSENT`` stands for a missing member."""
        if isinstance(now, dict) and isinstance(new, dict):
            return self._members(base if isinstance(base, dict) else {}, now, new, path)
        if isinstance(now, list) and isinstance(new, list):
            return self._items(base if isinstance(base, list) else [], now, new, path)
        # ``now`` first: its objects keep digits and texts that ``new`` may have lost.
        if same(new, base) or same(new, now):
            return now
        if same(now, base):
            return new
        return self._refuse(path)

    def _refuse(self, path: Path) -> NoReturn:
        raise MergeConflict(file=self._file, member=path)

    def _members(
        self,
        base: Mapping[Any, Any],
        now: Mapping[Any, Any],
        new: Mapping[Any, Any],
        path: Path,
    ) -> dict[Any, Any]:
        """Merge the members of objects, or the records of a list by their keys."""
        result = {}
        for name in _order(list(base), list(now), list(new)):
            value = self.merged(
                base.get(name, ABSENT),
                now.get(name, ABSENT),
                new.get(name, ABSENT),
                (*path, name),
            )
            if value is not ABSENT:
                result[name] = value
        return result

    # -- lists --------------------------------------------------------------------------

    def _items(
        self, base: list[Any], now: list[Any], new: list[Any], path: Path
    ) -> list[Any]:
        for name in self._names:
            keyed = [_by_key(items, name) for items in (base, now, new)]
            if all(found is not None for found in keyed):
                before, theirs, mine = (found or {} for found in keyed)
                return list(self._members(before, theirs, mine, path).values())
        return self._by_position(base, now, new, path)

    def _by_position(
        self, base: list[Any], now: list[Any], new: list[Any], path: Path
    ) -> list[Any]:
        theirs, mine = _Script(base, now), _Script(base, new)
        result: list[Any] = []
        for place in range(len(base) + 1):
            result += theirs.added.get(place, ())
            result += mine.added.get(place, ())
            if place == len(base):
                break
            value = self.merged(
                base[place],
                theirs.made.get(place, ABSENT),
                mine.made.get(place, ABSENT),
                (*path, place),
            )
            if value is not ABSENT:
                result.append(value)
        return result


class _Script:
    """Edit script from one list to another."""

    def __init__(self, base: list[Any], changed: list[Any]) -> None:
        self.made: dict[int, Any] = {}
        """New values of the items of the base that remain, by index."""
        self.added: dict[int, list[Any]] = {}
        """Items inserted in front of an index of the base; ``len(base)``: at the end."""
        for tag, i1, i2, j1, j2 in _steps(base, changed):
            paired = 0
            if tag in {"equal", "replace"}:
                paired = min(i2 - i1, j2 - j1)
                for offset in range(paired):
                    self.made[i1 + offset] = changed[j1 + offset]
            if j1 + paired < j2:
                self.added.setdefault(i2, []).extend(changed[j1 + paired : j2])


_Step: TypeAlias = tuple[str, int, int, int, int]


def _steps(base: list[Any], changed: list[Any]) -> Iterable[_Step]:
    """Align two lists; returns the form of :meth:`SequenceMatcher.get_opcodes`."""
    head = _equal_items(base, changed)
    most = min(len(base), len(changed)) - head
    tail = min(_equal_items(base[::-1], changed[::-1]), most)
    i2, j2 = len(base) - tail, len(changed) - tail
    steps: list[_Step] = [("equal", 0, head, 0, head)]
    # The matcher is quadratic: common ends are cut off first, and what is left of very
    # long lists is paired by index.
    if (i2 - head) * (j2 - head) > _MOST_COMPARED:
        steps.append(("replace", head, i2, head, j2))
    elif i2 > head or j2 > head:
        left, right = ([_text(v) for v in x] for x in (base[head:i2], changed[head:j2]))
        found = SequenceMatcher(None, left, right, autojunk=False).get_opcodes()
        steps += [
            (tag, i + head, k + head, j + head, n + head) for tag, i, k, j, n in found
        ]
    steps.append(("equal", i2, len(base), j2, len(changed)))
    return steps


def _equal_items(left: list[Any], right: list[Any]) -> int:
    """Return the length of the common prefix of two lists."""
    count = 0
    for one, other in zip(left, right, strict=False):
        if not same(one, other):
            break
        count += 1
    return count


def _text(value: Any) -> str:
    """Return a canonical text: equal for equal values."""
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, KeptText):
        return _plain(value.shown)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() else float(value)
    return value


def _by_key(items: list[Any], name: str) -> dict[Any, Any] | None:
    """Index the records of a list by a key member; None where it is missing or not unique."""
    found: dict[Any, Any] = {}
    for item in items:
        key = item.get(name) if isinstance(item, dict) else None
        if not isinstance(key, str | int) or isinstance(key, bool) or key in found:
            return None
        found[key] = item
    return found


def _order(base: list[Any], now: list[Any], new: list[Any]) -> list[Any]:
    """Merge the order of names: that of the writer who changed it, with all additions.

    An addition keeps its predecessor. Additions at the end come last: those of ``now``,
    and behind them those of ``new``.
    """
    old, there = set(base), set(now)
    # Deletions do not count as a change of order: compare the common names only.
    moved = [n for n in now if n in old] != [n for n in base if n in there]
    kept = [name for name in (now if moved else new) if name in old]
    anchors = set(kept)
    behind: dict[Any, list[Any]] = {}
    ends: list[Any] = []
    known = set(kept)
    for source in (now, new):
        last = max((i for i, name in enumerate(source) if name in old), default=-1)
        before = ABSENT
        for place, name in enumerate(source):
            if name in old:
                before = name if name in anchors else before
            elif name not in known:
                known.add(name)
                added = ends if place > last else behind.setdefault(before, [])
                added.append(name)
    result = list(behind.get(ABSENT, ()))
    for name in kept:
        result += [name, *behind.get(name, ())]
    return [*result, *ends, *(name for name in base if name not in known)]
