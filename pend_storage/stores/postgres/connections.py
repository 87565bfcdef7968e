"""Where the database is, and how a connection to it is made."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import psycopg
import tenacity
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from typing_extensions import override

from pend_storage.errors import ConfigError
from pend_storage.stores.postgres.errors import ConnectionLost
from pend_storage.stores.postgres.link import Link

__all__ = ["OLDEST_SERVER", "Address", "Connector", "explained"]

OLDEST_SERVER: Final = 15
_ATTEMPTS: Final = 3
_ADVICE: Final = (  # a server of another language gets none
    (
        re.compile('FATAL: +database ".*" does not exist').search,
        "create the database, or correct its name",
    ),
    (
        re.compile(
            'FATAL: +role ".*" does not exist|password authentication failed|'
            "no password supplied"
        ).search,
        "correct the user and the password",
    ),
    (
        re.compile("server does not support SSL").search,
        "turn TLS on in the server, or do not ask for it",
    ),
)
"""What to do about the words with which a server shows somebody the door."""
_GRACE: Final = 2.0  # seconds by which the server's own timeout comes first


def explained(error: psycopg.Error) -> str:
    """Why there is no connection, in one line, and what to do where that is known."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = "; ".join(lines) or type(error).__name__
    return text + next((f": {how}" for what, how in _ADVICE if what(text)), "")


@dataclass(frozen=True)
class Address:
    """A database, by the settings that libpq knows."""

    settings: Mapping[str, Any]

    @classmethod
    def parse(cls, url: str) -> Address:
        """Understand a URL or a ``key=value`` text; connects to nothing.

        Raises:
            ConfigError: it is neither. The text is not repeated: it may hold a password.
        """
        for prefix in ("postgresql+psycopg://", "postgres+psycopg://"):
            if url.startswith(prefix):
                url = "postgresql://" + url.removeprefix(prefix)
        try:
            return cls(conninfo_to_dict(url))
        except psycopg.Error:
            raise ConfigError(
                "the database URL cannot be understood: write "
                "postgresql://user:password@host:5432/database, with special "
                "characters percent-encoded."
            ) from None

    @override
    def __str__(self) -> str:
        """Where it is, without user and password."""
        host = self.settings.get("host") or self.settings.get("hostaddr")
        port = self.settings.get("port")
        name = self.settings.get("dbname") or ""
        place = f"{host or 'local socket'}{f':{port}' if port else ''}"
        return f"PostgreSQL at {place}/{name}" if name else f"PostgreSQL at {place}"

    @override
    def __repr__(self) -> str:
        return f"Address({self})"


@dataclass(frozen=True, kw_only=True)
class Connector:
    """Makes connections with the right settings."""

    address: Address
    connect_timeout: float
    """Seconds."""
    statement_timeout: float
    """Seconds after which the server breaks a statement off."""
    pooler: Literal["transaction"] | None
    """A pooler keeps no session: nothing is prepared, and nothing set, on it."""
    application_name: str

    @property
    def patience(self) -> float:
        """Seconds after which a silent server is taken for dead."""
        return self.statement_timeout + (_GRACE if self.pooler is None else 0.0)

    def conninfo(self) -> str:
        """All settings as libpq takes them. Holds the password: never show it."""
        ours: dict[str, Any] = {
            "connect_timeout": math.ceil(self.connect_timeout),
            "application_name": self.application_name,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": math.ceil(self.patience * 1000),
            "client_encoding": "utf8",
        }
        settings = {**ours, **self.address.settings, "client_encoding": "utf8"}
        if self.pooler is None:
            own = settings.get("options")
            settings["options"] = " ".join(filter(None, (own, self._options())))
        return make_conninfo(**settings)

    def _options(self) -> str:
        milliseconds = math.ceil(self.statement_timeout * 1000)
        return " ".join(
            f"-c {setting}"
            for setting in (
                f"statement_timeout={milliseconds}",
                f"idle_in_transaction_session_timeout={2 * milliseconds}",
                # Functions rely on a new look for each of their statements.
                r"default_transaction_isolation=read\ committed",
                "extra_float_digits=1",
                "jit=off",
            )
        )

    def open(self) -> Link:
        """A new connection; tried again where it fails at once.

        Raises:
            ConnectionLost: it cannot be had.
            ConfigError: the server is too old.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(psycopg.OperationalError),
            stop=tenacity.stop_any(
                tenacity.stop_after_attempt(_ATTEMPTS),
                tenacity.stop_after_delay(self.connect_timeout),
            ),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=0.5),
            reraise=True,
        )
        try:
            connection = retrying(self._connect)
        except psycopg.Error as error:
            # Without its cause: tracebacks of connecting show settings.
            raise ConnectionLost(self._safe(error), sent=False) from None
        self._check_version(connection)
        return Link(connection, prepare=self.pooler is None, patience=self.patience)

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.conninfo(), autocommit=True, prepare_threshold=None)

    def _safe(self, error: psycopg.Error) -> str:
        text = explained(error)
        password = self.address.settings.get("password")
        return text.replace(password, "********") if password else text

    def _check_version(self, connection: psycopg.Connection[Any]) -> None:
        version = connection.info.server_version
        if version // 10_000 < OLDEST_SERVER:
            connection.close()
            raise ConfigError(
                f"{self.address} is version {version // 10_000}; pend_storage needs "
                f"PostgreSQL {OLDEST_SERVER} or newer. Upgrade the server."
            )
