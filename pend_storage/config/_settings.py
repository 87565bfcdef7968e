"""Settings of one environment: frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from pend_storage._layouts.layout import Layout
from pend_storage.config._backup import BackupSettings
from pend_storage.config._database_url import shown_url, with_parameters
from pend_storage.errors import ConfigError
from pend_storage.phases import Phase
from pend_storage.schema import Schema

__all__ = [
    "DEFAULT_SCHEMA",
    "AuditSettings",
    "ChannelBinding",
    "Declared",
    "DualWriteSettings",
    "JsonSettings",
    "Pooler",
    "PostgresSettings",
    "RedisSettings",
    "Settings",
    "SslMode",
    "Unclaimed",
    "Unsigned",
]

DEFAULT_SCHEMA: Final = "pend_storage.pend"

SslMode: TypeAlias = Literal[
    "disable", "allow", "prefer", "require", "verify-ca", "verify-full"
]
"""TLS mode of the connection to the database, in the words of libpq. Without one, a server on
another machine must have a certificate of its name (``verify-full``)."""

ChannelBinding: TypeAlias = Literal["disable", "prefer", "require"]
"""Binding of the password exchange to the TLS connection, in the words of libpq."""

Pooler: TypeAlias = Literal["transaction"]
"""Mode of a connection pooler before the database. One in session mode needs no setting."""


Unclaimed: TypeAlias = Literal["refuse", "ignore"]
"""Handling of JSON files that no layout claims: ``refuse`` makes them a blocker of the
phases with PostgreSQL as primary."""


Unsigned: TypeAlias = Literal["follow", "wake-up"]
"""What the servers do with a phase flag in Redis that is not signed: follow it; or follow what
a command has recorded in the database, and take the flag for a hint only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonSettings:
    """Settings of the JSON directory."""

    directory: Path
    files: Mapping[str, Path] = field(default_factory=dict)
    """Legacy files that lie elsewhere, by the name that they have in the layout."""
    include: tuple[str, ...] | None = None
    """Patterns of the files that are the server's data; None: those of the store."""
    unclaimed: Unclaimed = "refuse"
    """Handling of the files of these patterns that no layout claims."""
    checkpoint_interval: float = 1.0
    """Seconds between a commit and its checkpoint to the legacy file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresSettings:
    """Settings of the database connection."""

    url: str = field(repr=False)
    """May hold a password: show :attr:`shown_url` instead."""
    pool: int = 20
    """Connections of the pool at most."""
    connect_timeout: float = 2.0
    """Seconds that connecting may take."""
    idle_timeout: float = 30.0
    """Seconds after which an unused connection is closed."""
    connection_max_age: float = 1800.0
    """Seconds after which a connection is not used again."""
    statement_timeout: float = 30.0
    """Seconds that one statement may take."""
    pooler: Pooler | None = None
    """Mode of a connection pooler that shares connections between clients."""
    schema: str = "public"
    """Schema of the database with the tables and functions of the store."""
    tls_mode: SslMode | None = None
    tls_root_certificate: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    channel_binding: ChannelBinding | None = None
    """Whether the password exchange is bound to the TLS connection; None: if possible."""
    require_auth: str | None = None
    """Methods of authentication that the server may use, in the words of libpq."""

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return shown_url(self.url)

    @property
    def full_url(self) -> str:
        """The URL with the TLS settings as parameters of libpq."""
        settings = {
            "sslmode": self.tls_mode,
            "sslrootcert": self.tls_root_certificate,
            "sslcert": self.tls_certificate,
            "sslkey": self.tls_key,
            "channel_binding": self.channel_binding,
            "require_auth": self.require_auth,
        }
        return with_parameters(
            self.url, {k: str(v) for k, v in settings.items() if v is not None}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """Settings of the phase flag in Redis."""

    url: str = field(repr=False)
    key: str | None = None
    """Key of the phase flag; None: ``pend:ENVIRONMENT:phase``."""
    signing_key: str | None = field(default=None, repr=False)
    """Keys that sign the flag, separated by commas; None: it is not signed."""
    unsigned: Unsigned = "wake-up"
    """What the servers do with values of the flag where there is no signing key."""

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return shown_url(self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class DualWriteSettings:
    """Settings of the replication between the two stores."""

    secondary_timeout: float | None = 1.0
    """Seconds that a write waits for the secondary; 0: not at all, None: without limit."""
    compare: float = 0.05
    """Share of the reads that are compared with the secondary, 0 to 1."""
    ignore: tuple[str, ...] = ()
    """Fields that are not compared: ``users.last_seen``, ``*.extra.note``."""
    switch_patience: float = 30.0
    """Seconds that a call waits while a switch is under way."""
    relay_interval: float = 0.2
    """Seconds between two polls of the change log by the relay."""
    retention_days: float = 7.0
    """Days for which entries of the change log are kept that the other store has applied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """Settings of the audit."""

    keep_days: float = 2557.0
    """Days for which audit entries are kept: seven years, with two leap days."""


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
    """Configuration file; None where the environment variables were enough."""
    phase: Phase = Phase.JSON_ONLY
    schema: str = DEFAULT_SCHEMA
    """Name of the module that has ``SCHEMA`` and perhaps ``LAYOUTS``."""
    schema_named_by: str | None = None
    """Place where the module is named; None: it is the default."""
    declared: Declared | None = None
    """Declarations in code, in place of that module."""
    json: JsonSettings | None = None
    postgres: PostgresSettings | None = None
    redis: RedisSettings | None = None
    auto_switch: bool = False
    """Whether a running store follows the phase flag by itself."""
    auto_switch_allowed: tuple[Phase, ...] | None = None
    """Phases that it may go to by itself; None: all."""
    auto_switch_pause: float | None = None
    """Seconds between two automatic changes of the phase; None: 60 where the flag is in Redis,
    and no limit where only the owner of the configuration can change it."""
    dual_write: DualWriteSettings = field(default_factory=DualWriteSettings)
    backup: BackupSettings | None = None
    """None: no repository is configured."""
    audit: AuditSettings = field(default_factory=AuditSettings)
    cursor_key: str | None = field(default=None, repr=False)
    """Keys that sign the cursors of pages, separated by commas; None: they are not signed."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that the file names for a server's URL, and that are not set,
    by the name of the server: ``postgres``, ``redis``; and for the signing key: ``flag``."""
    is_from_code: bool = False
    """Whether the settings are arguments of a program, without file and variables."""
    allow_foreign_owner: bool | None = None
    """Whether files of another user are trusted; None: ``PEND_ALLOW_FOREIGN_OWNER``. No
    configuration file can say it."""

    def require_json(self) -> JsonSettings:
        """Return the settings of the JSON directory.

        Raises:
            ConfigError: no directory is configured.
        """
        if self.json is None:
            raise ConfigError(
                f"{self.place}: no JSON directory is configured. Set json.directory "
                "there, or PEND_JSON_DIRECTORY."
            )
        return self.json

    def require_postgres(self) -> PostgresSettings:
        """Return the settings of the database.

        Raises:
            ConfigError: no database is configured.
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

    def require_backup(self) -> BackupSettings:
        """Return the settings of the backups.

        Raises:
            ConfigError: no repository is configured; the message has the lines to write.
        """
        if self.backup is None:
            where = "pend.toml" if self.file is None else str(self.file)
            raise ConfigError(
                f"{self.place}: no repository of backups is configured. Write into {where}: "
                f"[environments.{self.environment}.backup] and below it "
                'repository = "/var/backups/pend" (or "s3://BUCKET/PREFIX"); or set '
                "PEND_BACKUP_REPOSITORY."
            )
        return self.backup

    def require_schema(self) -> None:
        """Refuse to change a store by the default schema, which may be the wrong one.

        Raises:
            ConfigError: neither a file, a variable nor an argument has named the schema.
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
