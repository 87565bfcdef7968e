"""Embedded Redis or Valkey server."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar
from urllib.parse import quote

from typing_extensions import override

from pend_storage.testing.servers import _discovery as discovery
from pend_storage.testing.servers._places import (
    Account,
    readable_copy,
    server_account,
    temporary_home,
)
from pend_storage.testing.servers._secrets import write_private
from pend_storage.testing.servers._server import EmbeddedServer, refuse_settings

_ANSWER_SECONDS = 5
_OURS = frozenset({"bind", "daemonize", "dir", "port", "unixsocket"})
_NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


class EmbeddedRedis(EmbeddedServer):
    """Redis or Valkey server in one directory, shared by any number of processes.

    No data survives a restart, unless the settings have ``{"appendonly": "yes"}``. With
    ``listen`` it wants a random password, which is in its URLs.

    Args:
        home: directory for its files, created if it does not exist.
        executable: the server's binary; found by ``find_redis``.
        settings: as in redis.conf; those of the process that starts it apply.
        listen: loopback address for TCP, too. The port is a free one, and stays the
            same.
        temporary: remove the home when its last user has ended, even if it was killed.

    Attributes:
        executable: binary in use; a copy if the server's user, for a program run by
            root, cannot reach the original.
        version: of the binary, such as ``7.0.15``.

    Raises:
        ConfigError: no usable binary, or an address that is not a loopback one.
    """

    name: ClassVar[str] = "Redis"
    pid_file: ClassVar[str] = "redis.pid"
    stop_signals: ClassVar[list[tuple[int, float]]] = [
        (signal.SIGTERM, 30),
        (signal.SIGKILL, 15),
    ]
    crash_signal: ClassVar[signal.Signals] = signal.SIGKILL

    def __init__(
        self,
        home: Path,
        *,
        executable: Path | None = None,
        settings: Mapping[str, str] = _NO_SETTINGS,
        listen: str | None = None,
        temporary: bool = False,
    ) -> None:
        refuse_settings(settings, _OURS)
        super().__init__(home, settings=settings, listen=listen, temporary=temporary)
        found = discovery.find_redis(executable=executable)
        self.version: str = discovery.version(found) or "unknown"
        self.executable: Path = _reachable(found, self.version, self.account)

    @property
    def url(self) -> str:
        """URL of database 0, over the Unix socket; with the password, if there is one."""
        word = f"&password={self.password}" if self._has_password else ""
        return f"unix://{quote(str(self._socket))}?db=0{word}"

    @property
    def tcp_url(self) -> str:
        """URL of database 0, over TCP, with the password.

        Raises:
            ConfigError: the server was started without ``listen``.
        """
        host, port = self.tcp_address
        host = f"[{host}]" if ":" in host else host
        login = f":{self.password}@" if self._has_password else ""
        return f"redis://{login}{host}:{port}/0"

    @property
    def _has_password(self) -> bool:
        """True where the server wants the password of its home, not one of the settings."""
        return self.address.listen is not None and "requirepass" not in self.settings

    @property
    def _private_settings(self) -> Path:
        return self.directory / "redis.conf"

    @property
    def _socket(self) -> Path:
        return self.sockets / "redis.sock"

    @override
    def _check(self, data: Path) -> None:
        """Accept any data: a server logs what it cannot read."""

    @override
    def _make_command(self, data: Path) -> list[str]:
        return []

    @override
    def _run_command(self, data: Path) -> list[str]:
        listen, port = self.address.listen, self.address.port
        settings = {
            "daemonize": "no",
            "dir": str(data),
            "bind": listen or "127.0.0.1",
            "port": "0" if listen is None else str(port),
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "save": "",
            "appendonly": "no",
            **self.settings,
        }
        options = [[f"--{name}", value] for name, value in settings.items()]
        words = [word for pair in options for word in pair]
        # A password on a command line could be read by every user of the machine.
        file = [str(self._private_settings)] if self._has_password else []
        return [str(self.executable), *file, *words]

    @override
    def _prepare(self, data: Path) -> None:
        if self._has_password:
            text = f"requirepass {self.password}\n"
            write_private(self._private_settings, text, self.account)

    @override
    def _answers(self, data: Path) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(_ANSWER_SECONDS)
                probe.connect(str(self._socket))
                probe.sendall(b"PING\r\n")
                answer = probe.recv(64)
        except OSError:
            return False
        # "-LOADING" means that it is not ready; a request for a password means that it
        # is.
        return answer.startswith((b"+PONG", b"-NOAUTH"))


@contextmanager
def temporary_redis(
    *,
    executable: Path | None = None,
    settings: Mapping[str, str] = _NO_SETTINGS,
    listen: str | None = None,
) -> Iterator[EmbeddedRedis]:
    """Run a server in a new directory during the block; both are removed afterwards.

    Also when this process is killed. Other processes may join, by
    ``EmbeddedRedis(server.home)``; then the last one to end removes them.
    """
    server = EmbeddedRedis(
        temporary_home(server_account()),
        executable=executable,
        settings=settings,
        listen=listen,
        temporary=True,
    )
    with server:
        yield server


def _reachable(executable: Path, version: str, account: Account | None) -> Path:
    """Return the binary, or a copy of it that the account can run."""
    if account is None or account.can_reach(executable):
        return executable
    source = executable.resolve()
    copy = readable_copy(f"redis-{version}", {source.name: source}, account)
    return copy / source.name
