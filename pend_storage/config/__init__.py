"""Configuration: settings from ``pend.toml`` and the environment variables.

The settings are read and checked; no store is opened. An environment variable wins over
the file, one setting at a time, and an empty variable counts as one that is not set:

``PEND_CONFIG``, ``PEND_ENV``
    the file, and the environment in it; the arguments of the caller win over them.
``PEND_SCHEMA``, ``PEND_PHASE``, ``PEND_JSON_DIRECTORY``, ``PEND_DATABASE_URL``, ``PEND_REDIS_URL``
    in place of the setting in the file.
``PEND_BACKUP_REPOSITORY``, ``PEND_BACKUP_IDENTITY``
    the repository of backups in place of the file's, and secret keys to read it.
``DB_HOST``, ``DB_PORT``, ``DB_NAME``, ``DB_USER``, ``DB_PASSWORD``
    each replaces its part of the database's URL (unless ``PEND_DATABASE_URL`` sets the
    whole of it), so that a password need not stand in the file.
"""

from pend_storage.config._backup import (
    BackupSettings,
    KeepSettings,
    parse_duration,
)
from pend_storage.config._discovery import DEFAULT_FILE, configuration_file
from pend_storage.config._overrides import settings_in_code
from pend_storage.config._reader import DEFAULT_ENVIRONMENT, load_settings
from pend_storage.config._settings import (
    DEFAULT_SCHEMA,
    AuditSettings,
    ChannelBinding,
    Declared,
    DualWriteSettings,
    JsonSettings,
    Pooler,
    PostgresSettings,
    RedisSettings,
    Settings,
    SslMode,
    Unclaimed,
)

__all__ = [
    "DEFAULT_ENVIRONMENT",
    "DEFAULT_FILE",
    "DEFAULT_SCHEMA",
    "AuditSettings",
    "BackupSettings",
    "ChannelBinding",
    "Declared",
    "DualWriteSettings",
    "JsonSettings",
    "KeepSettings",
    "Pooler",
    "PostgresSettings",
    "RedisSettings",
    "Settings",
    "SslMode",
    "Unclaimed",
    "configuration_file",
    "load_settings",
    "parse_duration",
    "settings_in_code",
]
