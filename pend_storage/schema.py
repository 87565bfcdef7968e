"""Schema: the declared collections with their keys, uniqueness, references and indexes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, get_args

import msgspec

from pend_storage._model import sizes
from pend_storage._model.attribution import actor, new_token
from pend_storage._model.audit import AUDIT, AuditEntry, AuditLevel, entry_id, new_entry
from pend_storage._model.evolving import Evolve
from pend_storage._model.fields import FieldSpec, Kind, fields_of
from pend_storage._model.record_types import RecordAdapter
from pend_storage._model.records import (
    Batch,
    Delete,
    FindingRecord,
    LegacyFile,
    Put,
    QuarantinedRecord,
)
from pend_storage._shown import shown
from pend_storage.codec import RecordCodec
from pend_storage.errors import (
    AppendOnly,
    ConfigError,
    InvalidRecord,
    UnknownCollection,
)

__all__ = [
    "AUDIT",
    "FINDINGS",
    "LEGACY_FILES",
    "QUARANTINE",
    "SYSTEM_NAMES",
    "CollectionSpec",
    "Index",
    "Schema",
    "collection",
]

QUARANTINE: Final = "quarantine"
"""Name of the system collection of :class:`~pend_storage.records.QuarantinedRecord`."""
LEGACY_FILES: Final = "legacy_files"
"""Name of the system collection of :class:`~pend_storage.records.LegacyFile`."""
FINDINGS: Final = "findings"
"""Name of the system collection of :class:`~pend_storage.records.FindingRecord`. It is not
compared itself: what is found must not be found again."""
SYSTEM_NAMES: Final = frozenset({QUARANTINE, LEGACY_FILES, FINDINGS, AUDIT})
"""Names of the collections that are part of every schema."""
_RESERVED: Final = frozenset({"changes", "tombstones", "store_meta", "alembic_version"})
"""Tables that a database keeps beside the collections."""


_OF_ANY_SIZE: Final = frozenset({Kind.STR, Kind.BYTES, Kind.INT, Kind.DECIMAL})
_MOST_LONG: Final = 3  # and the key: see pend_storage._model.constraints
# What PostgreSQL can hold; a schema is the same on every store.
_SERVER_PREFIX: Final = "pg_"
_MOST_IN_INDEX: Final = 32
_MOST_FIELDS: Final = 1599
"""With the version, the 1,600 columns that a table may have."""


@dataclass(frozen=True, slots=True)
class Index:
    """Ordered index: field names, each ascending or (with a minus) descending."""

    columns: tuple[tuple[str, bool], ...]
    """(field, descending) pairs."""


@dataclass(frozen=True)
class CollectionSpec:
    """One collection of a schema. Made by :func:`collection`."""

    name: str
    record_type: type
    key: str
    """The field whose text is the record's identity."""
    fields: Mapping[str, FieldSpec]
    unique: tuple[tuple[str, ...], ...] = ()
    """Fields that are unique together; a record with a null among them is exempt."""
    references: Mapping[str, str] = field(default_factory=dict)
    """Field to the collection in which its value, unless null, must be a key."""
    indexes: tuple[Index, ...] = ()
    search: tuple[str, ...] = ()
    """Text fields with an index for ``contains``."""
    adapter: RecordAdapter | None = field(default=None, repr=False, compare=False)
    """Adapter between stored records and the caller's type, where it is another one."""
    evolve: Evolve = field(default=Evolve(), compare=False)
    """Declared conversion of records of a former schema."""
    audit: AuditLevel = field(default="none", compare=False)
    """What the audit keeps of its commits."""
    codec: RecordCodec = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        codec = RecordCodec(self.name, self.record_type, tuple(self.fields.values()))
        object.__setattr__(self, "codec", codec)

    def key_of(self, record: Any) -> str:
        """Return the key of a record."""
        key: str = getattr(record, self.key)
        return key


