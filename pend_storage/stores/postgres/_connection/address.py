"""Database address: libpq settings parsed from a URL and checked offline."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from typing_extensions import override

from pend_storage.errors import ConfigError

__all__ = ["Address"]

_HIGHEST_PORT: Final = 65_535
_FORM: Final = (
    "write postgresql://user:password@host:5432/database, with special characters "
    "percent-encoded."
)
_UNKNOWN: Final = re.compile(r'(?:URI query parameter|connection option):? "(\w+)"')
_NAMES: Final = ("host", "hostaddr", "port", "dbname")


@dataclass(frozen=True)
class Address:
    """Connection settings of one database, as libpq names them."""

    settings: Mapping[str, Any]

    @classmethod
    def parse(cls, url: str) -> Address:
        """Parse a URL or a ``key=value`` text; connects to nothing.

        Args:
            url: ``postgresql://...``, its SQLAlchemy spelling, or a libpq connection
                string.

        Raises:
            ConfigError: it is neither, or it cannot lead anywhere. The text is not
                repeated: it may hold a password.
        """
        if not url.strip():
            raise ConfigError(f"the database URL is empty: {_FORM}")
        for prefix in ("postgresql+psycopg://", "postgres+psycopg://"):
            if url.startswith(prefix):
                url = "postgresql://" + url.removeprefix(prefix)
        try:
            settings = conninfo_to_dict(url)
        except psycopg.Error as error:
            raise ConfigError(_not_understood(url, str(error))) from None
        for fault in _faults(settings):
            raise ConfigError(fault)
        return cls(settings)

    @override
    def __str__(self) -> str:
        """Host, port and database, without user and password."""
        host = self.settings.get("host") or self.settings.get("hostaddr")
        port = self.settings.get("port")
        name = self.settings.get("dbname") or ""
        service = self.settings.get("service")
        place = f"{host or ('local socket' if not service else f'service {service}')}"
        place += f":{port}" if port else ""
        return f"PostgreSQL at {place}/{name}" if name else f"PostgreSQL at {place}"

    @override
    def __repr__(self) -> str:
        return f"Address({self})"


def _not_understood(url: str, reason: str) -> str:
    """Error message for an unparsable URL.

    A parameter is named only where it cannot be part of a secret.
    """
    parameters = url.partition("?")[2]
    found = _UNKNOWN.search(reason)
    if found is None or "@" in parameters or f"{found[1]}=" not in parameters:
        return f"the database URL cannot be understood: {_FORM}"
    return (
        f"the database URL cannot be understood: libpq knows no parameter {found[1]!r}. "
        "Settings of pend_storage stand beside the URL: arguments of PostgresStore, "
        "members of [environments.NAME.postgres]."
    )


def _faults(settings: Mapping[str, Any]) -> Iterator[str]:
    """Faults of settings that libpq accepts; values are never shown."""
    if any("@" in str(settings.get(name) or "") for name in _NAMES):
        yield (
            "the database URL has an @ in the name of the host or the database, so a "
            f"special character of the password is not percent-encoded: {_FORM}"
        )
    for port in str(settings.get("port") or "").split(","):
        number = int(port) if port.isascii() and port.isdigit() else -1
        if port and not 0 < number <= _HIGHEST_PORT:
            yield (
                "the port of the database URL is not a number from 1 to "
                f"{_HIGHEST_PORT}: {_FORM}"
            )
