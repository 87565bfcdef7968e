"""Schema admission: admits a program by the schema that is recorded in the directory.

The schema of the rows is recorded in the store's meta. Admitted are:

- a program with the same schema;
- one that only adds to it: the addition is recorded;
- an older one, whose schema was only added to since: it reads and commits, but is refused
  what it cannot do without a loss (legacy files, change log, following another store).

All others are refused.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import msgspec

from pend_storage._model.records import JSON
from pend_storage._schema_changes import (
    SchemaChange,
    changes_between,
    in_words,
    only_added,
)
from pend_storage._schema_note import Description, describe
from pend_storage._shown import cut, shown
from pend_storage.errors import CorruptFile, InvalidRecord, SchemaOutOfDate
from pend_storage.events import Event, Hook
from pend_storage.schema import CollectionSpec, Schema
from pend_storage.stores._inmemory.state import SCHEMA_META, State
from pend_storage.stores._inmemory.table import Table

__all__ = ["SchemaAdmission", "require_fitting"]

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class SchemaAdmission:
    """Admit or refuse the schema of one program, again whenever another one is recorded."""

    def __init__(self, schema: Schema, name: str, hook: Hook) -> None:
        """Create it.

        Args:
            schema: of the program.
            name: of the store, in errors.
            hook: receives ``schema-behind``.
        """
        self.schema = schema
        self.wanted = describe(schema)
        self._name = name
        self._hook = hook
        self._admitted_note: JSON = None
        self._is_open = False
        self.is_behind = False
        """A newer program has added to the schema."""
        self._module = ""
        self.floor = 0
        """Entries of the change log up to this sequence are of a former schema."""
        self._retained_members: Mapping[str, frozenset[str]] = {}

    def admit(self, state: State) -> None:
        """Require that the rows of a state are of this schema; quick if nothing has changed.

        Raises:
            SchemaOutOfDate: they are not.
        """
        noted = state.meta.get(SCHEMA_META)
        # By identity: the meta value is replaced as a whole, and this runs at every read.
        if noted is not self._admitted_note:
            self._compare_note(noted)
            self._admitted_note = noted
        state.kept = self._retained_members

    def _compare_note(self, noted: JSON) -> None:
        if noted is None:
            return
        former = Description.from_json(noted)
        wanted = self.wanted
        self._retained_members, self.floor, self._module = (
            {},
            former.floor,
            former.module,
        )
        was_behind, self.is_behind = self.is_behind, False
        if wanted.fingerprint == former.fingerprint:
            return
        # Only added to since: go on, and retain the members that this program lacks.
        if wanted.fingerprint in former.ancestors:
            self._retained_members = _unknown(former, wanted)
            self.is_behind = True
            if not was_behind:
                self._emit_schema_behind(former)
            return
        changes = changes_between(former, wanted, self.schema)
        if self._is_open and changes:
            raise SchemaOutOfDate(
                f"{self._name}: the schema of the directory was changed while this "
                f"program ran ({in_words(changes)}). Deploy the program that fits, or "
                "restart this one; nothing was changed."
            )
        if not only_added(changes):
            raise self._refusal(former, changes)

    def _refusal(
        self, former: Description, changes: tuple[SchemaChange, ...]
    ) -> SchemaOutOfDate:
        theirs, mine = former.module, self.wanted.module
        which = f"that of {theirs}; this program has that of {mine}"
        if theirs in {"", mine}:
            which = f"that of {mine} as it was then"
        return SchemaOutOfDate(
            f"{self._name}: the records were written with another schema ({which}). "
            f"For this program {in_words(changes)}. If it is the right one, bring the directory to its "
            "schema: JsonStore.migrate() (pend-storage json migrate; --dry-run says what "
            "that would do). Else deploy the program that fits; nothing was changed."
        )

    def _emit_schema_behind(self, former: Description) -> None:
        added = changes_between(self.wanted, former, self.schema)
        self._hook(
            Event(
                "schema-behind",
                f"{self._name}: a newer program ({former.module}) has added to the "
                f"schema: {in_words(added)}. This program goes on reading and writing, "
                "and keeps what it does not know; the legacy files and the change log "
                "are left to programs with the newer schema. To go back for good: "
                "pend-storage json migrate --drop, with the former schema",
                logging.WARNING,
            )
        )

    def require_whole(self) -> None:
        """Refuse an operation that needs every field of a record.

        Raises:
            SchemaOutOfDate: a newer program has added to the schema.
        """
        if self.is_behind:
            raise SchemaOutOfDate(
                f"{self._name}: a newer program ({self._module}) has added to the schema, "
                "so this one cannot pass on whole records. Leave that to the newer "
                "program, or update this one; nothing was changed."
            )

    def next_description(self, state: State) -> tuple[JSON, JSON]:
        """Return the recorded description, and the one to record; the same if it stays.

        Raises:
            SchemaOutOfDate: nothing is recorded, and the records do not fit.
        """
        noted = state.meta.get(SCHEMA_META)
        if noted is None:
            require_fitting(state, self.schema, self._name)
            return None, self.wanted.to_json()
        former = Description.from_json(noted)
        if self.is_behind or former.fingerprint == self.wanted.fingerprint:
            return noted, noted
        changes = changes_between(former, self.wanted, self.schema)
        for change in changes:
            if change.is_index:
                self._require_indexable(state, change)
        return noted, self.wanted.after(former, only_added=True).to_json()

    def _require_indexable(self, state: State, change: SchemaChange) -> None:
        codec = self.schema[change.collection].codec
        for key, (_, body) in state.table(change.collection).rows.items():
            try:
                codec.check(codec.decode(body))
            except InvalidRecord as error:
                raise SchemaOutOfDate(
                    f"{self._name}: {change.words}, and {change.collection}[{shown(key)}] "
                    f"does not fit: {error.reason}. Correct it with the program of before, "
                    "or do not index the field; nothing was changed."
                ) from error

    def finish_opening(self) -> None:
        """Mark the opening as finished: a schema recorded from now on is another program's."""
        self._is_open = True


def _unknown(former: Description, wanted: Description) -> dict[str, frozenset[str]]:
    """Return the members that records may have and this program does not know."""
    found = {}
    for name, shape in wanted.collections.items():
        there = former.collections.get(name)
        more = set() if there is None else there.fields.keys() - shape.fields.keys()
        if more:
            found[name] = frozenset(more)
    return found


def require_fitting(state: State, schema: Schema, name: str) -> None:
    """Require that the records of a directory without a recorded schema are of this one.

    Raises:
        SchemaOutOfDate: one cannot be decoded, or has a member that would be lost.
    """
    for spec in schema:
        fault = _misfit(spec, state.table(spec.name))
        if fault is not None:
            raise SchemaOutOfDate(
                f"{name}: the records do not fit the schema of this program: {fault}. If "
                "the program is the right one, bring the directory to its schema: "
                "JsonStore.migrate() (pend-storage json migrate; --dry-run says what "
                "that would do). Else deploy the program that fits; nothing was changed."
            )


def _misfit(spec: CollectionSpec, table: Table) -> str | None:
    known = spec.fields.keys()
    for key, (_, body) in table.rows.items():
        strange = _members(body).keys() - known
        if strange:
            names = ", ".join(cut(name) for name in sorted(strange))
            return f"{spec.name}[{shown(key)}] has {names}"
        try:
            spec.codec.decode(body)
        except CorruptFile as error:
            return f"{spec.name}[{shown(key)}]: {error.reason}"
    return None
