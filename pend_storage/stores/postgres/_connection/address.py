"""Database address: libpq settings parsed from a URL and checked offline."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict
from typing_extensions import override

from pend_storage._secrets import may_hold_secret
from pend_storage.errors import ConfigError
from pend_storage.stores.postgres._connection.tls import (
    is_local,
    tls_defaults,
    weakness_of,
)

__all__ = ["Address"]

_HIGHEST_PORT: Final = 65_535
_FORM: Final = (
    "write postgresql://user:password@host:5432/database, with special characters "
    "percent-encoded."
)
_UNKNOWN: Final = re.compile(r'(?:URI query parameter|connection option):? "(\w+)"')
_MISTAKEN: Final = frozenset(
    {"pool", "pool_size", "pool_timeout", "pooler", "max_overflow", "statement_timeout"}
    | {
        "idle_timeout",
        "timeout",
        "schema",
        "search_path",
        "currentSchema",
        "ssl",
        "tls",
    }
    | {"connection_limit", "pgbouncer", "prepare_threshold", "autocommit", "charset"}
    | {"connection_max_age", "command_timeout", "min_size", "max_size", "encoding"}
)
"""Parameters of other programs, which a message may name. What else libpq does not know may
be a part of a password with an unencoded ``&`` in it.
"""
_PLACES: Final = ("host", "hostaddr", "port", "dbname", "service")
_SERVICE: Final = re.compile(r"[\w.-]+", re.ASCII)


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
            raise ConfigError(_not_understood(str(error))) from None
        for fault in _faults(settings):
            raise ConfigError(fault)
        return cls(settings)

    @property
    def effective(self) -> dict[str, Any]:
        """The settings with the TLS defaults of the library. Never show them."""
        return {**tls_defaults(self.settings), **self.settings}

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that no message may show: of these settings, and of libpq's variables."""
        defaults = {
            option.keyword.decode(): option.val.decode(errors="replace")
            for option in pq.Conninfo.get_defaults()
            if option.val
        }
        user = str(self.settings.get("user") or "")
        # A colon that was encoded makes user and password one name.
        found = [user, user.partition(":")[2]] if ":" in user else []
        found += [
            str(value)
            for settings in (self.settings, defaults)
            for name, value in settings.items()
            if value and (name in _secret_names() or may_hold_secret(name))
        ]
        return tuple(found)

    @property
    def is_local(self) -> bool:
        """True where a connection stays on this machine."""
        return is_local(self.settings)

    @property
    def weakness(self) -> str | None:
        """In what a connection to another machine is weaker than a verified one, or None."""
        return weakness_of(self.effective)

    @override
    def __str__(self) -> str:
        """Host, port and database, without user and password."""
        host = self.settings.get("host") or self.settings.get("hostaddr")
        port = self.settings.get("port")
        name = self.settings.get("dbname") or ""
        service = self.settings.get("service")
        if service and not _SERVICE.fullmatch(service):
            service = "of that name"
        place = f"{host or ('local socket' if not service else f'service {service}')}"
        place += f":{port}" if port else ""
        return f"PostgreSQL at {place}/{name}" if name else f"PostgreSQL at {place}"

    @override
    def __repr__(self) -> str:
        return f"Address({self})"


@cache
def _secret_names() -> frozenset[str]:
    """Settings that libpq itself marks as ones to hide while they are typed in."""
    options = pq.Conninfo.get_defaults()
    return frozenset(o.keyword.decode() for o in options if o.dispchar == b"*")


def _not_understood(reason: str) -> str:
    """Error message for an unparsable URL; nothing of it is repeated."""
    found = _UNKNOWN.search(reason)
    if found is None or found[1] not in _MISTAKEN:
        return f"the database URL cannot be understood: {_FORM}"
    return (
        f"the database URL cannot be understood: libpq knows no parameter {found[1]!r}. "
        "Settings of pend_storage stand beside the URL: arguments of PostgresStore, "
        "members of [environments.NAME.postgres]."
    )


def _faults(settings: Mapping[str, Any]) -> Iterator[str]:
    """Faults of settings that libpq accepts; values are never shown."""
    if any("@" in str(settings.get(name) or "") for name in _PLACES):
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
