"""Settings of one environment. Frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from pend_storage._layouts.layout import Layout
from pend_storage.config._database_url import shown_url, with_parameters
from pend_storage.errors import ConfigError
from pend_storage.phases import Phase
from pend_storage.schema import Schema

__all__ = [
    "DEFAULT_SCHEMA",
    "Declared",
    "DualWriteSettings",
    "JsonSettings",
    "Pooler",
    "PostgresSettings",
    "RedisSettings",
    "Settings",
    "SslMode",
    "Unclaimed",
]

DEFAULT_SCHEMA: Final = "pend_storage.pend"

SslMode: TypeAlias = Literal[
    "disable", "allow", "prefer", "require", "verify-ca", "verify-full"
]
"""How far the server's certificate is trusted; libpq's words."""

Pooler: TypeAlias = Literal["transaction"]
"""For how long a connection pooler leaves a connection with one client. One that does so
for a whole session needs no word."""


Unclaimed: TypeAlias = Literal["refuse", "ignore"]
"""Whether JSON files that no layout claims stand in the way of PostgreSQL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonSettings:
    """Settings of the JSON directory."""

    directory: Path
    files: Mapping[str, Path] = field(default_factory=dict)
    """Legacy files that lie elsewhere, by the name that they have in the layout."""
    include: tuple[str, ...] | None = None
    """Patterns of the files that are the server's data; None: those of the store."""
    unclaimed: Unclaimed = "refuse"
    """What is done about files of these patterns that no layout claims."""
    checkpoint_interval: float = 1.0
    """Seconds after which a legacy file has what the store has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresSettings:
    """Settings of the database connection."""

    url: str = field(repr=False)
    """May hold a password: show :attr:`shown_url` instead."""
    pool: int = 20
    """Connections at most."""
    connect_timeout: float = 2.0
    """Seconds."""
    idle_timeout: float = 30.0
    """Seconds after which an unused connection is closed."""
    connection_max_age: float = 1800.0
    """Seconds after which a connection is not used again."""
    statement_timeout: float = 30.0
    """Seconds that one statement may take."""
    pooler: Pooler | None = None
    """Whether a connection pooler between here and the server shares connections."""
    tls_mode: SslMode | None = None
    tls_root_certificate: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return shown_url(self.url)

    @property
    def full_url(self) -> str:
        """The URL with the TLS settings in it, as libpq takes them."""
        settings = {
            "sslmode": self.tls_mode,
            "sslrootcert": self.tls_root_certificate,
            "sslcert": self.tls_certificate,
            "sslkey": self.tls_key,
        }
        return with_parameters(
            self.url, {k: str(v) for k, v in settings.items() if v is not None}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """Settings of the phase flag in Redis."""

    url: str = field(repr=False)
    key: str | None = None
    """Of the phase flag; None: ``pend:ENVIRONMENT:phase``."""

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return shown_url(self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class DualWriteSettings:
    """Settings of the replication between the two stores."""

    secondary_timeout: float | None = 1.0
    """Seconds that a write waits for the secondary; 0: never, None: as long as it takes."""
    compare: float = 0.05
    """Share of the reads that are compared with the secondary, 0 to 1."""
    ignore: tuple[str, ...] = ()
    """Places that need not be equal: ``users.last_seen``, ``*.extra.note``."""
    switch_patience: float = 30.0
    """Seconds that a call waits while a switch is under way."""
    relay_interval: float = 0.2
    """Seconds between two looks of the relay at the change log."""
    retention_days: float = 7.0
    """How long a change log is kept that the other side has passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """Declarations of a program, in place of a schema module."""

    schema: Schema | None = None
    """None: the module's."""
    layouts: tuple[Layout, ...] | None = None
    """None: the module's; none at all for a schema that is given without them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of one environment."""

    environment: str
    file: Path | None
    """Where it was read; None where the environment variables were enough."""
    phase: Phase = Phase.JSON_ONLY
    schema: str = DEFAULT_SCHEMA
    """The module that has ``SCHEMA`` and perhaps ``LAYOUTS``."""
    schema_named_by: str | None = None
    """Where it is named; None: it is the default."""
    declared: Declared | None = None
    """What code has declared, in place of that module."""
    json: JsonSettings | None = None
    postgres: PostgresSettings | None = None
    redis: RedisSettings | None = None
    auto_switch: bool = False
    """Whether a running store follows the phase flag by itself."""
    dual_write: DualWriteSettings = field(default_factory=DualWriteSettings)
    absent: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that should have a side's URL, and are not set."""
    is_from_code: bool = False
    """Whether a program has given them, in place of file and variables."""

    def require_json(self) -> JsonSettings:
        """Return the settings of JSON.

        Raises:
            ConfigError: it is not configured.
        """
        if self.json is None:
            raise ConfigError(
                f"{self.place}: no JSON directory is configured. Set json.directory "
                "there, or PEND_JSON_DIRECTORY."
            )
        return self.json

    def require_postgres(self) -> PostgresSettings:
        """Return the settings of PostgreSQL.

        Raises:
            ConfigError: it is not configured.
        """
        if self.postgres is None and "postgres" in self.absent:
            raise ConfigError(
                f"{self.place}: no database is configured, because the environment "
                f"variable {self.absent['postgres']} (postgres.url_env) is not set."
            )
        if self.postgres is None:
            raise ConfigError(
                f"{self.place}: no database is configured. Set postgres.url or "
                "postgres.url_env there, or PEND_DATABASE_URL."
            )
        return self.postgres

    def require_schema(self) -> None:
        """Refuse to change anything by the default schema, which no one may have meant.

        Raises:
            ConfigError: the schema was not named; it is the default.
        """
        if self.schema_named_by is None and self.declared is None:
            raise ConfigError(
                "there is no pend.toml here or in a folder above, so it is not known "
                "whose schema this is, and nothing was changed. Go to the project's "
                "folder, or name its file by --config; or name the schema module by "
                f"--schema or PEND_SCHEMA ({DEFAULT_SCHEMA} for a Pend server)."
            )

    @property
    def place(self) -> str:
        """Place of these settings, for messages."""
        if self.is_from_code:
            return "the arguments of open_store"
        if self.file is None:
            return "the environment variables"
        return f"{self.file}, environments.{self.environment}"
