"""Steps of the whole-file verbs, shared by the synchronous and the awaited ones."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pend_storage import _jitter as jitter
from pend_storage._audit_images import commit_audited
from pend_storage._layouts.layout import Layout
from pend_storage._model.diff import ABSENT
from pend_storage._model.records import Batch, Delete, Put
from pend_storage._shown import shown
from pend_storage._unit_of_work import Place
from pend_storage._whole_files.exclusive_use import ExclusiveUses, Lockable
from pend_storage._whole_files.quarantine import (
    quarantine_refused,
    refuse_quarantine,
)
from pend_storage._whole_files.serialization import (
    RecordStore,
    WritePlan,
    plan_write,
    read_state,
)
from pend_storage._whole_files.three_way_merge import merge, same
from pend_storage._whole_files.working_copies import (
    NEVER,
    WorkingCopies,
    as_json,
    plain_copy,
)
from pend_storage.errors import (
    ConfigError,
    Conflict,
    MergeConflict,
    StoreUnavailable,
    UniqueViolation,
)
from pend_storage.events import Event
from pend_storage.instrumentation._timing import Timing

__all__ = [
    "MISSING",
    "Draft",
    "FileStore",
    "drafts_of",
    "exclusive_uses_of",
    "file_of",
    "layout_of",
    "make_drafts",
    "open_files",
    "value_of",
    "value_or_default",
    "working_copies_of",
    "write",
]

MISSING: Final[Any] = object()
"""Sentinel for an omitted argument."""
_RETRY_SECONDS: Final = 30.0
"""Seconds during which a conflicting write is retried."""
_MOST_PAUSE: Final = 0.1
"""Upper bound of the back-off between two attempts, in seconds."""
_MOST_DOUBLINGS: Final = 10


class FileStore(RecordStore, Lockable, Protocol):
    """The verbs of a store that the whole-file verbs call."""

    def tell(self, event: Event) -> None:
        """See :meth:`pend_storage.store.Store.tell`."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Pending write of a file: its base and its new content."""

    layout: Layout
    base: Any
    """Content that the writer loaded; ``NEVER``: none, so the file is replaced."""
    new: Any
    """New content, of plain types. Never changed."""


def layout_of(store: FileStore, file: str) -> Layout:
    """Return the layout that claims a file.

    Raises:
        ConfigError: no layout does.
    """
    for layout in store.layouts:
        if layout.file == file:
            return layout
    known = ", ".join(layout.file for layout in store.layouts) or "none"
    raise ConfigError(
        f"no layout claims the file {shown(file)}; this store knows: {known}."
    )


def file_of(store: FileStore, file: str) -> str:
    """Return the name of a file, after checking that a layout claims it."""
    return layout_of(store, file).file


def exclusive_uses_of(store: FileStore) -> ExclusiveUses:
    """Return the registry of exclusive uses of a store, made at the first call."""
    found: ExclusiveUses | None = store.__dict__.get("_holds")
    return found or store.__dict__.setdefault("_holds", ExclusiveUses(store))


def working_copies_of(store: FileStore) -> WorkingCopies:
    """Return the registry of loaded values of a store, made at the first call."""
    found: WorkingCopies | None = store.__dict__.get("_copies")
    if found is None:
        found = store.__dict__.setdefault("_copies", WorkingCopies())
    return found


def value_or_default(file: str, base: Any, default: Any) -> Any:
    """Return a copy of a file's content for the caller, or the default.

    Raises:
        FileNotFoundError: the file does not exist, and there is no default.
    """
    if base is not ABSENT:
        return plain_copy(base)
    if default is MISSING:
        raise FileNotFoundError(
            errno.ENOENT, "The store has no such file; give a default, or save it", file
        )
    return default


def empty_of(layout: Layout) -> Any:
    """Return the content of an empty file of this layout."""
    parts = {name: empty_of(part) for name, part in _parts_of(layout).items()}
    empty = layout.content(layout.missing(), ())
    return {**empty, **parts} if parts else empty


