"""Passive opening of an environment: its stores are looked at, and nothing is changed.

There is one way to look, for every command, health probe, exporter and console. A store
that cannot be read is a sentence beside the facts of the other one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

from pend_storage._extras import with_packages
from pend_storage._restored import require_usable
from pend_storage.config import Settings
from pend_storage.dualwrite._away_store import AwayStore
from pend_storage.dualwrite._pair import NAMES
from pend_storage.dualwrite._passive_pair import PassivePair
from pend_storage.dualwrite._roles import SIDES, Side
from pend_storage.errors import ConfigError, PendStorageError, StoreUnavailable
from pend_storage.events import Hooks, guarded, log_event
from pend_storage.factory._pair import backup_blocker, schema_blocker
from pend_storage.factory._schema_module import load_schema
from pend_storage.factory._sides import (
    connection_options,
    included_files,
    require_directory,
    require_environment,
)
from pend_storage.phases import ROLE_META, Role

if TYPE_CHECKING:
    from pend_storage.store import Store
    from pend_storage.stores.json import PassiveJsonStore
    from pend_storage.stores.postgres import PassivePostgresStore

__all__ = ["PassiveEnvironment", "has_begun", "open_passive", "open_passive_json"]

_SLOW: Final = 0.5
"""Seconds of a failed attempt after which the next one waits for a while."""
_TIMES: Final = 5.0
"""For how many times as long as the failed attempt took."""
_LONGEST: Final = 30.0


class PassiveEnvironment:
    """Stores of an environment, open for reading only.

    :meth:`refresh` begins a look, in one thread at a time; what is read afterwards, in any
    thread, is from then or later.
    """

    def __init__(self, settings: Settings, *, hook: Hooks = log_event) -> None:
        """Open the stores; arguments and errors as for :func:`open_passive`."""
        self.settings = settings
        self._hook = guarded(hook)
        self._module = load_schema(settings)
        self._postgres: PassivePostgresStore | None = None
        self._retry_at: dict[Side, float] = {}
        self._errors: dict[Side, PendStorageError] = {}
        self._shape: object = None
        self._last_pair: PassivePair | None = None
        self.json: PassiveJsonStore | None = None
        """None: not configured, fresh, or it cannot be read."""
        self.postgres: PassivePostgresStore | None = None
        """None: not configured, or it cannot be read."""
        self.is_fresh: bool = False
        """Whether the JSON directory has no store yet: no server has opened it."""
        self.pair: PassivePair | None = None
        """Facts of both stores; None: one side is not configured, they were never used as
        a pair, or :attr:`pair_error` stands against it."""
        self.pair_error: PendStorageError | None = None
        """Why the stores cannot be looked at as a pair; None: nothing does, or they were
        never one."""
        self.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close both stores. Idempotent."""
        with contextlib.ExitStack() as stack:
            for store in (self._postgres, self.json):
                if store is not None:
                    stack.callback(store.close)
        self.json = self.postgres = self._postgres = self.pair = None

    # -- the stores ---------------------------------------------------------------------

    def refresh(self) -> None:
        """Make the next facts those of now; it raises nothing.

        A store that cannot be read any more has a :meth:`problem` then, and one that is
        back is opened again. An attempt that took long is not repeated at once.
        """
        for side in SIDES:
            if time.monotonic() >= self._retry_at.get(side, 0.0):
                self._attempt(side)
        self._look_at_pair()

    def _attempt(self, side: Side) -> None:
        started = time.monotonic()
        self._errors.pop(side, None)
        try:
            if side == "json":
                self._look_at_json()
            else:
                self._look_at_postgres()
        except PendStorageError as error:
            self._errors[side] = error
            took = time.monotonic() - started
            pause = min(_TIMES * took, _LONGEST) if took > _SLOW else 0.0
            self._retry_at[side] = time.monotonic() + pause

    def _look_at_json(self) -> None:
        wanted, known = self.settings.json, self.json
        if wanted is None:
            return
        from pend_storage.stores.json import has_store

        self.json = None
        try:
            require_directory(self.settings, wanted.directory)
            self.is_fresh = not has_store(wanted.directory)
            if self.is_fresh:
                return
            if known is None:
                known = open_passive_json(
                    self.settings, wanted.directory, hook=self._hook
                )
            known.head()
            self.json, known = known, None
        finally:
            if known is not None:
                known.close()

    def _look_at_postgres(self) -> None:
        if self.settings.postgres is None:
            return
        self.postgres = None
        store = self._postgres
        if store is None:
            store = self._postgres = self._connected()
            store.require_readable()
        store.refresh()
        store.identity()  # reads every named value
        self.postgres = store

    def _connected(self) -> PassivePostgresStore:
        wanted = self.settings.require_postgres()
        with with_packages():
            from pend_storage.stores.postgres import (
                PassivePostgresStore,
            )
        return PassivePostgresStore(
            self._module.schema,
            wanted.full_url,
            layouts=self._module.layouts,
            **connection_options(wanted),
            hook=self._hook,
        )

    @property
    def stores(self) -> Mapping[Side, Store]:
        """The stores that can be read, by side."""
        found: dict[Side, Store] = {}
        if self.json is not None:
            found["json"] = self.json
        if self.postgres is not None:
            found["postgres"] = self.postgres
        return MappingProxyType(found)

    @property
    def is_unopened(self) -> bool:
        """True where reads would come from a JSON directory that no server has opened."""
        return (
            self._is_json_fresh
            and self.pair is None
            and self.pair_error is None
            and self.settings.phase.postgres_role is not Role.PRIMARY
        )

    def problem(self, side: Side) -> str | None:
        """Return why a store cannot be read; None where it can, or is not configured."""
        error = self._errors.get(side)
        return None if error is None else str(error)

    def require(self, side: Side) -> Store:
        """Return a store that can be read.

        Raises:
            ConfigError: it is not configured, or has no store yet.
            PendStorageError: why it cannot be read, as its own opening raises it.
        """
        if side in self._errors:
            raise self._errors[side]
        found = self.stores.get(side)
        if found is not None:
            return found
        if side == "postgres":
            self.settings.require_postgres()
        directory = self.settings.require_json().directory
        raise ConfigError(
            f"{self.settings.place}: no server has opened {directory} yet, and looking "
            "adopts nothing, so there is nothing to show. See what would be adopted: "
            f"pend-storage inspect {directory}"
        )

    def primary(self) -> Store:
        """Return the store from which the environment reads.

        Where no roles are set yet, the configured phase decides.

        Raises: as :meth:`require`; and :attr:`pair_error`.
        """
        settings = self.settings
        if self.pair_error is not None:
            raise self.pair_error
        if self.pair is not None:
            return self.require(self.pair.primary()[0])
        if settings.phase.postgres_role is Role.PRIMARY:
            return self.require("postgres")
        return self.require("json")

    # -- the pair -----------------------------------------------------------------------

    def _look_at_pair(self) -> None:
        """Bring :attr:`pair` and :attr:`pair_error` up to date."""
        self.pair_error = None
        settings = self.settings
        try:
            begun = [s for s, store in self.stores.items() if store.role().epoch > 0]
            if settings.json is None or settings.postgres is None or not begun:
                self.pair = self._shape = None
                return
            self._require_usable()
            pair = self._of_both()
            pair.roles()
        except PendStorageError as error:
            self.pair_error = error
            self.pair = self._shape = None
            return
        self.pair = pair

    def _require_usable(self) -> None:
        """Refuse stores that do not belong together, or may not be used yet.

        Raises:
            ConfigError: the database is another environment's; a store was restored from a
                backup, and not promoted.
        """
        place = self.settings.place
        if self.postgres is not None:
            require_environment(self.settings, self.postgres)
            require_usable(self.postgres, f"{place}: the database")
        if self.json is not None:
            require_usable(self.json, f"{place}: the JSON directory")

    def _of_both(self) -> PassivePair:
        """Return the pair; the same object as long as the same stores can be read."""
        shape = (self.json, self.postgres, *self._errors.values())
        if self.pair is not None and shape == self._shape:
            return self.pair
        self._shape = shape
        fresh: tuple[Side, ...] = ("json",) if self._is_json_fresh else ()
        json, postgres = (self.stores.get(side) or self._away(side) for side in SIDES)
        pair = PassivePair(
            json,
            postgres,
            fresh=fresh,
            checks={
                "schema": lambda: schema_blocker(self.settings, postgres),
                "backup": self._backup_blocker,
            },
            refresh=self._refresh_values,
        )
        if self._last_pair is not None:
            pair.recall(self._last_pair)
        self._last_pair = pair
        return pair

    @property
    def _is_json_fresh(self) -> bool:
        return self.is_fresh and "json" not in self._errors

    def _refresh_values(self) -> None:
        if self.postgres is not None:
            self.postgres.refresh()

    def _away(self, side: Side) -> Store:
        error = self._errors.get(side) or StoreUnavailable(
            "no server has opened the directory yet", store=NAMES[side]
        )
        return AwayStore(
            self._module.schema,
            error,
            name=NAMES[side],
            layouts=self._module.layouts,
        )

    def _backup_blocker(self) -> str | None:
        pair = self.pair
        if pair is None:
            return None
        return backup_blocker(self.settings, pair.stores, pair.values, pair.roles())


