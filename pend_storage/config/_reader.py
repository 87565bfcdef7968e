"""Configuration reader: reads and checks ``pend.toml`` and the environment variables."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import msgspec

from pend_storage._shown import did_you_mean
from pend_storage.config._database_url import overridden_url, url_fault
from pend_storage.config._discovery import DEFAULT_FILE, find_file
from pend_storage.config._settings import (
    DEFAULT_SCHEMA,
    ChannelBinding,
    DualWriteSettings,
    JsonSettings,
    Pooler,
    PostgresSettings,
    RedisSettings,
    Settings,
    SslMode,
    Unclaimed,
)
from pend_storage.errors import ConfigError
from pend_storage.phases import Phase, parse_phase

__all__ = ["DEFAULT_ENVIRONMENT", "load_settings"]

DEFAULT_ENVIRONMENT: Final = "development"

_Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
_Patience: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
_Interval: TypeAlias = Annotated[float, msgspec.Meta(ge=0.001, le=3_600)]
_Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Days: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=36_500)]
_Key: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]


class _File(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Table of the file, as it is written there. Unknown members are errors."""


class _Json(_File):
    directory: str | None = None
    files: dict[str, str] = {}
    include: list[_Key] | None = None
    unclaimed: Unclaimed = "refuse"
    checkpoint_interval: _Seconds = 1.0


class _Tls(_File):
    mode: SslMode | None = None
    root_certificate: str | None = None
    certificate: str | None = None
    key: str | None = None
    channel_binding: ChannelBinding | None = None
    require_auth: _Key | None = None


class _Server(_File):
    url: str | None = None
    url_env: str | None = None


class _Postgres(_Server):
    pool: _Count = 20
    connect_timeout: _Seconds = 2.0
    idle_timeout: _Seconds = 30.0
    connection_max_age: _Seconds = 1800.0
    statement_timeout: _Seconds = 30.0
    pooler: Pooler | None = None
    tls: _Tls = msgspec.field(default_factory=_Tls)


class _Redis(_Server):
    key: _Key | None = None


class _DualWrite(_File):
    secondary_timeout: _Patience | str = 1.0
    compare: _Share = 0.05
    ignore: list[str] = []
    switch_patience: _Patience = 30.0
    relay_interval: _Interval = 0.2
    retention_days: _Days = 7.0


class _Environment(_File):
    phase: str = Phase.JSON_ONLY.value
    schema: str | None = None
    json: _Json = msgspec.field(default_factory=_Json)
    postgres: _Postgres = msgspec.field(default_factory=_Postgres)
    redis: _Redis = msgspec.field(default_factory=_Redis)
    auto_switch: bool = False
    dual_write: _DualWrite = msgspec.field(default_factory=_DualWrite)