def _parts_of(layout: Layout) -> Mapping[str, Layout]:
    """Return the members of a file that have layouts of their own, by name."""
    return {part.member: part for part in getattr(layout, "parts", ())}


def value_of(store: RecordStore, layout: Layout) -> Any:
    """Read the exact content of a file; ``ABSENT`` if it does not exist.

    Raises:
        CorruptFile: the file was never readable.
    """
    timing = _timing_of(store)
    if timing is None:
        return _read(store, layout)
    return timing.call("load", layout.file, _read, store, layout)


def _timing_of(store: RecordStore) -> Timing | None:
    return store.__dict__.get("_timing")


def _read(store: RecordStore, layout: Layout) -> Any:
    rest = read_state(store, layout).value
    parts = {n: read_state(store, part).value for n, part in _parts_of(layout).items()}
    there = {name: value for name, value in parts.items() if value is not ABSENT}
    if not there:
        return rest
    return {**({} if rest is ABSENT else rest), **there}


def drafts_of(layout: Layout, base: Any, new: Any) -> list[Draft]:
    """Split the write of a file into drafts, one per layout that holds a part of it."""
    parts = _parts_of(layout)
    if not parts or not isinstance(new, dict):
        return [Draft(layout, base, new)]
    is_known = isinstance(base, dict)
    rest = (
        {name: value for name, value in base.items() if name not in parts}
        if is_known
        else base
    )
    drafts = [
        Draft(layout, rest, {n: value for n, value in new.items() if n not in parts})
    ]
    for name, part in parts.items():
        before = base.get(name, ABSENT) if is_known else base
        if name in new or before is not ABSENT:
            drafts.append(Draft(part, before, new.get(name, empty_of(part))))
    return drafts


def open_files(
    store: FileStore, files: Sequence[str]
) -> tuple[list[tuple[Layout, Any]], list[Any]]:
    """Read files that are to be changed.

    Returns:
        Layout and content of each file, and copies of the contents for the caller.

    Raises:
        ConfigError: no file, a file twice, or one that no layout claims.
    """
    if not files or len(set(files)) < len(files):
        raise ConfigError("edit() takes one or more files, each of them once.")
    bases, values = [], []
    for file in files:
        layout = layout_of(store, file)
        found = value_of(store, layout)
        base = empty_of(layout) if found is ABSENT else found
        bases.append((layout, base))
        values.append(plain_copy(base))
    return bases, values


def make_drafts(
    bases: Sequence[tuple[Layout, Any]], values: Sequence[Any]
) -> list[Draft]:
    """Make the drafts of files that a caller has changed.

    Raises:
        TypeError: ``json.dump`` would not write a value.
    """
    drafts: list[Draft] = []
    for (layout, base), value in zip(bases, values, strict=True):
        drafts += drafts_of(layout, base, as_json(value))
    return drafts


def write(store: FileStore, drafts: Sequence[Draft], *, strict: bool) -> None:
    """Write files in one transaction; retry conflicts with exponential back-off.

    Raises: as :meth:`FileVerbs.save`.
    """
    timing = _timing_of(store)
    if timing is None:
        _write(store, drafts, strict=strict)
    else:
        file = drafts[0].layout.file
        timing.call("save", file, _write, store, drafts, strict=strict)


def _write(store: FileStore, drafts: Sequence[Draft], *, strict: bool) -> None:
    deadline = time.monotonic() + _RETRY_SECONDS
    attempt = 0
    refused: set[Place] = set()
    plans: list[WritePlan] = []
    # Writers of one process take turns, so that only those of other processes conflict.
    # Sorted: two writers that lock the same files in another order would deadlock.
    files = sorted(draft.layout.file for draft in drafts)
    with ExitStack() as stack:
        for file in files:
            stack.enter_context(exclusive_uses_of(store).writing(file, _RETRY_SECONDS))
        while True:
            try:
                plans = _plan_all(store, drafts)
                _commit(store, plans, deadline, refused, strict=strict)
            except MergeConflict:
                raise
            except UniqueViolation as error:
                place = (error.collection, error.key)
                if strict or place in refused:
                    raise
                # The other record may be newer than what was read: read and plan once
                # more, and quarantine this one only if it is refused again.
                refused.add(place)
            except Conflict:
                if time.monotonic() > deadline:
                    raise
                attempt = min(attempt + 1, _MOST_DOUBLINGS)
                pause = min(_MOST_PAUSE, 0.001 * 2.0**attempt)
                time.sleep(jitter.between(0.0, pause))
            else:
                break
    _emit_events(store, plans)


