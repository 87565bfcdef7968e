"""Embedded PostgreSQL server."""

from __future__ import annotations

import signal
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar
from urllib.parse import quote

from typing_extensions import override

from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.testing.servers import _discovery as discovery
from pend_storage.testing.servers._places import (
    Account,
    readable_copy,
    server_account,
    temporary_home,
)
from pend_storage.testing.servers._postgres_protocol import (
    RefusedStatementError,
    run_statement,
)
from pend_storage.testing.servers._secrets import scram_verifier, write_private
from pend_storage.testing.servers._server import EmbeddedServer, refuse_settings

DEFAULT_PORT = 5432
# Lines of postmaster.pid (src/include/utils/pidfile.h, counted from 0).
_STATUS_LINE = 7
# SSLRequest: the shortest question that only a living server answers, and does not log.
_MAY_I_USE_TLS = struct.pack("!II", 8, 80877103)
_ANSWER_SECONDS = 5
_READ_ONLY = "25006"
_RULES = """\
local all         all trust
local replication all trust
host  all         all 127.0.0.0/8 scram-sha-256
host  all         all ::1/128     scram-sha-256
host  replication all 127.0.0.0/8 scram-sha-256
host  replication all ::1/128     scram-sha-256
"""
_OURS = frozenset({"listen_addresses", "port", "unix_socket_directories"})
_NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


