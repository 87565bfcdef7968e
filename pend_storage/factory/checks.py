"""What a configured environment knows of its readiness, besides what the pair knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pend_storage.config import Settings
from pend_storage.dualwrite.readiness import BACKUP_META, Check
from pend_storage.errors import ConfigError, SchemaOutOfDate
from pend_storage.store import Store

__all__ = ["ENVIRONMENT_META", "MIGRATION_META", "Checks", "require_environment"]

ENVIRONMENT_META: Final = "environment"
"""Name of the meta entry that says which environment a database belongs to."""
MIGRATION_META: Final = "migrate-json"
"""Name of the meta entry of the database that says which copy was made, when it was
verified, and whether the migration that it was made for has ended."""


class Checks:
    """The checks of one environment; the pair is told when there is one."""

    def __init__(self, settings: Settings, postgres: Store) -> None:
        self._settings = settings
        self._postgres = postgres
        self.pair: Store | None = None

    def by_code(self) -> Mapping[str, Check]:
        """The checks, by the code of the blocker that each may find."""
        return {"schema": self._schema, "backup": self._backup}

    def _schema(self) -> str | None:
        try:
            require_environment(self._settings, self._postgres)
        except (ConfigError, SchemaOutOfDate) as error:
            return str(error)
        return None

    def _backup(self) -> str | None:
        """Also the copy counts that ``migrate json`` makes and reads again."""
        if self.pair is not None and self.pair.meta(BACKUP_META) is not None:
            return None
        migration = self._postgres.meta(MIGRATION_META)
        if isinstance(migration, Mapping) and migration.get("verified_at"):
            return None
        return (
            "no backup of this environment was verified: `pend-storage migrate json` "
            "makes a copy of the JSON directory and verifies it"
        )


def require_environment(settings: Settings, postgres: Store) -> None:
    """See that the database does not belong to another environment.

    Raises:
        ConfigError: it does.
        SchemaOutOfDate: it must be migrated first.
        StoreUnavailable: it cannot be reached.
    """
    owner = postgres.meta(ENVIRONMENT_META)
    if owner not in {None, settings.environment}:
        raise ConfigError(
            f"{settings.place}: the database belongs to the environment {owner!r}. "
            "Correct the URL, or choose that environment by --env or PEND_ENV."
        )