def open_passive_json(
    settings: Settings, directory: Path, *, hook: Hooks = log_event
) -> PassiveJsonStore:
    """Open a directory that has a store for reading: that of the environment, or a copy.

    Args:
        settings: of the environment.
        directory: with the store; where it is that of the environment, legacy files may
            lie elsewhere, as the settings have it.
        hook: gets the store's events; or several hooks.

    Raises:
        ConfigError: it has no store; or this process is root's, and the directory is not.
        CorruptFile: a file of the store is damaged.
        SchemaOutOfDate: it was written with another schema, or by a newer version.
    """
    from pend_storage.stores.json import PassiveJsonStore

    module, own = load_schema(settings), settings.json
    is_own = own is not None and own.directory.resolve() == directory.resolve()
    return PassiveJsonStore(
        module.schema,
        directory,
        layouts=module.layouts,
        files=own.files if own is not None and is_own else None,
        include=included_files(own) if own is not None and is_own else (),
        allow_foreign_owner=settings.allow_foreign_owner,
        hook=guarded(hook),
    )


def has_begun(settings: Settings) -> bool:
    """Return whether the JSON store has a role in a pair. Changes nothing.

    Raises: as :func:`open_passive_json`; and ``ConfigError`` without a directory.
    """
    from pend_storage.stores.json import has_store

    directory = settings.require_json().directory
    if not has_store(directory):
        return False
    with open_passive_json(settings, directory) as store:
        return store.meta(ROLE_META) is not None


@contextlib.contextmanager
def open_passive(
    settings: Settings, *, hook: Hooks = log_event
) -> Iterator[PassiveEnvironment]:
    """Open the stores of an environment to look at them; nothing is changed.

    No file is adopted, written, locked or made, no role is assigned, and every transaction
    of PostgreSQL is a read-only one. A directory that this user may only read, and a role
    that may only read the tables, are enough.

    Args:
        settings: of the environment.
        hook: gets the stores' events; or several hooks.

    Raises:
        ConfigError: the schema module cannot be loaded. A store that cannot be read is a
            :meth:`PassiveEnvironment.problem`, not an error.
    """
    with PassiveEnvironment(settings, hook=guarded(hook)) as environment:
        yield environment