class EmbeddedPostgres(EmbeddedServer):
    """PostgreSQL server in one directory, shared by any number of processes.

    The superuser is ``postgres``. It needs no password on the Unix socket, whose directory
    only the owner may enter, and a random one on TCP, as every role does. Databases are UTF-8 in the C
    locale, with checksums. Writes are as durable as on any server, unless the settings
    have ``{"fsync": "off"}``.

    Args:
        home: directory for its files, created if it does not exist. Its data stays.
        bindir: directory of ``postgres`` and ``initdb``; found by ``find_postgres``.
        settings: as in postgresql.conf; those of the process that starts it apply.
        listen: loopback address for TCP, too. The port is a free one, and stays the
            same.
        temporary: remove the home when its last user has ended, even if it was killed.

    Attributes:
        bindir: directory of the binaries in use; a copy if the server's user, for a
            program run by root, cannot reach the original.
        version: of the binaries, such as ``18.6``.

    Raises:
        ConfigError: no usable binaries, or an address that is not a loopback one.
    """

    name: ClassVar[str] = "PostgreSQL"
    pid_file: ClassVar[str] = "postmaster.pid"
    # Fast shutdown, immediate shutdown, the end.
    stop_signals: ClassVar[list[tuple[int, float]]] = [
        (signal.SIGINT, 60),
        (signal.SIGQUIT, 15),
        (signal.SIGKILL, 15),
    ]
    crash_signal: ClassVar[signal.Signals] = signal.SIGQUIT

    def __init__(
        self,
        home: Path,
        *,
        bindir: Path | None = None,
        settings: Mapping[str, str] = _NO_SETTINGS,
        listen: str | None = None,
        temporary: bool = False,
    ) -> None:
        refuse_settings(settings, _OURS)
        super().__init__(home, settings=settings, listen=listen, temporary=temporary)
        found = discovery.find_postgres(bindir=bindir)
        self.version: str = discovery.version(found / "postgres") or "unknown"
        self.bindir: Path = _reachable(found, self.version, self.account)

    @property
    def url(self) -> str:
        """URL of the database ``postgres``, over the Unix socket."""
        return self._url("postgres")

    @property
    def tcp_url(self) -> str:
        """URL of the database ``postgres``, over TCP, with the password.

        Raises:
            ConfigError: the server was started without ``listen``.
        """
        host, port = self.tcp_address
        host = f"[{host}]" if ":" in host else host
        return f"postgresql://postgres:{self.password}@{host}:{port}/postgres"

    def create_database(self, name: str) -> str:
        """Create a database unless it exists, and return its URL.

        Needs psycopg, which the servers themselves do not need.

        Raises:
            StoreUnavailable: the server refused, or cannot be reached.
        """
        import psycopg  # noqa: PLC0415
        from psycopg import sql  # noqa: PLC0415

        statement = sql.SQL("create database {}").format(sql.Identifier(name))
        try:
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute(statement)
        except psycopg.errors.DuplicateDatabase:
            pass
        except psycopg.Error as error:
            raise StoreUnavailable(str(error), store=repr(self)) from error
        return self._url(name)

    def _url(self, database: str) -> str:
        # The port is part of the socket's name; without it libpq would take PGPORT.
        return (
            f"postgresql://postgres@/{quote(database, safe='')}"
            f"?host={quote(str(self.sockets))}&port={self._port}"
        )

    @property
    def _port(self) -> int:
        return DEFAULT_PORT if self.address.port is None else self.address.port

    @override
    def _check(self, data: Path) -> None:
        path = data / "PG_VERSION"
        if not path.exists():
            return
        made_by = path.read_text().strip()
        if made_by != str(discovery.major(self.version)):
            raise ConfigError(
                f"{self.home} was made by PostgreSQL {made_by}, and {self.bindir} is "
                f"{self.version}. Set PEND_PG_BINDIR to the binaries of {made_by}, or "
                "choose another directory."
            )

    @override
    def _make_command(self, data: Path) -> list[str]:
        initdb = [str(self.bindir / "initdb"), f"--pgdata={data}"]
        options = ["--username=postgres", "--auth-local=trust", "--data-checksums"]
        options += ["--auth-host=scram-sha-256"]
        locale = ["--encoding=UTF8", "--no-locale", "--no-instructions"]
        # With fsync off, the start need not wait for the disk either.
        sync = ["--no-sync"] if self.settings.get("fsync") == "off" else []
        return initdb + options + locale + sync

    @override
    def _run_command(self, data: Path) -> list[str]:
        # A list of names: quotes preserve spaces and capitals.
        sockets = '"{}"'.format(str(self.sockets).replace('"', '""'))
        settings = {
            "listen_addresses": self.address.listen or "",
            "port": str(self._port),
            "unix_socket_directories": sockets,
            **({} if self.address.listen is None else {"hba_file": str(self._rules)}),
            **self.settings,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self.bindir / "postgres"), "-D", str(data), *options]

    @property
    def _rules(self) -> Path:
        return self.directory / "pg_hba.conf"

    @override
    def _prepare(self, data: Path) -> None:
        # Not that of the data, which an earlier version may have made: it trusted TCP.
        if self.address.listen is not None:
            write_private(self._rules, _RULES, self.account)

    @override
    def _secure(self, data: Path) -> None:
        statement = f"alter role postgres password '{scram_verifier(self.password)}'"
        try:
            run_statement(self._socket, "postgres", statement)
        except RefusedStatementError as error:
            if (
                error.sqlstate != _READ_ONLY
            ):  # a standby has the password of its primary
                raise StoreUnavailable(str(error), store=repr(self)) from error

    @property
    def _socket(self) -> Path:
        return self.sockets / f".s.PGSQL.{self._port}"

    @override
    def _answers(self, data: Path) -> bool:
        try:
            lines = (data / self.pid_file).read_text().splitlines()
            status = lines[_STATUS_LINE].strip()
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(_ANSWER_SECONDS)
                probe.connect(str(self._socket))
                probe.sendall(_MAY_I_USE_TLS)
                answer = probe.recv(1)
        except (OSError, IndexError):
            return False
        # After a kill the file may still say "ready"; an answer proves that it runs.
        return status in {"ready", "standby"} and answer != b""


@contextmanager
def temporary_postgres(
    *,
    bindir: Path | None = None,
    settings: Mapping[str, str] = _NO_SETTINGS,
    listen: str | None = None,
) -> Iterator[EmbeddedPostgres]:
    """Run a server in a new directory during the block; both are removed afterwards.

    Also when this process is killed. Other processes may join, by
    ``EmbeddedPostgres(server.home)``; then the last one to end removes them.
    """
    server = EmbeddedPostgres(
        temporary_home(server_account()),
        bindir=bindir,
        settings=settings,
        listen=listen,
        temporary=True,
    )
    with server:
        yield server


def _reachable(bindir: Path, version: str, account: Account | None) -> Path:
    """Return the directory of the binaries, or of a copy that the account can run."""
    if account is None or account.can_reach(bindir / "postgres"):
        return bindir
    tree = bindir.resolve().parent
    package = tree.parent
    # A wheel has the shared libraries beside the package, by a relative path.
    libraries = package.with_name(f"{package.name}.libs")
    sources = {f"{package.name}/{tree.name}": tree}
    if libraries.is_dir():
        sources[libraries.name] = libraries
    copy = readable_copy(f"postgresql-{version}", sources, account)
    return copy / package.name / tree.name / bindir.name