def collection(
    name: str,
    record_type: type,
    *,
    key: str = "id",
    unique: Iterable[str | Sequence[str]] = (),
    references: Mapping[str, str] | None = None,
    indexes: Iterable[Sequence[str]] = (),
    search: Iterable[str] = (),
    evolve: Evolve | None = None,
    audit: AuditLevel = "none",
) -> CollectionSpec:
    """Declare a collection.

    Args:
        name: its name in code, tables and files; a lower-case identifier.
        record_type: a frozen dataclass.
        key: the field with a record's identity; text, never null, never empty.
        unique: fields (or groups of fields) whose values no two records may share.
        references: field to name of the collection that it refers to by key.
        indexes: groups of fields to find and sort by, ``"-field"`` for descending.
        search: text fields in which parts of the text are searched for.
        evolve: former names of renamed fields, and conversions of changed types.
        audit: what an audit entry of a commit keeps of each record: nothing (``none``:
            there is no entry), its key (``keys``), the changed fields (``diff``), or the
            record before and after (``full``).

    Raises:
        ConfigError: a name or a type that does not fit.
    """
    if not (name.isidentifier() and name == name.lower() and len(name) <= 40):  # noqa: PLR2004 - leaves room for index names in PostgreSQL's 63
        raise ConfigError(
            f"the collection name {name!r} must be a lower-case identifier of at most "
            "40 characters."
        )
    if name in _RESERVED or name.startswith(_SERVER_PREFIX):
        raise ConfigError(
            f"the collection name {name!r} is taken, as all are that begin with "
            f"{_SERVER_PREFIX}: choose another."
        )
    groups = tuple((u,) if isinstance(u, str) else tuple(u) for u in unique)
    ordered = tuple(Index(tuple(_column(c) for c in columns)) for columns in indexes)
    indexed = {key, *(references or {}), *(name for group in groups for name in group)}
    indexed |= {name for index in ordered for name, _ in index.columns}
    spec = CollectionSpec(
        name,
        record_type,
        key,
        {f.name: replace(f, indexed=f.name in indexed) for f in fields_of(record_type)},
        groups,
        dict(references or {}),
        ordered,
        tuple(search),
        evolve=evolve or Evolve(),
        audit=audit,
    )
    if audit not in get_args(AuditLevel):
        raise ConfigError(
            f"collection {name!r}: audit={shown(audit)} is none of "
            f"{', '.join(get_args(AuditLevel))}."
        )
    _check_names(spec)
    _check_sizes(spec)
    return spec


def _column(text: str) -> tuple[str, bool]:
    return text.removeprefix("-"), text.startswith("-")


def _check_names(spec: CollectionSpec) -> None:
    used = [spec.key, *spec.references, *spec.search]
    used += [name for group in spec.unique for name in group]
    used += [name for index in spec.indexes for name, _ in index.columns]
    used += [*spec.evolve.renamed_from, *spec.evolve.convert]
    for name in used:
        if name not in spec.fields:
            raise ConfigError(
                f"collection {spec.name!r}: {spec.record_type.__qualname__} has no "
                f"field {name!r}."
            )
    for name in (spec.key, *spec.references, *spec.search):
        if spec.fields[name].kind is not Kind.STR:
            raise ConfigError(
                f"collection {spec.name!r}: the field {name!r} must be text, because it "
                "is a key, a reference or searched in."
            )
    if spec.fields[spec.key].optional:
        raise ConfigError(f"collection {spec.name!r}: the key must not be optional.")
    for group in _groups(spec):
        if any(spec.fields[name].kind.is_json for name in group):
            raise ConfigError(
                f"collection {spec.name!r}: JSON values cannot be unique or indexed."
            )
        if sum(spec.fields[name].kind in _OF_ANY_SIZE for name in group) > _MOST_LONG:
            raise ConfigError(
                f"collection {spec.name!r}: at most {_MOST_LONG} texts, bytes or large "
                f"numbers can be in one index, and {', '.join(group)} are more."
            )


def _groups(spec: CollectionSpec) -> list[tuple[str, ...]]:
    """Return the fields of each declared index."""
    return [*spec.unique, *(tuple(n for n, _ in i.columns) for i in spec.indexes)]


def _check_sizes(spec: CollectionSpec) -> None:
    if len(spec.fields) > _MOST_FIELDS:
        raise ConfigError(
            f"collection {spec.name!r}: {len(spec.fields)} fields are more than the "
            f"{_MOST_FIELDS} that a table can have. Put some of them into a JSON value."
        )
    for group in _groups(spec):
        # Ties are broken by the key, which joins an index that does not have it.
        columns = len(group) + (group not in spec.unique and spec.key not in group)
        if columns > _MOST_IN_INDEX:
            raise ConfigError(
                f"collection {spec.name!r}: an index has at most {_MOST_IN_INDEX} fields "
                f"with the key, and {', '.join(group)} are more. Leave some out."
            )


