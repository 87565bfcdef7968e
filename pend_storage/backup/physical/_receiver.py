"""Receiver: ``pg_receivewal`` writes the log into a spool, and its segments are stored.

A replication slot keeps the log at the server until it is in the spool, and the spool keeps
it until it is in the repository. So neither a crash nor a repository that is away leaves a
gap, as long as there is room: the spool must be on a disk that survives.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pend_storage import crashpoints
from pend_storage._files.by_path import make_directories
from pend_storage._files.directory import Directory
from pend_storage._shown import one_line, shown
from pend_storage.backup.physical._lsn import lsn_text, parse_lsn, parse_segment
from pend_storage.backup.physical._server import Server, connected
from pend_storage.backup.physical._tools import Tools, last_words
from pend_storage.backup.physical._wal import WalArchive
from pend_storage.errors import ConfigError, StoreUnavailable

__all__ = ["SLOT", "Receiver", "slot_warning"]

SLOT: Final = "pend_storage_backup"
_LOG: Final = "receiver.log"
_HISTORY: Final = re.compile(r"[0-9A-F]{8}\.history", re.ASCII)
_SLOT_NAME: Final = re.compile(r"[a-z0-9_]{1,63}", re.ASCII)
_TIMEOUT: Final = 3600.0
_STOP_SECONDS: Final = 30.0
_LARGEST_LOG: Final = 16 << 20
_GONE: Final = "has already been removed"
_LOST: Final = re.compile(
    r"can no longer (?:get changes|be used|access)|was invalidated"
)
_UPLOADED: Final = crashpoints.declare(
    "backup.wal-uploaded", "a segment is in the repository, and still in the spool"
)


@dataclass(frozen=True, slots=True)
class Receiver:
    """Receiver of the log of one server."""

    tools: Tools
    server: Server
    archive: WalArchive
    spool: Path
    settings: Mapping[str, Any]
    """Of libpq. Never show them."""
    slot: str = SLOT

    def prepare(self) -> None:
        """Make the spool, and the slot that keeps the log at the server.

        Raises:
            ConfigError: the name of the slot is wrong, it may not be made, or the server
                has removed what it was to keep.
            StoreUnavailable: it failed.
        """
        if not _SLOT_NAME.fullmatch(self.slot):
            raise ConfigError(
                f"{shown(self.slot)} cannot name a slot: lower case letters, digits and _."
            )
        make_directories(self.spool)
        with Directory(self.spool) as spool:
            if spool.status().st_mode & 0o077:
                spool.adopt_folder(spool, 0o700)
        with connected(self.settings) as connection:
            # Reserved at once: else the log up to the first connection may be removed.
            connection.execute(
                "select pg_catalog.pg_create_physical_replication_slot(%(name)s::name, true) "
                "where not exists (select from pg_catalog.pg_replication_slots as s "
                "where s.slot_name operator(pg_catalog.=) %(name)s::name)",
                {"name": self.slot},
            )
            row = connection.execute(
                "select s.wal_status from pg_catalog.pg_replication_slots as s "
                "where s.slot_name operator(pg_catalog.=) %s::name",
                [self.slot],
            ).fetchone()
        if row is not None and row[0] == "lost":
            # A receiver with an empty spool would go on behind the gap, and say nothing.
            raise self._removed(f"its slot {self.slot} is lost")

    def once(self) -> int:
        """Archive everything up to now; return the number of files stored.

        The server is asked to finish its present segment. Where this user may not, the
        commits in it are archived once it is full.

        Raises:
            ConfigError: the log was removed from the server before it was archived.
            StoreUnavailable: the server cannot be reached.
        """
        self.prepare()
        end = self._finished_end()
        if end:
            done = self.tools.run(
                "pg_receivewal",
                f"--directory={self.spool}",
                f"--slot={self.slot}",
                f"--endpos={lsn_text(end - 1)}",
                "--no-loop",
                "--no-password",
                timeout=_TIMEOUT,
            )
            if done.code != 0:
                raise self._failure(done.output)
        return self.upload()

    def follow(self, stop: threading.Event, *, interval: float = 1.0) -> Iterator[int]:
        """Archive continuously until an event is set; yield the files stored at each pass.

        Args:
            stop: ends it, after what was received is stored.
            interval: seconds between two passes.

        Raises:
            ConfigError: as :meth:`once`.
            StoreUnavailable: the receiver ended; what it received is stored.
        """
        self.prepare()
        with Directory(self.spool) as folder:
            folder.unlink(_LOG)
            log = folder.create_narrow(_LOG)
        try:
            process = subprocess.Popen(  # noqa: S603 - no shell
                self.tools.command(
                    "pg_receivewal",
                    [
                        f"--directory={self.spool}",
                        f"--slot={self.slot}",
                        "--no-password",
                    ],
                ),
                cwd="/",
                env=self.tools.variables(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)
        try:
            while not stop.wait(interval):
                yield self.upload()
                if process.poll() is not None:
                    raise self._failure(self._said())
        finally:
            _end(process)
        yield self.upload()

    def upload(self) -> int:
        """Store what is complete in the spool; return the number of files stored.

        The newest segment stays in the spool: the receiver goes on behind it.
        """
        size, stored = self.server.segment_size, 0
        with Directory(self.spool) as spool:
            names = spool.names()
            complete = sorted(name for name in names if parse_segment(name, size))
            for name in filter(_HISTORY.fullmatch, sorted(names)):
                stored += self.archive.store(spool, name, size)
            for name in complete:
                stored += self.archive.store(spool, name, size)
                _UPLOADED()
                if name != complete[-1]:
                    spool.unlink(name)
        return stored

    def _finished_end(self) -> int:
        """Finish the present segment of the server; return the position of its end."""
        size = self.server.segment_size
        with connected(self.settings) as connection:
            now = connection.execute(
                "select case when pg_catalog.pg_is_in_recovery()"
                " then pg_catalog.pg_last_wal_receive_lsn()"
                " else pg_catalog.pg_current_wal_flush_lsn() end::text"
            ).fetchone()
        position = parse_lsn(str(now[0])) if now and now[0] else 0
        with (
            contextlib.suppress(StoreUnavailable),
            connected(self.settings) as connection,
        ):
            row = connection.execute(
                "select pg_catalog.pg_switch_wal()::text"
            ).fetchone()
            if row is not None:
                position = parse_lsn(str(row[0]))
                return -(-position // size) * size
        return position // size * size

    def _said(self) -> str:
        with Directory(self.spool) as folder:
            return self.tools.readable(folder.read(_LOG, limit=_LARGEST_LOG))

    def _failure(self, output: str) -> ConfigError | StoreUnavailable:
        words = last_words(output)
        if _GONE in output or _LOST.search(output):
            return self._removed(words)
        return StoreUnavailable(f"it ended: {words}", store="pg_receivewal")

    def _removed(self, words: str) -> ConfigError:
        return ConfigError(
            f"the server has removed a part of its log that was not archived: {words}. "
            f"Drop the slot: SELECT pg_drop_replication_slot('{self.slot}'); empty the "
            f"spool {one_line(str(self.spool))}; call this again, and make a new backup: "
            "`backup create --kind physical`. Until then the archive ends before the gap."
        )


def slot_warning(server: Server) -> str | None:
    """Return what to set at the server, or None: a slot without a reader may fill its disk.

    Args:
        server: facts of it.
    """
    if server.keeps_wal != "-1":
        return None
    return (
        "the server has max_slot_wal_keep_size = -1: if nothing reads its slot any more, it "
        "keeps its log until the disk is full. Set a limit: ALTER SYSTEM SET "
        "max_slot_wal_keep_size = '64GB'; SELECT pg_reload_conf();"
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
