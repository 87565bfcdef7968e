"""An embedded PgBouncer, the pooler that stands before many PostgreSQL servers."""

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
    """The ``pgbouncer`` of the PATH or of the system's folders; None if there is none."""
    found = shutil.which("pgbouncer") or shutil.which(
        "pgbouncer", path=":".join(_FOLDERS)
    )
    return None if found is None else Path(found)


class EmbeddedPgBouncer(EmbeddedServer):
    """PgBouncer before one PostgreSQL server, in transaction mode unless told otherwise.

    Every database of the server can be reached under its own name. Whoever can reach
    the socket is let in, as the user of the server's URL, and into the console.

    Args:
        home: a directory of its own, made if need be.
        server: URL of a database on the server behind it.
        settings: as in the section ``[pgbouncer]`` of its configuration.
        temporary: remove the home when its last user has gone, however it went.

    Raises:
        ConfigError: it is not installed, or a setting is not to be had.
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
        """The database of the server's URL, through PgBouncer."""
        return self.url_of(str(self._server.get("dbname") or "postgres"))

    def url_of(self, database: str) -> str:
        """A database of the server, through PgBouncer."""
        return (
            f"postgresql://{quote(str(self._server['user']), safe='')}@/"
            f"{quote(database, safe='')}?host={quote(str(self.sockets))}&port={_PORT}"
        )

    def order(self, command: str) -> None:
        """Give the console an order: ``PAUSE``, ``RESUME``, ``RECONNECT``, ``KILL``.

        Needs psycopg.
        """
        import psycopg  # noqa: PLC0415

        with psycopg.connect(self.url_of("pgbouncer"), autocommit=True) as console:
            console.execute(command.encode())

    @override
    def _check(self, data: Path) -> None:
        """It keeps nothing that could be unfit."""

    @override
    def _make_command(self, data: Path) -> list[str]:
        server = " ".join(f"{k}={v}" for k, v in self._server.items() if k != "dbname")
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
        write = 'printf "%s\\n" "$1" > "$0"'
        file = str(data / "pgbouncer.ini")
        return ["/bin/sh", "-c", write, file, "\n".join(lines)]

    @override
    def _run_command(self, data: Path) -> list[str]:
        return [str(self.executable), "-q", str(data / "pgbouncer.ini")]

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
    """A running PgBouncer in a new directory; both are gone afterwards.

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
    """Where the server is, in the words of PgBouncer."""
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

    found = conninfo_to_dict(server).items()
    kept: dict[str, Any] = {n: v for n, v in found if n in {*_PASSED_ON, "dbname"}}
    return {"user": "postgres"} | kept
