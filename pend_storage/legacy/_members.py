"""Mappings by a table: which member of a legacy object goes to which column.

Reading and rendering are each other's inverse *by construction*. What a column would
not give back equal by value is kept beside it in the record's ``extra``: members that no
column knows, another spelling of a known one, an explicit null, a value that the column
cannot hold. A kept spelling is rendered only as long as reading it still gives what the
column holds; else the column was changed since, and the column is what counts.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from typing_extensions import override

from pend_storage._model.fields import FieldSpec, fields_of
from pend_storage._shown import shown
from pend_storage.codec import value_checker
from pend_storage.legacy import _notes as notes
from pend_storage.legacy._convert import (
    Parse,
    Render,
    as_is,
    text,
    time,
    time_text,
    usual_time,
)
from pend_storage.legacy._exact_json import UnreadableError, same
from pend_storage.legacy._mapping import RecordMapping, Source

__all__ = ["Member", "ObjectMapping", "inside", "time_member"]


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a legacy object and the column it goes to."""

    name: str
    column: str
    parse: Parse | None = None
    """None: the member goes into the column, a JSON object, under its own name."""
    render: Render = as_is
    required: bool = False
    """Without a value the column could take, the record cannot be placed."""
    blank: Any = None
    """The column's value for which nothing is rendered."""
    usual: Callable[[Any], Any] | None = None
    """Tells quickly that a value which could be parsed is spelled as ``render`` would;
    where it says no, rendering decides."""
    nullable: bool = False
    """Null is a value of the column, and not the same as no member."""


def time_member(name: str, column: str, *, required: bool = False) -> Member:
    """A member that tells a time, usually as ``Date.toISOString`` prints it."""
    return Member(name, column, time, time_text, required, usual=usual_time)


def inside(column: str, *names: str) -> tuple[Member, ...]:
    """Members that are kept as they are, in a column that holds an object."""
    return tuple(Member(name, column) for name in names)


class ObjectMapping(RecordMapping):
    """A mapping by a table of members; the record type needs a field ``extra``."""

    record_type: ClassVar[type[Any]]
    members: ClassVar[tuple[Member, ...]]
    """In the usual order of the file."""
    computed: ClassVar[tuple[str, ...]] = ()
    """Columns that :meth:`complete` fills from what the file says."""

    def __init__(self) -> None:
        specs = {spec.name: spec for spec in fields_of(self.record_type)}
        typed = [member for member in self.members if member.parse is not None]
        self._by_name: Final = {
            m.name: (rank, m.parse is text and m.blank is None, m)
            for rank, m in enumerate(self.members)
        }
        self._typed: Final = {m.name for m in typed}
        self._default: Final = {m.column: _absent(m, specs[m.column]) for m in typed}
        self._check: Final = {m.name: value_checker(specs[m.column]) for m in typed}
        self._defaulted: Final = tuple(
            m.name for m in typed if self._default[m.column] != m.blank
        )
        self._required: Final = tuple(m.name for m in typed if m.required)
        self._holders: Final = {
            holder: frozenset(m.name for m in self.members if m.column == holder)
            for holder in {m.column for m in self.members if m.parse is None}
            - {"extra"}
        }
        self._unknown_time: Final = tuple(
            m.column
            for m in typed
            if specs[m.column].default is ... and specs[m.column].optional
        )
        self.told: frozenset[str] = frozenset(
            {m.column for m in self.members} | {"extra", "content_hash", *self.computed}
        )

    @abstractmethod
    def complete(self, columns: dict[str, Any], source: Source) -> None:
        """Add the key and whatever else follows from the columns read."""

    # -- reading --------------------------------------------------------------------

    @override
    def read(self, source: Source, refused: frozenset[str] = frozenset()) -> Any:
        """See :meth:`RecordMapping.read`."""
        value = source.value
        if type(value) is not dict:
            raise UnreadableError(
                "wrong-type", f"{_json_type(value)} stands where a record is expected"
            )
        columns: dict[str, Any] = {name: {} for name in self._holders}
        extra: dict[str, Any] = {}
        ordered = self._take(value, columns, extra, refused)
        for name in self._required:
            if self._by_name[name][2].column not in columns:
                raise _missing(name, value)
        absent = self._defaulted and [n for n in self._defaulted if n not in value]
        if absent or source.exact or not ordered or notes.RESERVED in extra:
            own = notes.make(
                absent=absent,
                order=None if ordered else list(value),
                value=value if source.exact else None,
            )
            notes.attach(extra, own)
        for column in self._unknown_time:
            columns.setdefault(column, None)
        columns["extra"] = extra
        columns["legacy_position"] = source.position
        columns["content_hash"] = source.digest
        self.complete(columns, source)
        if refused:
            columns.update(dict.fromkeys(refused.intersection(self.computed)))
        return self.record_type(**columns)

    def _take(
        self,
        value: dict[str, Any],
        columns: dict[str, Any],
        extra: dict[str, Any],
        refused: frozenset[str],
    ) -> bool:
        """Sort members into columns and ``extra``; whether they stand in usual order."""
        last, last_unknown, ordered = -1, "", True
        by_name = self._by_name
        for name, item in value.items():
            found = by_name.get(name)
            if found is None:
                ordered = ordered and name >= last_unknown
                last, last_unknown = _UNKNOWN, name
                extra[name] = item
                continue
            rank, plain, member = found
            ordered = ordered and rank > last
            last = rank
            if plain and type(item) is str and not refused:
                columns[member.column] = item
            elif member.parse is None:
                columns.get(member.column, extra)[name] = item
            elif item is None and member.nullable and member.column not in refused:
                columns[member.column] = None
            elif item is None or member.column in refused:
                extra[name] = item
            else:
                _take_typed(member, item, columns, extra)
        return ordered

    # -- rendering ------------------------------------------------------------------

    @override
    def write(self, record: Any) -> dict[str, Any]:
        """See :meth:`RecordMapping.write`."""
        extra, own = notes.detach(record.extra)
        absent = own.absent
        value: dict[str, Any] = {}
        for member in self.members:
            column = getattr(record, member.column)
            if member.parse is None:
                if isinstance(column, Mapping) and member.name in column:
                    value[member.name] = column[member.name]
            elif member.name in extra and self._tells(
                member, extra[member.name], column
            ):
                value[member.name] = extra[member.name]
            elif column != member.blank and not (
                member.name in absent and column == self._default[member.column]
            ):
                value[member.name] = None if column is None else member.render(column)
        for name in sorted(extra.keys() - self._typed):
            value.setdefault(name, extra[name])
        return own.finish(value)

    def _tells(self, member: Member, kept: Any, column: Any) -> bool:
        """Whether a kept spelling still says what the column holds."""
        return same(self._meaning(member, kept), column)

    def _meaning(self, member: Member, kept: Any) -> Any:
        """What the column holds after reading this spelling."""
        default = self._default[member.column]
        if kept is None or member.parse is None:
            return default
        try:
            found = member.parse(kept)
            return default if found is None else self._check[member.name](found)
        except (ValueError, TypeError, ArithmeticError):
            return default

    # -- adoption -------------------------------------------------------------------

    @override
    def merge(self, present: Any, read: Any) -> Any:
        """See :meth:`RecordMapping.merge`; inside of objects, unknown names stay."""
        merged = super().merge(present, read)
        changes = {
            holder: {
                **{k: v for k, v in getattr(present, holder).items() if k not in names},
                **getattr(read, holder),
            }
            for holder, names in self._holders.items()
        }
        return dataclasses.replace(merged, **changes) if changes else merged


