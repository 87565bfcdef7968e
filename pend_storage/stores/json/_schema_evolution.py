"""Schema evolution of a directory: one frame of the journal, or nothing at all.

Every record keeps its version, so that a database which is brought to the same schema has
the same records at the same versions. The change log before it is of the former schema,
and is not given out any more. The files follow afterwards, like after any commit.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from pend_storage._files.failures import translated
from pend_storage._layouts.layout import Layout
from pend_storage._schema_changes import (
    ChangeNeed,
    Evolution,
    SchemaChange,
    changes_between,
    in_words,
    only_added,
    unmet,
)
from pend_storage._schema_note import (
    CollectionShape,
    Description,
    FieldShape,
    describe,
)
from pend_storage._shown import shown
from pend_storage.errors import SchemaOutOfDate
from pend_storage.events import Event, Hook
from pend_storage.phases import Role
from pend_storage.schema import CollectionSpec, Schema
from pend_storage.stores._inmemory.state import SCHEMA_META, ChangedRow, State
from pend_storage.stores._inmemory.table import Table
from pend_storage.stores._inmemory.write_planner import Plan
from pend_storage.stores._schema_rewriting import (
    Misfits,
    Rewriting,
    check_unique,
    is_of,
)
from pend_storage.stores.json._file_layouts import FileLayouts
from pend_storage.stores.json._journal.engine import Engine
from pend_storage.stores.json._journal.process_locks import FlockLock
from pend_storage.stores.json._journal.replica_state import ReplicaState
from pend_storage.stores.json._legacy_sync.file_manifest import digest_of, place_of
from pend_storage.stores.json._legacy_sync.synced_file import SyncedFile
from pend_storage.stores.json._store_directory import require_format

__all__ = ["migrate_directory"]

_ANYTHING: Final = FieldShape("json", optional=True)
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass
class _Draft:
    """Planned migration: the changes, the new description, the rows to write."""

    changes: tuple[SchemaChange, ...]
    description: Description
    rows: list[ChangedRow] = field(default_factory=list)

    @property
    def records(self) -> dict[str, int]:
        """Number of changed or deleted rows, by collection."""
        found: dict[str, int] = {}
        for row in self.rows:
            found[row.collection] = found.get(row.collection, 0) + 1
        return found


def migrate_directory(
    schema: Schema,
    file_layouts: FileLayouts,
    *,
    drop: bool,
    dry_run: bool,
    timeout: float,
    hook: Hook,
) -> Evolution:
    """Migrate a directory to another schema: :meth:`JsonStore.migrate`.

    Args:
        schema: the target.
        file_layouts: the directory and its files.
        drop: delete collections and fields that the schema does not have any more.
        dry_run: report the changes, write nothing.
        timeout: seconds to wait for other processes.
        hook: receives ``schema-migrated``.

    Returns:
        The changes, made or planned.

    Raises:
        SchemaOutOfDate: something would be lost, or stored values do not fit.
        LockTimeout: another process holds the directory for too long.
    """
    name = str(file_layouts.directory)
    with translated(file_layouts.directory):
        # Without a store there are no rows to migrate: opening imports the files.
        if not file_layouts.own.exists():
            return Evolution(name, (), {})
        require_format(file_layouts.own, mark=not dry_run)
        engine = Engine(
            schema, file_layouts.own, name=name, lock_timeout=timeout, hook=hook
        )
        try:
            done = _migrate(
                engine, file_layouts, drop=drop, dry_run=dry_run, timeout=timeout
            )
        finally:
            engine.close()
    if done.changes and not dry_run:
        hook(
            Event(
                "schema-migrated",
                f"{name} has the schema of {schema.module} now: "
                f"{in_words(done.changes)}",
                logging.INFO,
                {"changes": len(done.changes)},
            )
        )
    return done


def _migrate(
    engine: Engine,
    file_layouts: FileLayouts,
    *,
    drop: bool,
    dry_run: bool,
    timeout: float,
) -> Evolution:
    name = str(file_layouts.directory)
    lock = FlockLock(engine.directory / "checkpoint.lock", engine.own)
    try:
        with lock.held(timeout), engine.exclusive() as submit:
            live = engine.current()
            draft = _draft(live, engine.schema, name, drop=drop)
            done = Evolution(name, draft.changes, draft.records)
            if dry_run or draft.description == _noted(live.state):
                return done
            if live.state.role.role is not Role.DETACHED:
                touched = {row.collection for row in draft.rows}
                files = [x for x in file_layouts.layouts if x.collection in touched]
                _mark_files(files, file_layouts.synced_files(), name)
            meta = ((SCHEMA_META, draft.description.to_json()),)

            def write(plan: Plan) -> None:
                plan.rewrite(draft.rows, meta)

            submit(write)
            return done
    finally:
        lock.close()


def _noted(state: State) -> Description | None:
    noted = state.meta.get(SCHEMA_META)
    return None if noted is None else Description.from_json(noted)


def _draft(live: ReplicaState, schema: Schema, name: str, *, drop: bool) -> _Draft:
    """Plan the migration.

    Raises:
        SchemaOutOfDate: it cannot be done without a loss.
    """
    state = live.state
    former = _noted(state) or _inferred(state, schema)
    wanted = describe(schema)
    changes = changes_between(former, wanted, schema)
    filled = {name for name, table in state.tables.items() if table.rows}
    if obstacles := unmet(changes, drop=drop, filled=filled):
        raise SchemaOutOfDate(f"{name}: {'. '.join(obstacles)}. Nothing was changed.")
    description = wanted.after(former, only_added=only_added(changes))
    if not only_added(changes):  # the log before it cannot be decoded any more
        description = msgspec.structs.replace(description, floor=live.log_end)
    draft = _Draft(changes, description)
    misfits = Misfits()
    for spec in schema:
        shape = former.collections.get(spec.name)
        mine = [change for change in changes if change.collection == spec.name]
        if shape is not None and any(
            c.need is not ChangeNeed.NOTHING or c.is_index for c in mine
        ):
            rewriting = Rewriting(spec, shape, wanted.collections[spec.name])
            draft.rows += _rewritten(spec, rewriting, state, misfits)
    if misfits:
        raise misfits.refusal(name)
    for gone in former.collections.keys() - wanted.collections.keys():
        rows = state.any_table(gone).rows.items()
        draft.rows += [ChangedRow(gone, key, row[0], None) for key, row in rows]
    return draft


def _rewritten(
    spec: CollectionSpec, rewriting: Rewriting, state: State, misfits: Misfits
) -> Iterator[ChangedRow]:
    """Yield the rows of a collection that change; collect values that do not fit."""
    records = {}
    for key, (version, body) in state.table(spec.name).rows.items():
        place = f"{spec.name}[{shown(key)}]"
        try:
            record, new = rewriting.rewritten(body)
        except ValueError as error:
            misfits.add(place, str(error))
            continue
        records[key] = record
        for name, target in spec.references.items():
            value = getattr(record, name)
            if value is not None and value not in state.table(target).rows:
                misfits.add(
                    place, f"{name} refers to {target}[{shown(value)}]: missing"
                )
        if new != body:
            yield ChangedRow(spec.name, key, version, new)
    check_unique(spec, records.items(), misfits)


# -- directories without a note ---------------------------------------------------------


def _inferred(state: State, schema: Schema) -> Description:
    """Infer the schema of a directory's rows, if none is recorded."""
    wanted = describe(schema)
    shapes = {
        spec.name: _inferred_shape(
            spec, wanted.collections[spec.name], state.table(spec.name)
        )
        for spec in schema
    }
    return msgspec.structs.replace(wanted, fingerprint="", collections=shapes)


