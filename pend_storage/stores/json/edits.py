"""Legacy files that somebody else has changed: what was changed, and what comes of it.

The file is compared with what it showed before, not with what the store holds now, so
that a commit which is not in the file yet is not taken for a deletion by the editor.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Literal

from pend_storage.errors import (
    Conflict,
    StaleEpoch,
)
from pend_storage.events import Event, Hook
from pend_storage.layout import Entry, Layout, ParsedFile, is_whole_file
from pend_storage.phases import Role
from pend_storage.records import (
    EDITED,
    JSON,
    FindingRecord,
    LegacyFile,
    Put,
    QuarantinedRecord,
)
from pend_storage.schema import FINDINGS, LEGACY_FILES, QUARANTINE
from pend_storage.stores.json.content import Content, Seen, content_of, match
from pend_storage.stores.json.edit_commit import EditCommit, Found, Operation, Rows
from pend_storage.stores.json.engine import Engine, Submit
from pend_storage.stores.json.guard import file_broken
from pend_storage.stores.json.past import state_at
from pend_storage.stores.json.read_set import ReadSet
from pend_storage.stores.json.views import (
    Signature,
    View,
    digest_of,
    place_of,
    token_of,
)
from pend_storage.stores.plan import Plan
from pend_storage.unread import is_marked, marked

__all__ = ["EDIT_MARK", "Edit", "adopted_meta", "note_as_secondary"]

EDIT_MARK: Final = "#edit"
"""Behind the file name of quarantined records that an editor's file held in vain."""
_ATTEMPTS: Final = 5
_LONGEST_HOLD: Final = 0.5
"""Seconds for which other writers may be kept waiting for the adoption of an edit that
met commits each time; where a comparison takes longer, the next round tries again."""
_MOST_FOUND: Final = 100
"""Findings made of one edit; all that it says is in quarantine all the same."""


def adopted_meta(file: str) -> str:
    """Name of the meta entry that tells which edit was adopted last."""
    return f"json.adopted:{file}"