_SYSTEM: Final = (
    collection(
        QUARANTINE,
        QuarantinedRecord,
        indexes=[["file", "position"], ["status", "file"]],
    ),
    collection(LEGACY_FILES, LegacyFile, key="file"),
    collection(FINDINGS, FindingRecord, indexes=[["state", "last_seen"]]),
    collection(AUDIT, AuditEntry, indexes=[["collection", "key"]]),
)


class Schema:
    """Schema of a server: all collections with their constraints.

    Four system collections are part of every schema: ``quarantine``, ``legacy_files``,
    ``findings`` and ``audit``. They are ordinary collections in every other respect, but
    that ``audit`` is append-only.
    """

    def __init__(self, collections: Iterable[CollectionSpec]) -> None:
        """Check the collections against each other.

        Raises:
            ConfigError: a name twice, a record type twice, or a reference to nowhere.
        """
        self.declared: Final = tuple(collections)
        self.module: str = next((c.record_type.__module__ for c in self.declared), "")
        """The module that declares it: where it is configured by name, that name."""
        self._by_name = {c.name: c for c in (*self.declared, *_SYSTEM)}
        self._by_type = {c.record_type: c for c in self._by_name.values()}
        adapted = {c.adapter.user_type: c for c in self.declared if c.adapter}
        total = len(self.declared) + len(_SYSTEM)
        twice = len(self._by_name) < total or len(self._by_type) < total
        self._by_type |= adapted
        if twice or len(self._by_type) < total + sum(
            c.adapter is not None for c in self.declared
        ):
            raise ConfigError(
                "a collection name or a record type is declared twice (quarantine, "
                "legacy_files, findings and audit are taken)."
            )
        self.audited: Final = frozenset(
            spec.name for spec in self.declared if spec.audit != "none"
        )
        """Names of the collections whose commits have audit entries."""
        for spec in self.declared:
            for name, target in spec.references.items():
                if target not in self._by_name:
                    raise ConfigError(
                        f"collection {spec.name!r}: {name!r} refers to {target!r}, "
                        "which is not declared."
                    )
        self._referrers: dict[str, list[tuple[CollectionSpec, str]]] = {}
        for spec in self.declared:
            for name, target in spec.references.items():
                self._referrers.setdefault(target, []).append((spec, name))

    def __iter__(self) -> Iterator[CollectionSpec]:
        """Every collection, system collections last."""
        return iter(self._by_name.values())

    def __getitem__(self, name: str | type) -> CollectionSpec:
        """Return the collection of this name or record type.

        Raises:
            UnknownCollection: there is none.
        """
        spec = (
            self._by_name.get(name)
            if isinstance(name, str)
            else self._by_type.get(name)
        )
        if spec is None:
            shown = name if isinstance(name, str) else name.__qualname__
            raise UnknownCollection(shown, known=self.names)
        return spec

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all collections, system collections last."""
        return tuple(self._by_name)

    def adapter(self, name: str | type) -> RecordAdapter | None:
        """Return the adapter of a caller's record type; None for a name, or a stored type."""
        adapter = self[name].adapter
        if adapter is None or adapter.user_type is not name:
            return None
        return adapter

    def referrers(self, target: str) -> Sequence[tuple[CollectionSpec, str]]:
        """Return the fields that refer to a collection, each with its own collection."""
        return self._referrers.get(target, ())

    def fingerprint(self) -> str:
        """Return a digest that changes with anything declared here; 16 hex digits."""
        shown = [
            (
                c.name,
                c.key,
                list(c.fields.values()),
                c.unique,
                c.references,
                c.indexes,
                c.search,
            )
            for c in self
        ]
        return hashlib.sha256(repr(shown).encode()).hexdigest()[:16]

    def put(self, name: str | type, record: Any) -> Put:
        """Make the checked operation that writes a record.

        Raises:
            InvalidRecord: the record breaks the schema.
            UnknownCollection: the schema has no such collection.
            AppendOnly: it is an audit entry.
        """
        spec = self[name]
        if spec.name == AUDIT:
            raise AppendOnly(collection=AUDIT, key=spec.key_of(record))
        return self._put(spec, record)

    def _put(self, spec: CollectionSpec, record: Any) -> Put:
        if spec.adapter is not None and type(record) is spec.adapter.user_type:
            record = spec.adapter.take(record, None)
        record = spec.codec.check(record)
        key = spec.key_of(record)
        if not key:
            raise InvalidRecord(
                "the key is empty", collection=spec.name, field=spec.key
            )
        try:
            body = spec.codec.encode(record)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise InvalidRecord(str(error), collection=spec.name) from error
        if len(body) > sizes.CLOSER_LOOK:  # short records pass every limit unmeasured
            spec.codec.check_size(record, key, body)
        return Put(spec.name, key, record, body)

    def delete(self, name: str | type, key: str) -> Delete:
        """Make the operation that deletes a key.

        Raises:
            UnknownCollection: the schema has no such collection.
            AppendOnly: it is an audit entry.
        """
        spec = self[name]
        if spec.name == AUDIT:
            raise AppendOnly(collection=AUDIT, key=key)
        return Delete(spec.name, key)

    def entry(self, entry: AuditEntry) -> Put:
        """Make the operation that adds an audit entry, for the library itself.

        Raises:
            InvalidRecord: a text of it is too long.
        """
        return self._put(self[AUDIT], entry)

    def require_appending(self, batch: Batch) -> None:
        """Refuse a commit that would delete audit entries, for the stores themselves.

        Raises:
            AppendOnly: it would.
        """
        if batch.lets_go:
            return
        for operation in batch.operations:
            if operation.collection == AUDIT and type(operation) is Delete:
                raise AppendOnly(collection=AUDIT, key=operation.key)

    def batch(
        self,
        operations: Iterable[Put | Delete],
        checks: Mapping[tuple[str, str], int] | None = None,
        *,
        limited: bool = True,
        audited: bool = True,
    ) -> Batch:
        """Make an atomic commit; of several operations on one key the last one counts.

        Audit entries of the records of audited collections are added at the end, without
        the records of before: see :mod:`pend_storage._audit_images`.

        Args:
            operations: puts and deletes.
            checks: see :class:`~pend_storage.records.Batch`.
            limited: False for a commit that cannot be divided however large it is: the
                edit of a file that JSON adopts. It reaches PostgreSQL in parts.
            audited: False for what is no commit: the first import of files.

        Raises:
            InvalidRecord: all operations together are larger than one commit can be.
        """
        all_of_it = tuple(operations)
        known = dict(checks) if checks else {}
        if len(all_of_it) > 1:
            all_of_it = _last_of_each(all_of_it)
        token, author = new_token(), actor()
        if audited and self.audited and (written := self._audited(all_of_it)):
            all_of_it += tuple(
                self.entry(
                    new_entry(
                        entry_id(token, number),
                        "put" if type(operation) is Put else "delete",
                        author,
                        collection=operation.collection,
                        key=operation.key,
                    )
                )
                for number, operation in enumerate(written)
            )
        if limited and (len(all_of_it) > 1 or len(known) > 1):
            _check_commit(all_of_it, known)
        return Batch(all_of_it, known, token, author.by, author.reason)

    def _audited(self, operations: Iterable[Put | Delete]) -> list[Put | Delete]:
        return [o for o in operations if o.collection in self.audited]


