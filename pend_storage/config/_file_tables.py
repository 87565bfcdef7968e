"""Tables of a configuration file, with the types and bounds of their members."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

from pend_storage.config._auto_switch import AutoSwitchTable
from pend_storage.config._backup import BackupTable, KeepTable
from pend_storage.config._settings import (
    ChannelBinding,
    Pooler,
    SslMode,
    Unclaimed,
    Unsigned,
)
from pend_storage.phases import Phase

__all__ = [
    "TABLES",
    "AuditTable",
    "DualWriteTable",
    "EnvironmentTable",
    "JsonTable",
    "PostgresTable",
    "RedisTable",
    "ServerTable",
]

_Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
_Patience: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
_Interval: TypeAlias = Annotated[float, msgspec.Meta(ge=0.001, le=3_600)]
_Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Days: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=36_500)]
_Key: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]


class FileTable(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Table of the file, as it is written there. Unknown members are errors."""


class JsonTable(FileTable):
    """Table ``json``."""

    directory: str | None = None
    files: dict[str, str] = {}
    include: list[_Key] | None = None
    unclaimed: Unclaimed = "refuse"
    checkpoint_interval: _Seconds = 1.0


class TlsTable(FileTable):
    """Table ``postgres.tls``."""

    mode: SslMode | None = None
    root_certificate: str | None = None
    certificate: str | None = None
    key: str | None = None
    channel_binding: ChannelBinding | None = None
    require_auth: _Key | None = None


class ServerTable(FileTable):
    """Members of every server."""

    url: str | None = None
    url_env: str | None = None


class PostgresTable(ServerTable):
    """Table ``postgres``."""

    pool: _Count = 20
    connect_timeout: _Seconds = 2.0
    idle_timeout: _Seconds = 30.0
    connection_max_age: _Seconds = 1800.0
    statement_timeout: _Seconds = 30.0
    pooler: Pooler | None = None
    schema: str = "public"
    tls: TlsTable = msgspec.field(default_factory=TlsTable)


class RedisTable(ServerTable):
    """Table ``redis``."""

    key: _Key | None = None
    flag_key_env: _Key | None = None
    unsigned: Unsigned = "wake-up"


class DualWriteTable(FileTable):
    """Table ``dual_write``."""

    secondary_timeout: _Patience | str = 1.0
    compare: _Share = 0.05
    ignore: list[str] = []
    switch_patience: _Patience = 30.0
    relay_interval: _Interval = 0.2
    retention_days: _Days = 7.0


class AuditTable(FileTable):
    """Table ``audit``."""

    keep_days: _Days = 2557.0


class EnvironmentTable(FileTable):
    """Table of one environment."""

    phase: str = Phase.JSON_ONLY.value
    schema: str | None = None
    json: JsonTable = msgspec.field(default_factory=JsonTable)
    postgres: PostgresTable = msgspec.field(default_factory=PostgresTable)
    redis: RedisTable = msgspec.field(default_factory=RedisTable)
    auto_switch: bool = False
    dual_write: DualWriteTable = msgspec.field(default_factory=DualWriteTable)
    backup: BackupTable | None = None
    audit: AuditTable = msgspec.field(default_factory=AuditTable)


TABLES: Final[dict[str, type[msgspec.Struct]]] = {
    "": EnvironmentTable,
    "json": JsonTable,
    "postgres": PostgresTable,
    "postgres.tls": TlsTable,
    "redis": RedisTable,
    "auto_switch": AutoSwitchTable,
    "dual_write": DualWriteTable,
    "audit": AuditTable,
    "backup": BackupTable,
    "backup.keep": KeepTable,
}
"""Every table, by its path below the environment."""
