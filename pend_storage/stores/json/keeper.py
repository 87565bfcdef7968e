"""Keeps one legacy file true: takes in what others changed, writes what is new."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from functools import partial
from pathlib import Path
from typing import Final

from pend_storage import crashpoints
from pend_storage.errors import Conflict, StaleEpoch
from pend_storage.events import Event, Hook
from pend_storage.layout import Layout
from pend_storage.phases import Role
from pend_storage.schema import LEGACY_FILES
from pend_storage.stores.json.content import (
    Content,
    Generation,
    content_of,
    generation,
    touched,
)
from pend_storage.stores.json.edits import Edit, note_as_secondary
from pend_storage.stores.json.engine import Engine
from pend_storage.stores.json.journal import Position
from pend_storage.stores.json.render import Changes, write_file
from pend_storage.stores.json.swap import Place
from pend_storage.stores.json.views import (
    Signature,
    View,
    digest_of,
    signature_of,
    view_path,
)

__all__ = ["FileKeeper"]

_EDIT_ADOPTED = crashpoints.declare(
    "json.edit-adopted", "an outside edit is committed, and that is not noted yet"
)

_SETTLE: Final = 0.25
"""Seconds for which a file must rest before an edit is read: it may be half-written."""
_REST: Final = 10
"""A file that takes a second to write is written every so many seconds at most."""
_TRIES: Final = 3


class FileKeeper:
    """One legacy file. Used by one thread of one process at a time."""

    def __init__(self, engine: Engine, layout: Layout, path: Path, hook: Hook) -> None:
        self.layout = layout
        self.path = path
        self._engine = engine
        self._hook = hook
        self._place = Place(path, view_path(engine.directory, layout.file))
        self._view: View | None = None
        self._others: dict[str, int] = {}
        self._generation: Generation | None = None
        """Of the content when the file was known to show all of it."""
        self._not_before = 0.0

    def keep(self, *, force: bool, wait: bool) -> None:
        """Take in what others changed, then write what is new.

        Args:
            force: write even if it was written a moment ago.
            wait: for a file that somebody is writing just now, a little.
        """
        for _ in range(_TRIES):
            if self._role() is Role.DETACHED or not self.look(wait=wait):
                return
            if not force and time.monotonic() < self._not_before:
                return
            if self._write():
                return

    def look_only(self) -> None:
        """Take in what others changed, and write nothing."""
        if not self._place.untouched() and self._role() is not Role.DETACHED:
            self.look(wait=True)

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
        self._tidy()
        status = self._place.status()
        view = self._view
        if status is None:
            return self._restore()
        now = signature_of(status)
        if view is not None and view.signature == now and not _due(view):
            return True
        if not _settled(status):
            if not wait:
                return False
            time.sleep(_SETTLE)
        return self._read()

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
            self._tell(
                "late-edit-kept",
                f"{self.layout.file} was changed by a program that had opened it before "
                f"it was written anew; what it wrote is in {late}",
                logging.WARNING,
            )

    def _restore(self) -> bool:
        """The file is missing: what it showed will be written again."""
        if self._view is not None:
            self._tell(
                "file-restored",
                f"{self.layout.file} was missing, and is written again from the store",
                logging.WARNING,
            )
            self._view = None
            self._generation = None
            self._place.forget_view()
        return True

    def _read(self) -> bool:
        """Read the file, and adopt what is in it that was not there before."""
        try:
            read = self._place.read()
        except InterruptedError:
            return False
        if read is None:
            return self._restore()
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
        self._place.save_view(view)
        self._view, self._generation = view, None
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
            content = content_of(live, self.layout, self._others)
            maybe = touched(live, self.layout, self._generation)
        if view is not None and view.broken:
            if content.waits():
                return True
            if content.header != self.layout.missing():
                self._reset_header(content)
                return False
        changes = Changes(view, content, maybe)
        if changes and (view is not None or changes.written):
            if not self._write_changes(view, content, changes):
                return False
            self._not_before = time.monotonic() + _REST * (time.monotonic() - begun)
        self._generation = found
        return True

    def _write_changes(
        self, view: View | None, content: Content, changes: Changes
    ) -> bool:
        old, status = b"", self._place.status()
        if view is None:
            if status is not None:
                return False
            self._place.make_room()
        else:
            try:
                read = self._place.read()
            except InterruptedError:
                return False
            if read is None or signature_of(read[1]) != view.signature:
                return False
            old, status = read
            certain = changes.anew or view.verified
            if not certain and digest_of(old) != view.digest:
                return False
        new = write_file(
            self._place.new, content, changes, view=view, old=old, model=status
        )
        before = None if status is None else signature_of(status)
        self._engine.own.look()  # the file is one of a directory that was moved away
        if not self._place.put(new, before):
            return False
        new.stamp = self._place.view_stamp()
        self._view = new
        return True

    def _reset_header(self, content: Content) -> None:
        """A broken file that may be overwritten is written as a new one would be.

        Where a commit to the header, or a change of roles, comes between, nothing is
        written: the caller looks again.
        """
        put = content.schema.put(LEGACY_FILES, self.layout.missing())
        checks = {(LEGACY_FILES, put.key): content.header_version}
        batch = content.schema.batch((put,), checks)
        with contextlib.suppress(Conflict, StaleEpoch):
            if self._role() is Role.PRIMARY:
                self._engine.submit(lambda plan: plan.add(batch, None))
            else:
                self._engine.submit(partial(note_as_secondary, [put], ()))

    def _tell(self, name: str, message: str, level: int) -> None:
        self._hook(Event(name, message, level))


def _settled(status: os.stat_result) -> bool:
    age = time.time() - status.st_mtime
    return not 0 <= age < _SETTLE


def _due(view: View) -> bool:
    """Whether to look into a file once more that seems to be as it was written.

    A change of the same length, in the same tick of the clock, leaves no trace outside.
    """
    age = time.time() - view.signature.mtime_ns / 1e9
    return not view.verified and age > 1
