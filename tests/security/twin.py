"""The hostile twin's victim: one flow of the library, in a process of its own.

The process notes each name that it opens or creates below a directory of another user. The
test plants something at each of them, and runs the flow again.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, Final, NoReturn

import pend_storage as ps
from pend_storage import crashpoints
from pend_storage._files.by_path import unlink
from pend_storage.backup import _new_folder, copy_directory
from pend_storage.config import JsonSettings, load_settings
from pend_storage.flags.file import FileFlag
from pend_storage.inspect import inspect_directory
from pend_storage.operations.init import write_config
from pend_storage.operations.new_file import write_new
from pend_storage.operations.purge_search import (
    Needles,
    holding_files,
    leftovers_of,
)
from pend_storage.pend import LAYOUTS
from pend_storage.pend.records import Document, User
from pend_storage.phases import Phase
from tests.security.acting import OTHER

__all__ = ["FLOWS", "serve"]

_SECONDS: Final = 20
"""Time that a flow may take; it takes a fraction of a second."""

_FILES: Final = ("wallet-db.json", "explorer-data/identity-map.json")
_LAYOUTS: Final = tuple(each for each in LAYOUTS if each.source in _FILES)
_SCHEMA: Final = ps.Schema(
    [
        ps.collection("users", User),
        ps.collection("documents", Document),
    ]
)
_RANDOM: Final = re.compile(r"\.?[0-9a-f]{16,}(\.\w+)?$")
"""Names that no other user can predict; nothing can be planted there beforehand."""
_NUMBER: Final = re.compile(r"Z-\d+")
"""Number of a copy in one second: tried until a name is free."""


def _open(place: Path) -> ps.JsonStore:
    return ps.JsonStore(
        _SCHEMA,
        place / "data",
        layouts=_LAYOUTS,
        checkpoint_interval=None,
        hook=lambda _: None,
    )


def use(place: Path) -> None:
    """Open the store, write, and checkpoint; adopt the files at the first opening."""
    with _open(place) as store:
        store.legacy("explorer-data/identity-map.json")["ann"] = str(os.getpid())
        store.checkpoint()
        with store.exclusive("wallet-db.json"):
            store.collection(Document).get("none")


def compact(place: Path) -> None:
    """Write a snapshot, and drop old segments."""
    with _open(place) as store:
        store.legacy("explorer-data/identity-map.json")["bob"] = "1"
        store.compact()


def erase(place: Path) -> None:
    """Delete and purge a record, search for it, and delete what is kept for people."""
    user = User(phone_hash="0x" + "e" * 64, blockchain_address="0x" + "e" * 40)
    with _open(place) as store:
        store.collection(User).put(user)
        store.checkpoint()
        store.collection(User).delete(user.id)
        store.purge("users", [user.id])
    list(holding_files(place / "data", Needles([user.id])))
    for path in leftovers_of(JsonSettings(directory=place / "data")):
        unlink(path)


def migrate(place: Path) -> None:
    """Bring the records to the schema, and write the files of that schema."""
    ps.JsonStore.migrate(_SCHEMA, place / "data", layouts=_LAYOUTS, hook=lambda _: None)


def back_up(place: Path) -> None:
    """Copy the directory beside itself."""
    copy_directory(place / "data", extra={"config": place / "pend.toml"})


def set_phase(place: Path) -> None:
    """Write the phase flag."""
    flag = FileFlag(place / "pend.toml", "development")
    wanted = flag.read()
    other = wanted is None or wanted.phase is Phase.JSON_ONLY
    flag.write(Phase.PARALLEL if other else Phase.JSON_ONLY, by="twin")


def configure(place: Path) -> None:
    """Read the configuration, and write one anew."""
    load_settings(place / "pend.toml", environ={})
    write_config(
        place / "pend.toml",
        directory=place / "data",
        schema="pend_storage.pend",
        replace=True,
    )


def report(place: Path) -> None:
    """Inspect the files, and write a new one beside them."""
    inspect_directory(place / "data")
    write_new(place / "report.md", "report\n")


FLOWS: Final[dict[str, Callable[[Path], None]]] = {
    flow.__name__: flow
    for flow in (use, compact, erase, migrate, back_up, set_phase, configure, report)
}


def names_of(opened: set[str], made: set[str]) -> set[str]:
    """Names at which something can be planted.

    Args:
        opened: all names.
        made: directories that the process has made itself; what is in them was not there
            before.
    """
    return {
        _NUMBER.sub("Z", name)
        for name in opened
        if not _RANDOM.search(name.rpartition("/")[2])
        and not any(name.startswith(f"{folder}/") for folder in made)
    }


class _Recorder:
    """Audit hook: notes the names below a directory that are opened or created."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self.opened: set[str] = set()
        self.made: set[str] = set()
        self._asked: set[str] = set()
        self._placed: set[str] = set()
        real = os.open

        def opening(
            path: Any, *rest: Any, dir_fd: int | None = None, **more: Any
        ) -> int:
            self._note(path, dir_fd)
            return real(path, *rest, dir_fd=dir_fd, **more)

        os.open = opening  # the event of the interpreter lacks the descriptor
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            name = arguments[0]
            if isinstance(name, int):
                return
            if Path(os.fsdecode(name)).is_absolute():
                self._note(name, None)
            else:
                self._asked.add(os.fsdecode(name))
        elif event == "os.mkdir":
            self._note(arguments[0], arguments[2], self.made)
        elif event in {"os.rename", "os.link"}:
            self._note(arguments[0], arguments[2])
            self._note(arguments[1], arguments[3])
        elif event == "os.symlink":
            self._note(arguments[1], arguments[2])
        elif event in {"os.chmod", "os.chown", "os.truncate"}:
            self._note(arguments[0], None)

    def _note(self, path: Any, at: int | None, more: set[str] | None = None) -> None:
        if isinstance(path, int):
            return
        name = os.fsdecode(path)
        self._placed.add(name)
        if at is not None and at >= 0:  # an absolute name stays what it is
            name = str(Path(f"/proc/self/fd/{at}").readlink() / name)
        full = os.path.normpath(Path(name).absolute())
        if full.startswith(f"{self._place}/"):
            found = full.removeprefix(f"{self._place}/")
            # Folders are opened on the way, by a system call without an event.
            self.opened |= {found, *map(str, Path(found).parents)} - {"."}
            if more is not None and not os.path.lexists(full):
                more.add(found)

    def missed(self) -> list[str]:
        """Relative names that were opened past the function that notes their directory."""
        return sorted(self._asked - self._placed)


