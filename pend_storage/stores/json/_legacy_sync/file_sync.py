"""Keeps one legacy file true: takes in what others changed, writes what is new."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import Final

from pend_storage import crashpoints
from pend_storage.errors import Conflict, StaleEpoch
from pend_storage.events import Event, Hook
from pend_storage.layout import Layout
from pend_storage.phases import Role
from pend_storage.schema import QUARANTINE
from pend_storage.stores.json._journal.engine import Engine
from pend_storage.stores.json._journal.journal import Position
from pend_storage.stores.json._legacy_sync.busy_files import BusyNotice
from pend_storage.stores.json._legacy_sync.external_edits import Edit
from pend_storage.stores.json._legacy_sync.file_attributes import Attributes
from pend_storage.stores.json._legacy_sync.file_contents import (
    Content,
    Generation,
    content_of,
    generation,
    touched,
)
from pend_storage.stores.json._legacy_sync.file_manifest import (
    Signature,
    View,
    digest_of,
    signature_of,
)
from pend_storage.stores.json._legacy_sync.file_permissions import PermissionNotes
from pend_storage.stores.json._legacy_sync.hidden_texts import Namesakes, left_by
from pend_storage.stores.json._legacy_sync.quiescence import Rest, is_whole
from pend_storage.stores.json._legacy_sync.render import Changes, write_file
from pend_storage.stores.json._legacy_sync.synced_files import place_of

__all__ = ["FileKeeper"]

_EDIT_ADOPTED = crashpoints.declare(
    "json.edit-adopted", "an outside edit is committed, and that is not noted yet"
)

_PATIENCE: Final = 3.0
"""Seconds that an opening or a checkpoint waits for a file that is being written."""
_REST: Final = 10
"""A file that takes a second to write is written every so many seconds at most."""
LONGEST_REST: Final = 10.0
"""Seconds, however long it takes to write it."""
_TRIES: Final = 10
"""Times to write a file in one go, where an edit comes before each time."""
_FEW: Final = 3
"""The same where that takes longer than so many seconds:"""
_LONG: Final = 1.0
_TICK: Final = 1.0
"""Seconds after which two changes of a file certainly leave two times."""


class FileKeeper:
    """One legacy file. Used by one thread of one process at a time."""

    def __init__(
        self,
        engine: Engine,
        layout: Layout,
        path: Path,
        hook: Hook,
        *,
        is_shared: bool = False,
    ) -> None:
        """Make one.

        Args:
            engine: the store.
            layout: of the file.
            path: of the file.
            hook: is told what was done.
            is_shared: whether other files hold records of the same collection.
        """
        self.layout = layout
        self.path = path
        self._engine = engine
        self._hook = hook
        self._place = place_of(layout, path, engine.directory)
        self._permissions = PermissionNotes(engine, layout, is_shared=is_shared)
        self._is_shared = is_shared
        self._view: View | None = None
        self._is_unsaved = False
        self._others: dict[str, int] = {}
        self._namesakes = Namesakes()
        self._generation: Generation | None = None
        """Of the content when the file was known to show all of it."""
        self._not_before = 0.0
        self._was_written = False
        """By this process."""
        self._rest = Rest(self._place)
        self.is_busy = False
        """Another program was writing the file at the last look, or came before us each
        time."""
        self._busy = BusyNotice(layout.file, self._rest, hook)
        self._is_elsewhere = False
        """A link has led to another file since it was read last."""
        self._told_lost: set[str] = set()
        self._attributes: Attributes | None = None
        """What belongs to the file, in case that it is deleted and written again."""
        self._attributed: Signature | None = None

    def keep(self, *, force: bool, wait: bool) -> None:
        """Take in what others changed, then write what is new.

        Args:
            force: write even if it was written a moment ago.
            wait: for a file that somebody is writing just now, a little.
        """
        try:
            self._keep(force=force, wait=wait)
        finally:
            self._save_view()
        self._busy.tell(is_busy=self.is_busy)

    def _keep(self, *, force: bool, wait: bool) -> None:
        end = time.monotonic() + _LONG
        for number in range(_TRIES):
            if number >= _FEW and time.monotonic() >= end:
                break
            if self._role() is Role.DETACHED or not self.look(wait=wait):
                return
            self._permissions.look(self._place.status())
            if not force and time.monotonic() < self._not_before:
                return
            if self._write():
                self._busy.won()
                return
        if self.is_busy:
            self._busy.lost()

    def look_only(self) -> None:
        """Take in what others changed, and write nothing."""
        if self._role() is not Role.DETACHED and not self._place.untouched():
            self.look(wait=True)
            self._save_view()

    def _save_view(self) -> None:
        """Note what was adopted; not before the file was written, which notes it too."""
        if self._view is not None and self._is_unsaved:
            self._place.save_view(self._view)
        self._is_unsaved = False

    def positions(self, now: Position) -> tuple[Position, ...]:
        """Where in the journal the rows are found that the file shows.

        Args:
            now: a place at which they are found if nothing is left to be written.
        """
        view = self._place.view()
        if view is None:
            return ()
        with self._engine.live() as live:
            current = generation(live, self.layout) == self._generation
            at_place = live.journal.position == now
        if current and at_place and view.stamp == (self._view and self._view.stamp):
            view.positions = (now,)
            self._place.save_view(view)
            self._view = view
        return view.positions

    # -- what others did ----------------------------------------------------------------

    def look(self, *, wait: bool) -> bool:
        """Take in what others changed; False where the file must not be written now."""
        self.is_busy = False
        self._locate()
        self._tidy()
        status = self._place.status()
        view = self._view
        if status is None:
            return self._restore()
        now = signature_of(status)
        if now != self._attributed:
            self._attributes, self._attributed = self._place.attributes(), now
        known = view is not None and view.signature == now and not _due(view)
        if known and not self._is_elsewhere:
            self._rest.calm()
            return True
        return self._read(_PATIENCE if wait else 0.0)

    def _locate(self) -> None:
        """Follow a symbolic link that was pointed at another file meanwhile."""
        before = self._place.target
        if not self._place.locate():
            return
        self._engine.own.look()  # or the whole directory is another one
        self._is_elsewhere = True
        self._tell(
            "file-relinked",
            f"{self.layout.file} leads to {self._place.target} now, and no longer to "
            f"{before}. From now on that file is read and written; what is in it counts as "
            "an edit of the one before, which is left as it is",
            logging.WARNING,
        )

    def _tidy(self) -> None:
        """Have the view as it is now, and clean up after a process that died."""
        stamp = self._place.view_stamp()
        known = self._view is not None and self._view.stamp == stamp
        late = None
        if not known or self._place.has_leavings():
            late = self._place.recover()
            self._view = self._place.view()
            self._generation = None
        late = late or self._place.late_edit(self._view)
        if late is not None:
            adopted = self._adopt_late(late)
            self._tell(
                "late-edit-kept",
                f"{self.layout.file} was changed by a program that had opened it before "
                f"it was written anew; what it wrote is in {late}"
                + (", and was adopted like any edit" if adopted else ""),
                logging.WARNING,
            )

    def _adopt_late(self, late: Path) -> bool:
        """Adopt what was written into the file that was replaced, if that is whole.

        It is compared with what that file showed. What comes of it is written into the
        present file like any commit.
        """
        raw, replaced = late.read_bytes(), self._place.replaced_view()
        self._place.forget_replaced()
        if replaced is None or not is_whole(self.layout, self._engine.schema, raw):
            return False
        edit = Edit(self._engine, self.layout, raw, replaced, self._hook)
        return edit.adopt(replaced.signature) is not None

    def _restore(self) -> bool:
        """The file is missing: what it showed will be written again."""
        self._is_elsewhere = False
        if self._view is not None:
            self._tell(
                "file-restored",
                f"{self.layout.file} was missing, and is written again from the store",
                logging.WARNING,
            )
            self._view = None
            self._generation = None
            self._place.forget_view()
            self._is_unsaved = False
        return True

    def _is_whole(self, raw: bytes) -> bool:
        if self._view is not None and digest_of(raw) == self._view.digest:
            return True
        return is_whole(self.layout, self._engine.schema, raw)

    def _read(self, patience: float) -> bool:
        """Read the file, and adopt what is in it that was not there before."""
        known = None if self._view is None else self._view.signature
        try:
            read = self._rest.read(known, self._is_whole, patience=patience)
        except InterruptedError:
            self.is_busy = True
            return False
        if read is None:
            return self._restore()
        self._is_elsewhere = False
        raw, status = read
        view, digest = self._view, digest_of(raw)
        if view is not None and view.digest == digest:
            view.verified = view.signature == signature_of(status)
            if not view.verified:  # touched, or copied back as it was
                view.signature = signature_of(status)
                self._place.save_view(view)
            return True
        if not raw.strip() and view is not None and view.tokens:
            return self._emptied(view, status)
        return self._adopt(raw, signature_of(status))

    def _emptied(self, view: View, status: os.stat_result) -> bool:
        """Nothing is in the file any more: cut off rather than edited."""
        self._tell(
            "file-restored",
            f"{self.layout.file} was emptied, and is written again from the store",
            logging.WARNING,
        )
        view.signature, view.anew = signature_of(status), True
        return True

    def _adopt(self, raw: bytes, signature: Signature) -> bool:
        edit = Edit(self._engine, self.layout, raw, self._view, self._hook)
        view = edit.adopt(signature)
        if view is None:
            return False
        _EDIT_ADOPTED()
        view.stamp = self._place.view_stamp()
        self._view, self._generation, self._is_unsaved = view, None, True
        return True

    # -- what is new ----------------------------------------------------------------------

    def _role(self) -> Role:
        with self._engine.live() as live:
            return live.state.role.role

    def _write(self) -> bool:
        """Write the file if it must be; False where something has come between."""
        begun = time.monotonic()
        view = self._view
        with self._engine.live() as live:
            found = generation(live, self.layout)
            if found == self._generation and not (view and view.anew):
                return True
            if view is not None and view.shows_all(live.journal.position):
                self._generation = found
                return True
            content = content_of(live, self.layout, self._others, self._namesakes)
            maybe = touched(live, self.layout, self._generation)
            homes = live.state.tables[self.layout.collection]
            had_records = not self._is_shared and bool(homes.tombstones)
        if _shows_broken(view, content):
            return True
        if self._let_go(content):
            return False
        changes = Changes(view, content, maybe)
        is_there = view is not None or content.is_there or had_records
        if changes and (is_there or changes.written):
            if not self._write_changes(view, content, changes):
                return False
            self._not_before = self._next_write(time.monotonic() - begun)
        self._generation = found
        return True

    def _next_write(self, took: float) -> float:
        """When a file may be written again that took so many seconds.

        The first time it takes longer: all records are compared and put in order.
        """
        is_first, self._was_written = not self._was_written, True
        pause = 0.0 if is_first else min(_REST * took, LONGEST_REST)
        return time.monotonic() + pause

    def _write_changes(
        self, view: View | None, content: Content, changes: Changes
    ) -> bool:
        old, digest, status = b"", "", self._place.status()
        if view is None:
            if status is not None:
                self.is_busy = True
                return False
            self._place.make_room(content.permissions)
        else:
            read = self._read_again(view)
            if read is None:
                self.is_busy = True
                return False
            old, status = read
            digest = digest_of(old)
        before = None if status is None else signature_of(status)
        model = self._attributes if status is None else self._place.attributes()
        with self._place.writing():
            new = write_file(
                self._place.new, content, changes, view=view, old=old, model=model
            )
            new.replaced_digest = digest
            self._engine.own.look()  # the file is one of a directory that was moved away
            if not self._place.put(new, before):
                self.is_busy = True
                return False
        new.stamp = self._place.view_stamp()
        self._view, self._is_unsaved = new, False
        self._tell_lost(new.lost)
        return True

    def _tell_lost(self, lost: tuple[str, ...]) -> None:
        """Tell once what belonged to the file and could not be kept."""
        news = [what for what in lost if what not in self._told_lost]
        self._told_lost.update(news)
        if news:
            self._tell(
                "attributes-lost",
                f"{self._place.target} was written anew, and could not keep: "
                f"{', '.join(news)}. Set them again, and run the server as the owner of "
                "the file, or with the right to set them, to have them kept",
                logging.WARNING,
            )

    def _let_go(self, content: Content) -> bool:
        """Note that texts leave the file for good; True where there were any.

        A secondary leaves that to the primary: until then it does not write them.
        """
        leaving = left_by(content)
        if not leaving or self._role() is not Role.PRIMARY:
            return False
        checks = {
            (QUARANTINE, put.key): content.aside[token][0]
            for token, put in leaving.items()
        }
        batch = content.schema.batch(leaving.values(), checks)
        with contextlib.suppress(Conflict, StaleEpoch):
            self._engine.submit(lambda plan: plan.add(batch, None))
        return True

    def _read_again(self, view: View) -> tuple[bytes, os.stat_result] | None:
        """The file if it is still as it was read last; None where it is not."""
        try:
            read = self._place.read()
        except InterruptedError:
            return None
        if read is None or signature_of(read[1]) != view.signature:
            return None
        if read[0].strip() if view.anew else digest_of(read[0]) != view.digest:
            # Changed in a way that the signature does not tell: the next look reads it.
            view.signature = view.signature._replace(ctime_ns=0)
            return None
        return read

    def _tell(self, name: str, message: str, level: int) -> None:
        self._hook(Event(name, message, level))


def _shows_broken(view: View | None, content: Content) -> bool:
    """Whether a file that is broken as a whole stands there as it was found."""
    if view is None or view.anew or content.broken is None:
        return False
    is_same = content.layout.is_part or view.digest == digest_of(content.broken)
    return view.broken and is_same


def _due(view: View) -> bool:
    """Whether to look into a file once more that seems to be as it was written.

    A change of the same length, in the same tick of the clock, leaves no trace outside.
    """
    age = time.time() - view.signature.ctime_ns / 1e9
    return not view.verified and not 0 <= age <= _TICK