def _last_of_each(operations: tuple[Put | Delete, ...]) -> tuple[Put | Delete, ...]:
    last: dict[tuple[str, str], Put | Delete] = {}
    for operation in operations:
        place = (operation.collection, operation.key)
        last.pop(place, None)
        last[place] = operation
    return tuple(last.values())


def _check_commit(
    operations: Sequence[Put | Delete], checks: Mapping[tuple[str, str], int]
) -> None:
    size = sum([_size(operation) for operation in operations])
    size += sum([len(key) for _, key in checks])
    size += (len(operations) + len(checks)) * sizes.ROW_BYTES
    if size <= sizes.STORABLE.commit:
        return
    what = f"{len(operations):,} records"
    collection, key = next(iter(checks), ("", ""))
    if operations:
        largest = max(operations, key=_size)
        collection, key = largest.collection, largest.key
    if len(checks) > len(operations):
        what += f" and {len(checks):,} checks"
    raise InvalidRecord(
        f"{what} of {size:,} bytes as JSON are to be written in one "
        f"commit, which can have {sizes.STORABLE.commit:,}; this is the largest of "
        "them. Write them in several commits",
        collection=collection,
        key=key,
        code="too-large",
    )


def _size(operation: Put | Delete) -> int:
    return len(operation.body if type(operation) is Put else operation.key)