def _inferred_shape(
    spec: CollectionSpec, shape: CollectionShape, table: Table
) -> CollectionShape:
    if not table.rows:
        return shape
    maybe = {was: shape.fields[new] for new, was in spec.evolve.renamed_from.items()}
    maybe |= shape.fields
    found: dict[str, FieldShape] = {}
    for _, body in table.rows.values():
        for name, raw in _members(body).items():
            known = found.get(name) or maybe.get(name, _ANYTHING)
            found[name] = known if is_of(known, raw) else _ANYTHING
    key = spec.key if spec.key in found else spec.evolve.renamed_from.get(spec.key, "")
    return msgspec.structs.replace(shape, key=key, fields=found, unique=[])


def _is_as_left(file: SyncedFile) -> bool:
    """Return True if a file has the content that the store wrote or read last."""
    if file.is_unmodified():
        return True
    manifest, read = file.manifest(), file.read()
    return (
        manifest is not None
        and not file.has_leftovers()
        and (read is None or manifest.digest == digest_of(read[0]))
    )


# -- files --------------------------------------------------------------------------------


def _mark_files(
    file_layouts: Sequence[Layout], files: Mapping[str, SyncedFile], name: str
) -> None:
    """Mark the files whose records change, so that they are rendered anew.

    Done before the commit: should it fail, a program with the former schema only writes
    the files once more.

    Raises:
        SchemaOutOfDate: a program has edited a file, and that is not adopted yet.
    """
    for layout in file_layouts:
        if not _is_as_left(files[layout.file]):
            raise SchemaOutOfDate(
                f"{name}: {layout.file} was changed by another program, and only the "
                "program of before can adopt that. Start it once, and migrate again; "
                "nothing was changed."
            )
    for layout in file_layouts:
        manifest = files[layout.file].manifest()
        if manifest is None:
            continue
        for index, token in enumerate(manifest.tokens):
            if place_of(token, layout.collection)[0] == layout.collection:
                manifest.versions[index] = 0
        files[layout.file].save_manifest(manifest)