class Edit:
    """One edited file."""

    def __init__(
        self,
        engine: Engine,
        layout: Layout,
        raw: bytes,
        view: View | None,
        hook: Hook,
    ) -> None:
        """Make one.

        Args:
            engine: the store.
            layout: of the file.
            raw: the file as it is now.
            view: what it showed before; None where it was not there.
            hook: is told what came of it.
        """
        self._engine = engine
        self._layout = layout
        self._raw = raw
        self._view = view
        self._hook = hook
        self._told: list[Event] = []
        """Of the present attempt; the hook hears of the one that succeeds."""
        self._compared_in = 0.0
        """Seconds that the latest comparison with the store took."""

    def adopt(self, signature: Signature) -> View | None:
        """Bring the edit into the store; gives what the file shows now.

        None where roles are changing, or others commit all the time to what it must
        read: look again later.

        Args:
            signature: of the edited file.
        """
        try:
            view = self._in_turn(signature)
        except (Conflict, StaleEpoch):
            return None
        for event in self._told if view is not None else ():
            self._hook(event)
        return view

    def _in_turn(self, signature: Signature) -> View | None:
        """Adopt between the commits of others; at last, keep them waiting for it.

        Raises:
            Conflict: not even then, or that would keep them waiting for too long.
            StaleEpoch: roles are changing.
        """
        for left in reversed(range(_ATTEMPTS)):
            try:
                return self._attempt(signature, self._engine.submit)
            except Conflict:  # somebody has committed meanwhile: look again
                if not left and self._compared_in > _LONGEST_HOLD:
                    raise
        with self._engine.alone() as submit:
            return self._attempt(signature, submit)

    def _attempt(self, signature: Signature, submit: Submit) -> View | None:
        self._told.clear()
        begun = time.monotonic()
        found = self._find()
        self._compared_in = time.monotonic() - begun
        return self._carry_out(found, signature, submit)

    def _carry_out(
        self, found: Found, signature: Signature, submit: Submit
    ) -> View | None:
        with self._engine.live() as live:
            role = live.state.role.role
            already = live.state.meta.get(adopted_meta(self._layout.file))
        view = View(signature, digest_of(self._raw), self._positions(found))
        view.broken = _broken(found) is not None
        if already == self._mark(view):  # and then we died before we could note it
            found.base = self._current(found.content)
            found.header = (0, None)
        elif role is Role.SECONDARY:
            self._set_aside_all(found, self._mark(view), submit)
        elif role is Role.PRIMARY:
            self._commit_all(found, self._mark(view), submit)
        else:
            return None
        return self._viewed(view, found)

    def _mark(self, view: View) -> JSON:
        """By which this edit, of the file as it was before, is known to be adopted."""
        return ["" if self._view is None else self._view.digest, view.digest]

    # -- what was changed ---------------------------------------------------------------

    def _find(self) -> Found:
        with self._engine.live() as live:
            content = content_of(live, self._layout, {})
        base, header = self._base(content)
        seen: list[Seen] = []
        reads = ReadSet()
        parsed = self._layout.parse(content.schema, self._raw)
        noted = ParsedFile(parsed.header, _noted(parsed.entries, seen))
        present = [content.decode(token, row[1]) for token, row in base.items()]
        operations = list(
            self._layout.adopt(
                content.schema,
                noted,
                present,
                lambda c, k: self._look(base, reads, c, k),
            )
        )
        if self._view is None:  # nothing was taken out but that it was broken
            whole = _whole_files(content)
            operations = [
                o
                for o in operations
                if isinstance(o, Put) or token_of(o.collection, o.key) in whole
            ]
        found = Found(parsed, seen, content, base, header, operations, reads)
        if _broken(found) is not None and self._was_never_read(content):
            found.parsed = dataclasses.replace(parsed, header=marked(parsed.header))
        return found

    def _was_never_read(self, content: Content) -> bool:
        """Whether nothing of the file, which is broken now, was ever known."""
        if self._view is None and not content.header_version:
            return True
        return is_marked(content.header) and content.waits()

    def _base(self, content: Content) -> tuple[Rows, tuple[int, LegacyFile | None]]:
        """The rows, and the header, that the file showed before somebody changed it."""
        header = (content.header_version, content.header)
        if self._view is None:
            return self._current(content), header
        base = _whole_files(content)
        missing: dict[str, int] = {}
        for token, version in zip(self._view.tokens, self._view.versions, strict=True):
            row = content.row(token)
            if row is not None and row[0] == version:
                base[token] = row
            else:
                missing[token] = version
        shown = self._view.header
        is_known = shown == content.header_version
        for position in () if is_known and not missing else self._view.positions:
            state = state_at(self._engine.directory, content.schema, position)
            if state is None:
                continue
            for token, version in missing.items():
                name, key = place_of(token, self._layout.collection)
                row = state.tables[name].rows.get(key)
                if row is not None and row[0] == version:
                    base[token] = row
            before = state.tables[LEGACY_FILES].row(self._layout.file)
            if before is not None and before.version == shown:
                header, is_known = (shown, before.record), True
        return base, header if is_known else (shown, None)

    def _current(self, content: Content) -> Rows:
        rows = ((token, content.row(token)) for token in content.tokens())
        return {**_whole_files(content), **{t: r for t, r in rows if r is not None}}

    def _look(self, base: Rows, reads: ReadSet, collection: str, key: str) -> Any:
        """A record for the layout: of this file as it was, of others as they are.

        Raises:
            Conflict: it is not what it was when it was looked at before.
        """
        mine = collection in {self._layout.collection, QUARANTINE}
        row = base.get(token_of(collection, key)) if mine else None
        if row is not None:
            return self._engine.schema[collection].codec.decode(row[1])
        with self._engine.live() as live:
            found = live.state.table(collection).row(key)
        reads.note((collection, key), 0 if found is None else found.version)
        if found is None or (mine and self._layout.owns(found.record)):
            return None  # committed to this file, but never shown in it
        return found.record

    def _positions(self, found: Found) -> tuple[Any, ...]:
        """Where the rows are found that the file shows now."""
        old = () if self._view is None else self._view.positions
        return (*old[-1:], found.content.position)

    # -- as primary: ordinary commits -----------------------------------------------------

    def _commit_all(self, found: Found, mark: JSON, submit: Submit) -> None:
        meta = ((adopted_meta(self._layout.file), mark),)
        entry = _broken(found)
        if entry is not None:
            found.operations += _superseded(found.content, entry)
        commit = EditCommit(
            self._engine, self._layout, found, submit=submit, hook=self._told.append
        )
        written = commit.run(meta)
        self._note(found, written)
        if entry is not None:
            self._told.append(
                file_broken(entry, is_unread=is_marked(found.parsed.header))
            )
        elif written:
            self._tell(
                "outside-edit-adopted",
                f"{self._layout.file} was changed by somebody else; {len(written)} "
                "changes were adopted as commits",
            )

    def _note(self, found: Found, written: list[tuple[Operation, int]]) -> None:
        """Bring the base to what the file shows now."""
        for operation, version in written:
            if isinstance(operation, Put) and operation.record == found.parsed.header:
                found.header = (version, found.parsed.header)
            if operation.collection not in {self._layout.collection, QUARANTINE}:
                continue
            token = token_of(operation.collection, operation.key)
            if isinstance(operation, Put):
                found.base[token] = (version, operation.body)
            else:
                found.base.pop(token, None)

    # -- as secondary: nothing is adopted, nothing is lost --------------------------------

    def _set_aside_all(self, found: Found, mark: JSON, submit: Submit) -> None:
        mine = {self._layout.collection, QUARANTINE}
        changed = [o for o in found.operations if o.collection in mine]
        asides = {
            (operation.collection, operation.key): self._quarantined(found, operation)
            for operation in changed
            if isinstance(operation, Put)
        }
        puts = list(asides.values())
        findings = [
            self._finding(found, o, asides.get((o.collection, o.key)))
            for o in changed[:_MOST_FOUND]
        ]
        meta = ((adopted_meta(self._layout.file), mark),)
        submit(partial(note_as_secondary, [*puts, *findings], meta))
        if found.operations:
            self._tell(
                "outside-edit-quarantined",
                f"{self._layout.file} was changed by somebody else while another store is "
                f"primary; {len(puts)} records were put in quarantine, and the file will "
                "be written again",
                logging.WARNING,
            )

    def _quarantined(self, found: Found, operation: Put) -> Put:
        layout, schema = self._layout, found.content.schema
        raw = layout.render_one(found.parsed.header, operation.record)
        record = operation.record
        place = record.place if isinstance(record, QuarantinedRecord) else operation.key
        digest = hashlib.sha256(raw).hexdigest()[:32]
        aside = QuarantinedRecord(
            id=f"{layout.file}{EDIT_MARK}#{digest}",
            file=f"{layout.file}{EDIT_MARK}",
            place=place,
            raw=raw,
            code=EDITED,
            reason="the file was changed while another store was primary",
            seen_at=datetime.now(UTC),
        )
        return schema.put(QUARANTINE, aside)

    def _finding(self, found: Found, operation: Operation, aside: Put | None) -> Put:
        """What an operator is told of an edit; one that deletes is undone at once."""
        key, now = operation.key, datetime.now(UTC)
        kind: Literal["missing", "extra", "different"] = "missing"
        if aside is not None:
            known = token_of(operation.collection, key) in found.base
            kind = "different" if known else "extra"
        said = digest_of(self._raw) if aside is None else aside.key
        text = f"edit\0{self._layout.file}\0{key}\0{said}"
        record = FindingRecord(
            id=hashlib.sha256(text.encode()).hexdigest()[:32],
            collection=operation.collection,
            key=key,
            kind=kind,
            state="repaired" if aside is None else "open",
            source="edit",
            quarantined=None if aside is None else aside.key,
            first_seen=now,
            last_seen=now,
        )
        return found.content.schema.put(FINDINGS, record)

    # -- afterwards -----------------------------------------------------------------------

    def _viewed(self, view: View, found: Found) -> View:
        """What the file shows now, row by row."""
        with self._engine.live() as live:
            content = content_of(live, self._layout, {})
        view.positions = (*view.positions, content.position)
        # Not what is committed by now: that is not in the file yet.
        view.header = found.header[0]
        if found.parsed.header == found.content.header:
            view.header = found.content.header_version
        if view.broken and self._view is not None:
            old = self._view
            view.tokens, view.versions = old.tokens, old.versions
            view.starts, view.ends = old.starts, old.ends
            return view
        shown = dataclasses.replace(content, homes=found.base, aside={}, others={})
        match(view, found.seen, shown)
        return view

    def _tell(self, name: str, message: str, level: int = logging.INFO) -> None:
        self._told.append(Event(name, message, level))