def load_settings(
    path: str | Path | None = None,
    environment: str | None = None,
    *,
    schema: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Read the settings of one environment.

    Args:
        path: the file; if None, ``PEND_CONFIG``, or else the ``pend.toml`` of the current
            directory, or of the nearest folder above it that has one.
        environment: its name; if None, ``PEND_ENV``, or else ``development``.
        schema: the schema module, instead of the one that the file names.
        environ: the environment variables.

    Raises:
        ConfigError: a setting is missing or wrong; the message names file and member.
    """
    # Empty variables count as unset: container tools set those that have no value.
    variables = {name: value for name, value in environ.items() if value}
    name = environment or variables.get("PEND_ENV") or DEFAULT_ENVIRONMENT
    file = find_file(path, variables)
    if file is None:
        _require_known(name, variables)
    read = _Environment() if file is None else _read_environment(file, name)
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
        dual_write=reader.dual_write(read.dual_write),
        absent=reader.absent(read),
    )


def _require_known(name: str, variables: Mapping[str, str]) -> None:
    """Refuse an unknown environment where there is no file: ``PEND_ENV`` names the only one."""
    known = variables.get("PEND_ENV") or DEFAULT_ENVIRONMENT
    if name != known:
        raise ConfigError(
            f"there is no environment {name!r}{did_you_mean(name, [known])} There is no "
            f"{DEFAULT_FILE} here or in a folder above, so the only environment is "
            f"{known!r}, of the environment variables; PEND_ENV names it."
        )


def _read_environment(file: Path, name: str) -> _Environment:
    content = _parse(file)
    for member in content:
        if member != "environments":
            raise ConfigError(
                f"{file}: unknown member {member!r} at the top level"
                f"{did_you_mean(member, ['environments'])} Everything belongs under "
                "[environments.NAME]."
            )
    environments = content.get("environments", {})
    if not isinstance(environments, dict):
        raise ConfigError(f"{file}: environments must be a table: [environments.NAME].")
    if name not in environments:
        known = ", ".join(environments) or "none"
        raise ConfigError(
            f"{file} has no environment {name!r}{did_you_mean(name, environments)} It has: "
            f"{known}. Choose one by --env or PEND_ENV."
        )
    try:
        return msgspec.convert(environments[name], _Environment)
    except msgspec.ValidationError as error:
        raise ConfigError(_explained(file, name, str(error))) from None


def _parse(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{file}, byte {error.start}: not UTF-8. Save the file as UTF-8."
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read: {error.strerror}. Correct its permissions."
        ) from error


_UNKNOWN_FIELD: Final = re.compile(r"contains unknown field `(?P<name>[^`]*)`")
_PLACE: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_TABLES: Final[dict[str, type[_File]]] = {
    "": _Environment,
    "json": _Json,
    "postgres": _Postgres,
    "postgres.tls": _Tls,
    "redis": _Redis,
    "dual_write": _DualWrite,
}


def _explained(file: Path, name: str, message: str) -> str:
    """Complete a message of msgspec by file and member, and suggest a known member."""
    found = _PLACE.match(message)
    what, path = (message, "") if found is None else found.group("what", "path")
    place = f"{file}, environments.{name}" + (f".{path}" if path else "")
    unknown = _UNKNOWN_FIELD.search(what)
    if unknown is None:
        return f"{place}: {what[:1].lower()}{what[1:]}."
    member = unknown["name"]
    table = _TABLES.get(path or "", _Environment)
    known = [f.name for f in msgspec.structs.fields(table)]
    return (
        f"{place}: unknown member {member!r}{did_you_mean(member, known)} Known here: "
        f"{', '.join(known)}."
    )


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
        return base / Path(text).expanduser()

    def _resolved_if(self, text: str | None) -> Path | None:
        return None if text is None else self._resolved(text)

    def schema(self, given: str | None, written: str | None) -> tuple[str, str | None]:
        """Return the schema module, and the place where it is named; None: the default."""
        if given:
            return given, "--schema"
        variable = self.variables.get("PEND_SCHEMA")
        if variable:
            return variable, "the environment variable PEND_SCHEMA"
        place = None if self.file is None else self._place("schema")
        return written or DEFAULT_SCHEMA, place

    def phase(self, written: str) -> Phase:
        word = self.variables.get("PEND_PHASE")
        place = "the environment variable PEND_PHASE" if word else self._place("phase")
        return parse_phase(word or written, place=place)

    def json(self, table: _Json) -> JsonSettings | None:
        variable = self.variables.get("PEND_JSON_DIRECTORY")
        if variable is not None:
            directory = Path(variable).expanduser().absolute()
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

    def postgres(self, table: _Postgres) -> PostgresSettings | None:
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

    def _database_url(self, table: _Postgres) -> str | None:
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

    def redis(self, table: _Redis) -> RedisSettings | None:
        url = self.variables.get("PEND_REDIS_URL")
        if url is None:
            url, _ = self._written_url("redis", table)
        return None if url is None else RedisSettings(url=url, key=table.key)

    def dual_write(self, table: _DualWrite) -> DualWriteSettings:
        for place in table.ignore:
            if not _IGNORED.fullmatch(place):
                raise ConfigError(
                    f"{self._place('dual_write.ignore')}: {place!r} is not a field of a "
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

    def _timeout(self, written: float | str) -> float | None:
        """Parse seconds; TOML has no null, so "unlimited" stands for it."""
        if not isinstance(written, str):
            return written
        if written == _UNLIMITED:
            return None
        raise ConfigError(
            f"{self._place('dual_write.secondary_timeout')}: expected seconds, or "
            f"{_UNLIMITED!r}, not {written!r}{did_you_mean(written, [_UNLIMITED])}"
        )

    def absent(self, read: _Environment) -> dict[str, str]:
        """List the environment variables that the file names, and that are not set."""
        tables: dict[str, _Server] = {"postgres": read.postgres, "redis": read.redis}
        return {
            name: table.url_env
            for name, table in tables.items()
            if table.url_env is not None and table.url_env not in self.variables
        }

    def _written_url(self, name: str, table: _Server) -> tuple[str | None, str]:
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
_IGNORED: Final = re.compile(r"[^.\s]+(\.[^.\s]+)+")
_URL_PARTS: Final = {
    "host": "DB_HOST",
    "port": "DB_PORT",
    "name": "DB_NAME",
    "user": "DB_USER",
    "password": "DB_PASSWORD",
}
