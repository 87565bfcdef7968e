"""Embedded PgBouncer: the connection pooler before one PostgreSQL server."""

from __future__ import annotations

import shutil
import signal
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final
from urllib.parse import quote

from typing_extensions import override

from pend_storage.errors import ConfigError
from pend_storage.testing.servers._places import server_account, temporary_home
from pend_storage.testing.servers._secrets import write_private
from pend_storage.testing.servers._server import EmbeddedServer, refuse_settings

__all__ = ["EmbeddedPgBouncer", "find_pgbouncer", "temporary_pgbouncer"]

_PORT: Final = 6432
_ANSWER_SECONDS: Final = 5
_MAY_I_USE_TLS: Final = struct.pack("!II", 8, 80877103)
_OURS: Final = frozenset(
    {"listen_addr", "listen_port", "unix_socket_dir", "auth_type", "logfile", "pidfile"}
)
_NO_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})
_PASSED_ON: Final = ("host", "port", "user", "password")
_FOLDERS: Final = ("/usr/sbin", "/usr/local/sbin")


def find_pgbouncer() -> Path | None:
    """Return the ``pgbouncer`` of the PATH or of the system's folders, or None."""
    found = shutil.which("pgbouncer") or shutil.which(
        "pgbouncer", path=":".join(_FOLDERS)
    )
    return None if found is None else Path(found)


class EmbeddedPgBouncer(EmbeddedServer):
    """PgBouncer before one PostgreSQL server, in transaction mode by default.

    Every database of the server can be reached under its own name. Every client of the
    socket is accepted, as the user of the server's URL, and in the console.

    Args:
        home: directory for its files, created if it does not exist.
        server: URL of a database on the server behind it.
        settings: as in the section ``[pgbouncer]`` of its configuration.
        temporary: remove the home when its last user has ended, even if it was killed.

    Raises:
        ConfigError: it is not installed, or a setting is reserved.
    """

    name: ClassVar[str] = "PgBouncer"
    pid_file: ClassVar[str] = "pgbouncer.pid"
    stop_signals: ClassVar[list[tuple[int, float]]] = [
        (signal.SIGTERM, 10),
        (signal.SIGKILL, 10),
    ]
    crash_signal: ClassVar[signal.Signals] = signal.SIGKILL

    def __init__(
        self,
        home: Path,
        *,
        server: str,
        settings: Mapping[str, str] = _NO_SETTINGS,
        temporary: bool = False,
    ) -> None:
        refuse_settings(settings, _OURS)
        super().__init__(home, settings=settings, listen=None, temporary=temporary)
        found = find_pgbouncer()
        if found is None:
            raise ConfigError("PgBouncer is not installed: apt-get install pgbouncer.")
        self.executable = found
        self._server = _settings_of(server)

    @property
    def url(self) -> str:
        """URL of the server URL's database, through PgBouncer."""
        return self.url_of(str(self._server.get("dbname") or "postgres"))

    def url_of(self, database: str) -> str:
        """Return the URL of a database of the server, through PgBouncer."""
        return (
            f"postgresql://{quote(str(self._server['user']), safe='')}@/"
            f"{quote(database, safe='')}?host={quote(str(self.sockets))}&port={_PORT}"
        )

    def order(self, command: str) -> None:
        """Send the console a command: ``PAUSE``, ``RESUME``, ``RECONNECT``, ``KILL``.

        Needs psycopg.
        """
        import psycopg  # noqa: PLC0415

        with psycopg.connect(self.url_of("pgbouncer"), autocommit=True) as console:
            console.execute(command.encode())

    @override
    def _check(self, data: Path) -> None:
        """Accept any data: PgBouncer keeps none."""

    @override
    def _make_command(self, data: Path) -> list[str]:
        return []

    @override
    def _prepare(self, data: Path) -> None:
        server = " ".join(
            f"{name}={_quoted(value)}"
            for name, value in self._server.items()
            if name != "dbname"
        )
        settings = {
            "pool_mode": "transaction",
            "listen_addr": "",
            "listen_port": str(_PORT),
            "unix_socket_dir": str(self.sockets),
            "auth_type": "any",
            "admin_users": str(self._server["user"]),
            "max_client_conn": "500",
            **self.settings,
        }
        lines = ["[databases]", f"* = {server}", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        # It has the server's password, which a command line would show to every user.
        write_private(self._configuration, "\n".join([*lines, ""]), self.account)

    @property
    def _configuration(self) -> Path:
        return self.directory / "pgbouncer.ini"

    @override
    def _run_command(self, data: Path) -> list[str]:
        return [str(self.executable), "-q", str(self._configuration)]

    @override
    def _answers(self, data: Path) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(_ANSWER_SECONDS)
                probe.connect(str(self.sockets / f".s.PGSQL.{_PORT}"))
                probe.sendall(_MAY_I_USE_TLS)
                return probe.recv(1) != b""
        except OSError:
            return False


@contextmanager
def temporary_pgbouncer(
    server: str, settings: Mapping[str, str] = _NO_SETTINGS
) -> Iterator[EmbeddedPgBouncer]:
    """Run a PgBouncer in a new directory during the block; both are removed afterwards.

    Args:
        server: URL of a database on the server behind it.
        settings: as in the section ``[pgbouncer]`` of its configuration.
    """
    bouncer = EmbeddedPgBouncer(
        temporary_home(server_account()),
        server=server,
        settings=settings,
        temporary=True,
    )
    with bouncer:
        yield bouncer


def _settings_of(server: str) -> dict[str, Any]:
    """Convert a server's URL to settings of PgBouncer."""
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

    found = conninfo_to_dict(server).items()
    kept: dict[str, Any] = {n: v for n, v in found if n in {*_PASSED_ON, "dbname"}}
    return {"user": "postgres"} | kept


def _quoted(value: Any) -> str:
    return "'" + str(value).replace("'", "''") + "'"
