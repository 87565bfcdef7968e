"""Side server: a restored copy of a server, in a directory of its own.

.. code-block:: text

    DIRECTORY/data              the files of the server
    DIRECTORY/wal               segments of the archived log that it replays
    DIRECTORY/server.log        what it says
    DIRECTORY/.s.PGSQL.5432     its socket; the directory is for its owner alone
    DIRECTORY/.pend-restoring   locked while it is made; gone when it is complete

Nothing of the copied server's configuration is used, because it names the copied server's
places, its archive and its standbys: its files are kept under other names.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pend_storage._files.directory import Directory
from pend_storage._files.durability import write_all
from pend_storage._shown import shown
from pend_storage.backup.physical._tools import Tools
from pend_storage.errors import ConfigError, StoreUnavailable

__all__ = [
    "CLAIM",
    "PORT",
    "SideServer",
    "claim_side_directory",
    "make_side_directory",
    "require_no_root",
]

PORT: Final = 5432
"""Part of the name of the socket; the server has no TCP port."""
LOG: Final = "server.log"
CLAIM: Final = ".pend-restoring"
_CLAIMED: Final = b"A restore of pend_storage has begun to fill this directory.\n"
_RULES: Final = "side_hba.conf"
_NAMES: Final = "side_ident.conf"
_CONFIGURATION: Final = "postgresql.conf"
_AUTOMATIC: Final = "postgresql.auto.conf"
_SIGNALS: Final = ("recovery.signal", "standby.signal")
_LONGEST_SOCKET: Final = 103
_LARGEST_LOG: Final = 64 << 20
_STOP_SECONDS: Final = 60.0


def require_no_root() -> None:
    """Refuse to run a server as root, which PostgreSQL does as well.

    Raises:
        ConfigError: this process is root's.
    """
    if os.geteuid() == 0:
        raise ConfigError(
            "PostgreSQL does not run as root. Run this command as the user whose the "
            "restored server shall be: sudo -u postgres pend-storage backup restore ..."
        )


def make_side_directory(path: Path) -> Path:
    """Create the directory of a side server, for this user only.

    Args:
        path: must not exist, or be empty.

    Returns:
        The path, absolute.

    Raises:
        ConfigError: it has something in it, belongs to another user, or its name is too
            long for a socket.
    """
    path = path.absolute()
    socket = path / f".s.PGSQL.{PORT}"
    if len(os.fsencode(socket)) > _LONGEST_SOCKET:
        raise ConfigError(
            f"{shown(str(path))} is too long for the socket of a server: choose a directory "
            f"with at most {_LONGEST_SOCKET - len(socket.name) - 1} characters."
        )
    try:
        with Directory(path.parent) as parent, contextlib.suppress(FileExistsError):
            parent.make_directory(path.name).close()
        with Directory(path) as made:
            taken, owner = made.names(), made.status().st_uid
            if taken or owner != os.geteuid():
                why = "is not empty" if taken else "belongs to another user"
                raise ConfigError(
                    f"{shown(str(path))} {why}: a restore never writes over anything. Name "
                    "a directory that does not exist."
                )
            made.adopt_folder(made, 0o700)
    except OSError as error:
        raise ConfigError(
            f"{shown(str(path))} cannot be made: {error.strerror}. Name a directory that "
            "does not exist, where this user may write."
        ) from error
    return path


def claim_side_directory(path: Path, tools: Tools) -> int:
    """Make the directory of a side server, or empty that of an interrupted restore.

    Args:
        path: must not exist, be empty, or be what an interrupted restore left.
        tools: to stop a server that runs in it.

    Returns:
        The descriptor of the locked file that says that it is not complete.

    Raises:
        ConfigError: it has something else in it, or another process restores into it.
    """
    path = path.absolute()
    if not _is_interrupted(path):
        make_side_directory(path)
    with Directory(path) as folder:
        claim = folder.open_or_create(CLAIM)
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(claim)
            raise ConfigError(
                f"another process restores into {shown(str(path))}. Let it finish, or name "
                "another directory."
            ) from None
        os.ftruncate(claim, 0)
        write_all(claim, _CLAIMED, 0)
        data = path / "data"
        if folder.find("data") is not None:
            tools.run(
                "pg_ctl", "stop", f"--pgdata={data}", "--mode=immediate", timeout=60
            )
        for name in folder.names():
            if name != CLAIM:
                folder.remove_tree(name)
    return claim


def _is_interrupted(path: Path) -> bool:
    try:
        with Directory(path) as folder:
            found = folder.read(CLAIM)
            # An empty one was made right before the end of the process.
            return found == _CLAIMED or (not found and folder.names() == [CLAIM])
    except OSError:
        return False


@dataclass(slots=True)
class SideServer:
    """Restored server in its directory."""

    directory: Path
    tools: Tools
    settings: Mapping[str, str] = field(default_factory=dict)
    """That must be at least as high as those of the copied server."""
    claim: int = -1
    """Descriptor of :func:`claim_side_directory`."""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """Directory of the server's files."""
        return self.directory / "data"

    @property
    def wal(self) -> Path:
        """Directory of the segments that it replays."""
        return self.directory / "wal"

    def address(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings of libpq that lead to it.

        Args:
            settings: that led to the copied server: user and database are the same.
        """
        kept = {name: settings[name] for name in ("user", "dbname") if name in settings}
        return {**kept, "host": str(self.directory), "port": str(PORT)}

    def configure(self, recovery: Iterable[tuple[str, str]] = ()) -> None:
        """Write its configuration, in place of the copied one.

        Args:
            recovery: settings of a recovery; with any, the next start recovers.
        """
        recovery = list(recovery)
        own = {
            **self.settings,
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": f'"{self.directory}"',
            "unix_socket_permissions": "0700",
            "hba_file": str(self.data / _RULES),
            "ident_file": str(self.data / _NAMES),
            "wal_level": "replica",
            "archive_mode": "off",
            "hot_standby": "on",
            "lc_messages": "C",
            "logging_collector": "off",
            "log_destination": "stderr",
            "cluster_name": "pend_restored",
            **dict(recovery),
        }
        lines = [f"{name} = {_quoted(value)}\n" for name, value in own.items()]
        with Directory(self.data) as data:
            for name in (_CONFIGURATION, _AUTOMATIC):
                if data.find(name) is not None and not data.find(f"{name}.copied"):
                    data.rename(name, f"{name}.copied")
            for name in _SIGNALS:
                data.unlink(name)
            # Only the owner of the directory reaches the socket.
            data.replace(_RULES, [b"local all all trust\n"])
            data.replace(_NAMES, [b""])
            data.replace(_AUTOMATIC, [b""])
            data.replace(_CONFIGURATION, ["".join(lines).encode()])
            if recovery:
                data.replace(_SIGNALS[0], [b""])

    def start(self) -> None:
        """Start the server; it goes on when this process has ended.

        Raises:
            ConfigError: this process is root's.
        """
        require_no_root()
        with Directory(self.directory) as folder:
            log = folder.open_or_create(LOG)
        try:
            os.lseek(log, 0, os.SEEK_END)
            self._process = subprocess.Popen(  # noqa: S603 - no shell
                self.tools.command("postgres", ["-D", self.data]),
                cwd="/",
                env={**self.tools.variables(), "PGDATA": str(self.data)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)

    @property
    def runs(self) -> bool:
        """True while the server process lives."""
        return self._process is not None and self._process.poll() is None

    def log_text(self) -> str:
        """Return what the server has said."""
        try:
            with Directory(self.directory) as folder:
                raw = folder.read(LOG, limit=_LARGEST_LOG)
        except FileNotFoundError:
            return ""
        return raw.decode(errors="replace")

    def stop(self) -> None:
        """Stop the server, and wait until it has ended.

        Raises:
            StoreUnavailable: it did not end in time.
        """
        process = self._process
        if process is None:
            return
        for number in (signal.SIGINT, signal.SIGQUIT):
            if process.poll() is None:
                process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_STOP_SECONDS)
        if process.poll() is None:
            raise StoreUnavailable(
                f"process {process.pid} did not stop", store=str(self.directory)
            )

    def complete(self) -> None:
        """Record that it is whole: a later restore into its directory is refused."""
        with Directory(self.directory) as folder:
            folder.unlink(CLAIM)
            folder.sync()
        os.close(self.claim)

    def release(self) -> None:
        """Leave the running server to the user."""
        if self._process is not None:
            # It outlives this process, and Popen would warn.
            self._process.returncode = 0
            self._process = None


def _quoted(value: str) -> str:
    """Quote a value of a configuration file."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