_UNKNOWN: Final = 1 << 20
"""Rank of members that no column knows: behind all others, by name."""


def _absent(member: Member, spec: FieldSpec) -> Any:
    """What the column holds where the member is not there."""
    if spec.default is ...:
        return None if spec.optional else member.blank
    return spec.default


def _take_typed(
    member: Member, item: Any, columns: dict[str, Any], extra: dict[str, Any]
) -> None:
    """Fill a column, and keep the spelling where the column would not give it back."""
    assert member.parse is not None  # noqa: S101 - the caller looked
    try:
        found = member.parse(item)
    except (ValueError, TypeError, ArithmeticError):
        extra[member.name] = item
        return
    if found is None or found == member.blank:
        extra[member.name] = item
    elif _may_be_respelled(member, found, item):
        shown = member.render(found)
        if shown is not item and not _alike(shown, item):
            extra[member.name] = item
    if found is not None:
        columns[member.column] = found


def _may_be_respelled(member: Member, found: Any, item: Any) -> bool:
    """Whether rendering what was read may give another spelling than the file's."""
    if found is item and member.render is as_is:
        return False
    return member.usual is None or not member.usual(item)


def _alike(shown: Any, item: Any) -> bool:
    kind = type(item)
    if type(shown) is kind and (kind is str or kind is int):
        return bool(shown == item)
    return same(shown, item)


_TYPES: Final = {
    type(None): "null",
    bool: "true or false",
    str: "a text",
    int: "a number",
    float: "a number",
    list: "a list",
}


def _json_type(value: Any) -> str:
    return _TYPES.get(type(value), "a number")


def _missing(name: str, value: Mapping[str, Any]) -> UnreadableError:
    if name not in value:
        return UnreadableError("missing-member", f"there is no {name!r}")
    if value[name] is None:
        return UnreadableError("missing-member", f"{name!r} is null")
    return UnreadableError(
        "bad-value", f"{name!r} cannot be read: {shown(value[name], _SHORT)}"
    )


_SHORT: Final = 60
"""Characters of a value that are shown: it fits a line."""
