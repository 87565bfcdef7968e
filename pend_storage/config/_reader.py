"""Configuration reader: reads and checks ``pend.toml`` and the environment variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from pend_storage._shown import cut, did_you_mean, listed, shown
from pend_storage.config._auto_switch import (
    AutoSwitchTable,
    Following,
    split_auto_switch,
)
from pend_storage.config._backup import (
    BackupSettings,
    BackupTable,
    backup_settings,
)
from pend_storage.config._database_url import overridden_url, url_fault
from pend_storage.config._discovery import DEFAULT_FILE, find_file
from pend_storage.config._file_content import expanded, parsed_file
from pend_storage.config._file_errors import explained, member_names
from pend_storage.config._file_tables import (
    TABLES,
    DualWriteTable,
    EnvironmentTable,
    JsonTable,
    PostgresTable,
    RedisTable,
    ServerTable,
)
from pend_storage.config._settings import (
    DEFAULT_SCHEMA,
    AuditSettings,
    DualWriteSettings,
    JsonSettings,
    PostgresSettings,
    RedisSettings,
    Settings,
)
from pend_storage.errors import ConfigError, PendStorageError
from pend_storage.phases import Phase, parse_phase

__all__ = ["DEFAULT_ENVIRONMENT", "load_settings"]

DEFAULT_ENVIRONMENT: Final = "development"

S = TypeVar("S", bound=msgspec.Struct)


def load_settings(
    path: str | Path | None = None,
    environment: str | None = None,
    *,
    schema: str | None = None,
    environ: Mapping[str, str] = os.environ,
    allow_foreign_owner: bool | None = None,
) -> Settings:
    """Read the settings of one environment.

    Args:
        path: the file; if None, ``PEND_CONFIG``, or else the ``pend.toml`` of the current
            directory, or of the nearest folder above it that has one.
        environment: its name; if None, ``PEND_ENV``, or else ``development``.
        schema: the schema module, instead of the one that the file names.
        environ: the environment variables.
        allow_foreign_owner: trust a file of another user; if None,
            ``PEND_ALLOW_FOREIGN_OWNER=1`` does. No file can allow it.

    Raises:
        ConfigError: a setting is missing or wrong, and the message names file and member;
            or the file is another user's, or others may write it.
    """
    try:
        return _load(
            path, environment, schema, environ, allow_foreign_owner=allow_foreign_owner
        )
    except (PendStorageError, MemoryError):
        raise
    except Exception as error:  # a file may hold anything: no traceback for any of it
        where = path or environ.get("PEND_CONFIG") or DEFAULT_FILE
        raise ConfigError(
            f"{cut(str(where))} cannot be used: {cut(str(error)) or type(error).__name__} "
            f"({type(error).__name__}). Compare it with the reference of the configuration."
        ) from error


def _load(
    path: str | Path | None,
    environment: str | None,
    schema: str | None,
    environ: Mapping[str, str],
    *,
    allow_foreign_owner: bool | None,
) -> Settings:
    # Empty variables count as unset: container tools set those that have no value.
    variables = {name: value for name, value in environ.items() if value}
    name = environment or variables.get("PEND_ENV") or DEFAULT_ENVIRONMENT
    file = find_file(path, variables)
    if file is None:
        _require_known(name, variables)
    read, following = EnvironmentTable(), AutoSwitchTable()
    if file is not None:
        table = _environment_table(file, name, allow=allow_foreign_owner)
        table, written = split_auto_switch(table)
        following = _converted(file, name, written, Following).auto_switch
        read = _converted(file, name, table, EnvironmentTable)
    reader = _Reader(file, name, variables)
    module, named_by = reader.schema(schema, read.schema)
    return Settings(
        environment=name,
        file=file,
        phase=reader.phase(read.phase),
        schema=module,
        schema_named_by=named_by,
        json=reader.json(read.json),
        postgres=reader.postgres(read.postgres),
        redis=reader.redis(read.redis),
        auto_switch=read.auto_switch,
        auto_switch_allowed=reader.allowed(following),
        auto_switch_pause=following.least_pause,
        dual_write=reader.dual_write(read.dual_write),
        backup=reader.backup(read.backup),
        audit=AuditSettings(keep_days=read.audit.keep_days),
        cursor_key=variables.get("PEND_CURSOR_KEY"),
        absent=reader.absent(read),
        allow_foreign_owner=allow_foreign_owner,
    )


def _require_known(name: str, variables: Mapping[str, str]) -> None:
    """Refuse an unknown environment where there is no file: ``PEND_ENV`` names the only one."""
    known = variables.get("PEND_ENV") or DEFAULT_ENVIRONMENT
    if name != known:
        raise ConfigError(
            f"there is no environment {shown(name)}{did_you_mean(name, [known])} There is no "
            f"{DEFAULT_FILE} here or in a folder above, so the only environment is "
            f"{known!r}, of the environment variables; PEND_ENV names it."
        )


def _environment_table(file: Path, name: str, *, allow: bool | None) -> Any:
    content = parsed_file(file, allow=allow)
    for member in content:
        if member != "environments":
            raise ConfigError(
                f"{file}: unknown member {shown(member)} at the top level"
                f"{did_you_mean(member, ['environments'])} Everything belongs under "
                "[environments.NAME]."
            )
    environments = content.get("environments", {})
    if not isinstance(environments, dict):
        raise ConfigError(f"{file}: environments must be a table: [environments.NAME].")
    if name not in environments:
        known = listed(environments) or "none"
        raise ConfigError(
            f"{file} has no environment {shown(name)}{did_you_mean(name, environments)} It has: "
            f"{known}. Choose one by --env or PEND_ENV."
        )
    return environments[name]


def _converted(file: Path, name: str, table: object, kind: type[S]) -> S:
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        known = {path: member_names(table) for path, table in TABLES.items()}
        raise ConfigError(explained(file, name, str(error), known)) from None


@dataclass(frozen=True, slots=True)
class _Reader:
    """Merge of the file and the environment variables."""

    file: Path | None
    environment: str
    variables: Mapping[str, str]

    def _place(self, member: str) -> str:
        if self.file is None:
            return member
        return f"{self.file}, environments.{self.environment}.{member}"

    def _resolved(self, text: str) -> Path:
        """Resolve a path of the file, which is relative to the file's folder."""
        base = Path.cwd() if self.file is None else self.file.parent
        place = "a path" if self.file is None else str(self.file)
        return base / expanded(text, place)

    def _resolved_if(self, text: str | None) -> Path | None:
        return None if text is None else self._resolved(text)

    def schema(self, given: str | None, written: str | None) -> tuple[str, str | None]:
        """Return the schema module, and the place where it is named; None: the default."""
        place: str | None = "--schema"
        name = given
        if not name:
            name = self.variables.get("PEND_SCHEMA")
            place = "the environment variable PEND_SCHEMA"
        if not name:
            name = written or DEFAULT_SCHEMA
            place = None if self.file is None else self._place("schema")
        if not all(part.isidentifier() for part in name.split(".")):
            raise ConfigError(
                f"{place}: {shown(name)} is no name of a Python module. Write it as in an "
                "import statement, such as my_server.records."
            )
        return name, place

    def phase(self, written: str) -> Phase:
        word = self.variables.get("PEND_PHASE")
        place = "the environment variable PEND_PHASE" if word else self._place("phase")
        return parse_phase(word or written, place=place)

    def json(self, table: JsonTable) -> JsonSettings | None:
        variable = self.variables.get("PEND_JSON_DIRECTORY")
        if variable is not None:
            place = "the environment variable PEND_JSON_DIRECTORY"
            directory = expanded(variable, place).absolute()
        elif table.directory:
            directory = self._resolved(table.directory)
        else:
            return None
        files = {name: self._resolved(path) for name, path in table.files.items()}
        return JsonSettings(
            directory=directory,
            files=files,
            include=None if table.include is None else tuple(table.include),
            unclaimed=table.unclaimed,
            checkpoint_interval=table.checkpoint_interval,
        )

    def postgres(self, table: PostgresTable) -> PostgresSettings | None:
        url = self._database_url(table)
        if url is None:
            return None
        return PostgresSettings(
            url=url,
            pool=table.pool,
            connect_timeout=table.connect_timeout,
            idle_timeout=table.idle_timeout,
            connection_max_age=table.connection_max_age,
            statement_timeout=table.statement_timeout,
            pooler=table.pooler,
            schema=table.schema,
            tls_mode=table.tls.mode,
            tls_root_certificate=self._root_certificate(table.tls.root_certificate),
            tls_certificate=self._resolved_if(table.tls.certificate),
            tls_key=self._resolved_if(table.tls.key),
            channel_binding=table.tls.channel_binding,
            require_auth=table.tls.require_auth,
        )

    def _root_certificate(self, written: str | None) -> Path | None:
        # libpq's word for the authorities that the system trusts, and no file.
        return Path(written) if written == "system" else self._resolved_if(written)

    def _database_url(self, table: PostgresTable) -> str | None:
        url = self.variables.get("PEND_DATABASE_URL")
        place = "the environment variable PEND_DATABASE_URL"
        if url is None:
            url, place = self._written_url("postgres", table)
            parts = {
                part: self.variables[variable]
                for part, variable in _URL_PARTS.items()
                if variable in self.variables
            }
            # A user or a password alone, as many environments have, names no database.
            if parts and (url is not None or {"host", "name"} & {*parts}):
                # Checked first: the parts of a malformed URL are not those that were meant.
                _require_url(url, place)
                url = overridden_url(url, parts)
                place = "the database URL with DB_HOST, DB_PORT, DB_NAME"
        return _require_url(url, place)

    def redis(self, table: RedisTable) -> RedisSettings | None:
        url = self.variables.get("PEND_REDIS_URL")
        if url is None:
            url, _ = self._written_url("redis", table)
        if url is None:
            return None
        signing_key = self.variables.get(table.flag_key_env or _FLAG_KEY)
        return RedisSettings(
            url=url, key=table.key, signing_key=signing_key, unsigned=table.unsigned
        )

    def allowed(self, table: AutoSwitchTable) -> tuple[Phase, ...] | None:
        if table.allowed is None:
            return None
        place = self._place("auto_switch.allowed")
        return tuple(parse_phase(word, place=place) for word in table.allowed)

    def dual_write(self, table: DualWriteTable) -> DualWriteSettings:
        for place in table.ignore:
            if not _is_field(place):
                raise ConfigError(
                    f"{self._place('dual_write.ignore')}: {shown(place)} is not a field of a "
                    "collection. Write COLLECTION.FIELD, such as users.last_seen, or "
                    "*.last_seen for every collection."
                )
        return DualWriteSettings(
            secondary_timeout=self._timeout(table.secondary_timeout),
            compare=table.compare,
            ignore=tuple(table.ignore),
            switch_patience=table.switch_patience,
            relay_interval=table.relay_interval,
            retention_days=table.retention_days,
        )

    def backup(self, table: BackupTable | None) -> BackupSettings | None:
        return backup_settings(
            table,
            place=self._place("backup"),
            resolve=self._resolved,
            repository=self.variables.get("PEND_BACKUP_REPOSITORY"),
            identity=self.variables.get("PEND_BACKUP_IDENTITY"),
        )

    def _timeout(self, written: float | str) -> float | None:
        """Parse seconds; TOML has no null, so "unlimited" stands for it."""
        if not isinstance(written, str):
            return written
        if written == _UNLIMITED:
            return None
        raise ConfigError(
            f"{self._place('dual_write.secondary_timeout')}: expected seconds, or "
            f"{_UNLIMITED!r}, not {shown(written)}{did_you_mean(written, [_UNLIMITED])}"
        )

    def absent(self, read: EnvironmentTable) -> dict[str, str]:
        """List the environment variables that the file names, and that are not set."""
        tables: dict[str, ServerTable] = {
            "postgres": read.postgres,
            "redis": read.redis,
        }
        named = {name: table.url_env for name, table in tables.items()}
        named["flag"] = read.redis.flag_key_env
        return {
            name: variable
            for name, variable in named.items()
            if variable is not None and variable not in self.variables
        }

    def _written_url(self, name: str, table: ServerTable) -> tuple[str | None, str]:
        """Return the URL of a server by the file, and the place where it stands."""
        if table.url is not None and table.url_env is not None:
            raise ConfigError(
                f"{self._place(name)}: url and url_env are both given; remove one."
            )
        if table.url_env is None:
            return table.url, self._place(f"{name}.url")
        return (
            self.variables.get(table.url_env),
            f"the environment variable {table.url_env}",
        )


def _require_url(url: str | None, place: str) -> str | None:
    if url is not None and (fault := url_fault(url)) is not None:
        raise ConfigError(f"{place}: {fault}")
    return url


_UNLIMITED: Final = "unlimited"
_FLAG_KEY: Final = "PEND_FLAG_KEY"
_is_field: Final = re.compile(r"[^.\s]++(\.[^.\s]++)++").fullmatch
_URL_PARTS: Final = {
    "host": "DB_HOST",
    "port": "DB_PORT",
    "name": "DB_NAME",
    "user": "DB_USER",
    "password": "DB_PASSWORD",
}