class _FixedClock:
    """Clock at which a copy has a name that can be predicted."""

    @staticmethod
    def now(zone: tzinfo) -> datetime:
        """Return the same moment each time."""
        return datetime(2026, 1, 1, tzinfo=zone)


def serve() -> None:
    """Run flows: a line of JSON on standard input for each, and one as the answer."""
    setattr(_new_folder, "datetime", _FixedClock)  # noqa: B010 - of another type
    for line in sys.stdin:
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reader)
            _run(**json.loads(line), descriptor=writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            told = stream.read()
        _, status = os.waitpid(pid, 0)
        found = json.loads(told or b"{}")
        found["code"] = os.waitstatus_to_exitcode(status)
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


def _run(flow: str, where: str, actor: str, point: str, descriptor: int) -> NoReturn:
    """Run one flow, and report; the process ends here."""
    signal.alarm(_SECONDS)  # one that waits for a pipe ends by the signal
    if actor == "owner":
        os.setgroups([])
        os.setresgid(OTHER, OTHER, OTHER)
        os.setresuid(OTHER, OTHER, OTHER)
    else:
        os.environ["PEND_ALLOW_FOREIGN_OWNER"] = "1"
    recorder = _Recorder(Path(where))
    error = None

    def reached(name: str) -> None:
        if name == point:
            _report(descriptor, recorder, "killed")
            os.kill(os.getpid(), signal.SIGKILL)

    with crashpoints.handled(reached):
        try:
            FLOWS[flow](Path(where))
        except ps.PendStorageError:
            error = "refused"
        except BaseException as other:  # noqa: BLE001 - reported, and fails the test
            error = f"{type(other).__name__}: {other}"
    _report(descriptor, recorder, error)
    os._exit(0)


def _report(descriptor: int, recorder: _Recorder, error: str | None) -> None:
    found = {
        "names": sorted(names_of(recorder.opened, recorder.made)),
        "missed": recorder.missed(),
        "error": error,
    }
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(json.dumps(found).encode())
