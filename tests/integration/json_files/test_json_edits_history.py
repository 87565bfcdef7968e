"""Any history of commits and of edits by old programs: every last value is somewhere.

Old programs load the file, change what they have in memory, and write the whole of it,
at once or much later; in place, by rename, or half of it first. Every value is written
once, so it shows its writer. The model says of each value whether a program has replaced
it knowingly, and where a value must be.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from typing_extensions import override

from pend_storage.errors import CorruptFile
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.records import EDITED, QuarantinedRecord
from pend_storage.stores.json import JsonStore
from tests.integration.json_files.conftest import Editor

FILE: Final = "admin-pool-tiers.json"
LAYOUT: Final = [layout for layout in LAYOUTS if layout.file == FILE]
_MEMORY = Path("/dev/shm")  # noqa: S108 - in a directory of its own
MEMORY: Final = _MEMORY if _MEMORY.is_dir() else None
"""Where a sync costs nothing: no power fails here."""
WRITES: Final = st.dictionaries(st.sampled_from("abcd"), st.booleans(), max_size=3)
"""Which members, and whether they are deleted."""
PROGRAMS: Final = st.sampled_from((0, 1))


@dataclass
class Program:
    """An old program: what it loaded, and has made of it in memory."""

    loaded: dict[str, int] = field(default_factory=dict)
    copy: dict[str, int] = field(default_factory=dict)

    def changed(self) -> dict[str, int | None]:
        """Its changes since it has loaded or written the file."""
        names = self.loaded.keys() | self.copy.keys()
        pairs = ((name, self.copy.get(name)) for name in names)
        return {n: value for n, value in pairs if value != self.loaded.get(n)}


class History(RuleBasedStateMachine):
    """The store, two old programs, and what must be somewhere."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="history-", dir=MEMORY))
        self.old = Editor(self.directory)
        self.number = 0
        self.told: list[str] = []
        self.old.save(FILE, {"a": self.value(), "b": self.value()})
        self.open()
        self.synced = self.old.load(FILE)
        """Content of the file when the store read it last."""
        self.disk = dict(self.synced)
        self.programs = [Program(dict(self.disk), dict(self.disk)) for _ in range(2)]
        self.claims = {*self.disk.items()}
        """Values that were not replaced knowingly: in the store, or in quarantine."""
        self.by_editors: set[tuple[str, int]] = set()
        self.where: dict[str, int | None] = dict(self.synced)
        """The value that each member must have, where the rules say it."""
        self.half = False

    def value(self) -> int:
        self.number += 1
        return self.number

    def open(self) -> None:
        self.store = JsonStore(
            SCHEMA,
            self.directory,
            layouts=LAYOUT,
            checkpoint_interval=None,
            hook=lambda event: self.told.append(event.name),
        )
        self.view: Any = self.store.legacy(FILE)

    @override
    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.directory)

    # -- the library -------------------------------------------------------------------

    @rule(writes=WRITES, looked=st.booleans())
    def commit(self, writes: dict[str, bool], *, looked: bool) -> None:
        for name, delete in writes.items():
            with contextlib.suppress(CorruptFile):  # half of the file is there
                self.commit_one(name, None if delete else self.value())
        if looked and not self.half:
            self.look("checkpoint")

    def commit_one(self, name: str, value: int | None) -> None:
        before = self.view.get(name)
        if value is None:
            self.view.pop(name, None)
        else:
            self.view[name] = value
            self.claims.add((name, value))
        self.claims.discard((name, before))
        if self.disk.get(name) == self.synced.get(name):  # else the edit counts
            self.where[name] = value

    @precondition(lambda self: not self.half)
    @rule(how=st.sampled_from(["checkpoint", "reopen", "crash"]))
    def look(self, how: str) -> None:
        if how == "reopen":
            self.store.close()
            self.open()
        elif how == "crash":
            self.store._forked()
            self.store.close()
            self.open()
        self.store.checkpoint()
        self.disk = self.old.load(FILE)
        self.synced = dict(self.disk)
        assert self.disk == self.view.snapshot()
        for name in self.where.keys() | self.disk.keys():
            expected = self.where.setdefault(name, self.disk.get(name))
            assert self.disk.get(name) == expected, (name, expected, self.disk)

    # -- old programs ---------------------------------------------------------------------

    @precondition(lambda self: not self.half)
    @rule(
        number=PROGRAMS,
        load=st.booleans(),
        writes=WRITES,
        how=st.sampled_from(["not at all", "in place", "by rename", "half"]),
        indent=st.sampled_from([None, 2]),
        looked=st.booleans(),
    )
    def work(
        self,
        number: int,
        *,
        load: bool,
        writes: dict[str, bool],
        how: str,
        indent: int | None,
        looked: bool,
    ) -> None:
        """Load the file, or not; change something in memory; write it, or not."""
        if load:
            self.programs[number] = Program(dict(self.disk), dict(self.disk))
        program = self.programs[number]
        for name, delete in writes.items():
            if delete:
                program.copy.pop(name, None)
            else:
                program.copy[name] = self.value()
        if how == "not at all":
            return
        self.note(program)
        text = json.dumps(program.copy, indent=indent)
        self.disk = dict(program.copy)
        program.loaded = dict(program.copy)
        if how == "half":
            self.half, self.rest, text = True, text, text[: len(text) // 2]
        self.old.put(FILE, text, renamed=how == "by rename")
        if looked and how != "half":
            self.look("checkpoint")

    @precondition(lambda self: self.half)
    @rule(looked=st.booleans())
    def finish(self, *, looked: bool) -> None:
        if looked:
            self.store.checkpoint()
        self.old.put(FILE, self.rest)
        self.half = False

    def note(self, program: Program) -> None:
        """Merge of the values on the disk with the program's own."""
        changed = program.changed()
        for name in self.disk.keys() | program.copy.keys() | self.synced.keys():
            new, there = program.copy.get(name), self.disk.get(name)
            seen = self.synced.get(name)
            if name in changed:
                # Replaced knowingly; or blindly, which cannot be distinguished.
                self.drop(name, program.loaded.get(name), there, seen)
                if new is not None:
                    self.claims.add((name, new))
                    self.by_editors.add((name, new))
                    self.where[name] = new
            elif there != new and (there != seen or (name, there) in self.by_editors):
                self.drop(name, there)  # overwritten among editors
            # A deletion may be undone, where the rest is like an older copy; what was
            # not changed may be stale; and what is as before is no edit.
            if new in {None, seen} or (name not in changed and new != there):
                self.where.pop(name, None)

    def drop(self, name: str, *values: int | None) -> None:
        self.claims -= {(name, value) for value in values if value is not None}

    # -- afterwards --------------------------------------------------------------------------

    @invariant()
    def every_value_is_somewhere(self) -> None:
        if not hasattr(self, "store") or self.half or self.disk != self.synced:
            return
        with contextlib.suppress(CorruptFile):
            held = set(self.view.snapshot().items())
            for record in self.store.collection(QuarantinedRecord).scan():
                if record.code == EDITED:
                    held |= set(json.loads(b"{%b}" % record.raw).items())
            assert self.claims <= held, (self.claims - held, held)


def test_every_last_value_is_in_the_file_or_in_quarantine() -> None:
    few = settings(max_examples=120, stateful_step_count=12, deadline=None)
    run_state_machine_as_test(History, settings=few)


@pytest.mark.deep
def test_so_it_is_after_long_histories() -> None:
    many = settings(max_examples=2_000, stateful_step_count=40, deadline=None)
    run_state_machine_as_test(History, settings=many)