def note_as_secondary(
    puts: list[Put], meta: tuple[tuple[str, JSON], ...], plan: Plan
) -> None:
    """Plan rows that a secondary writes of its own accord, outside of the change log.

    Raises:
        StaleEpoch: the store has become primary since: they must be committed.
    """
    plan.follow((), None, None)
    plan.note(puts, meta)


def _noted(entries: Iterable[Entry], seen: list[Seen]) -> Iterator[Entry]:
    for entry in entries:
        seen.append(Seen.of(entry))
        yield entry


def _whole_files(content: Content) -> Rows:
    """The rows that say that the file was broken as a whole."""
    return {
        token: row
        for token, row in content.aside.items()
        if is_whole_file(content.decode(token, row[1]))
    }


def _superseded(content: Content, entry: QuarantinedRecord) -> Iterator[Put]:
    """Entries of earlier texts that were broken as a whole: they wait no longer."""
    for token, (_, body) in content.aside.items():
        record: QuarantinedRecord = content.decode(token, body)
        waits = is_whole_file(record) and record.status == "waiting"
        if waits and record.id != entry.id:
            note = f"another text took its place: {entry.id}"
            accepted = dataclasses.replace(record, status="accepted", note=note)
            yield content.schema.put(QUARANTINE, accepted)


def _broken(found: Found) -> QuarantinedRecord | None:
    """The entry of a file that is broken as a whole; None where it is not."""
    seen, content = found.seen, found.content
    if len(seen) != 1 or place_of(seen[0].token, "")[0] != QUARANTINE:
        return None
    record: QuarantinedRecord = content.decode(seen[0].token, seen[0].body)
    return record if is_whole_file(record) else None