def _plan_all(store: FileStore, drafts: Sequence[Draft]) -> list[WritePlan]:
    """Merge drafts with the present state of the store, and plan their writes."""
    plans: list[WritePlan] = []
    pending: dict[Place, Put | Delete] = {}
    for draft in drafts:
        state = read_state(store, draft.layout)
        value = _merged(draft, state.value)
        if value is not ABSENT:
            made = plan_write(store, state, value, pending)
            pending |= made.wanted
            plans.append(made)
    return plans


def _merged(draft: Draft, now: Any) -> Any:
    """Return the merged content of a file; ``ABSENT``: it is not created."""
    base, new, layout = draft.base, draft.new, draft.layout
    if base is NEVER:
        base = now
    if now is not ABSENT or base is ABSENT:
        return merge(base, now, new, file=layout.file, key=layout.key_member)
    if same(new, base):
        return ABSENT
    if not same(base, empty_of(layout)):
        # Deleted since it was loaded: neither recreate nor drop it silently.
        raise MergeConflict(file=layout.file, member=())
    return new


def _commit(
    store: FileStore,
    plans: Sequence[WritePlan],
    deadline: float,
    refused: set[Place],
    *,
    strict: bool,
) -> None:
    """Commit plans together; quarantine new records that the store refuses twice.

    Raises: as :meth:`FileVerbs.save`, and:
        Conflict: the version of a record that was read has changed.
    """
    while True:
        for made in plans:
            refuse_quarantine(made, strict=strict)
        wanted = [operation for made in plans for operation in made.wanted.values()]
        if not wanted:
            return
        batch = store.schema.batch(wanted, _checks(plans))
        try:
            _commit_once(store, batch, deadline)
        except UniqueViolation as error:
            if (error.collection, error.key) not in refused:
                raise
            if not any(quarantine_refused(store.schema, made, error) for made in plans):
                raise
        else:
            return


def _checks(plans: Sequence[WritePlan]) -> dict[Place, int]:
    """Merge the version checks of plans.

    Raises:
        Conflict: two plans have read different versions of one record.
    """
    checks: dict[Place, int] = {}
    for made in plans:
        for place, version in made.reads.items():
            known = checks.setdefault(place, version)
            if known != version:
                collection, key = place
                raise Conflict(
                    collection=collection, key=key, expected=known, actual=version
                )
    return checks


def _commit_once(store: FileStore, batch: Batch, deadline: float) -> None:
    """Commit; retry an unknown outcome with the same token, which has one effect."""
    while True:
        try:
            commit_audited(store, batch)
        except StoreUnavailable as error:
            if error.outcome_known or time.monotonic() > deadline:
                raise
            time.sleep(_MOST_PAUSE)
        else:
            return


def _emit_events(store: FileStore, plans: Sequence[WritePlan]) -> None:
    """Emit events for newly quarantined and removed records."""
    for made in plans:
        for record in made.aside:
            store.tell(
                Event(
                    "file-write-quarantined",
                    f"{record.file} was saved with what cannot be placed, at "
                    f"{shown(record.place)} ({record.code}: {record.reason}). It stands "
                    f"in the file, and waits in quarantine as {record.id}: save another "
                    "value, or see `pend-storage quarantine show`",
                    logging.WARNING,
                )
            )
        if made.event is not None:
            store.tell(made.event)
