"""Seed of a fresh database: its environment, its role, its first records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pend_storage._transaction import Transaction
from pend_storage.config import Settings
from pend_storage.errors import ConfigError
from pend_storage.factory import (
    ENVIRONMENT_META,
    SchemaModule,
    load_schema,
    open_postgres,
)
from pend_storage.operations.progress import Stage, silent
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.sample_data import generate
from pend_storage.store import Store

__all__ = ["Sample", "SeedReport", "check_sample", "seed", "seeds_of", "write_missing"]

_SAMPLE_SCHEMA: Final = "pend_storage.pend"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Invented data that was written for development."""

    directory: Path
    users: int
    records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedReport:
    """Report of a seed; it is empty where everything was there already."""

    environment: str
    phase: str
    role: RoleState
    """Of the database, afterwards."""
    changed: tuple[str, ...]
    """What was written, in words."""
    records: int
    """Records of the schema module's ``SEED`` that were written."""
    sample: Sample | None


def seed(
    settings: Settings, *, sample: int | None = None, stage: Stage = silent
) -> SeedReport:
    """Write what a fresh database needs: its environment, its role, its first records.

    Harmless to repeat. Records of ``SEED`` belong to the store that is primary: while
    that is JSON, ``migrate json`` writes them there, and they come here with the rest.

    Args:
        settings: of the environment.
        sample: invent the data of so many users in the JSON directory, which must be
            empty.
        stage: gets the progress.

    Raises:
        ConfigError: the database belongs to another environment, or the directory is
            not empty; nothing was written then.
        SchemaOutOfDate: the database must be migrated first.
        StoreUnavailable: it cannot be reached.
    """
    if sample is not None:
        check_sample(settings)
    module = load_schema(settings)
    with open_postgres(settings) as store:
        changed = [*_belong(store, settings), *_take_role(store, settings)]
        role = store.role()
        # Once there is a role, it says what the configured phase only wants.
        has_role = store.meta(ROLE_META) is not None
        first = (
            role.role if has_role else settings.phase.postgres_role
        ) is Role.PRIMARY
        written = write_missing(store, module.seed) if first else 0
    made = None if sample is None else _invent(settings, sample, stage)
    return SeedReport(
        environment=settings.environment,
        phase=settings.phase.value,
        role=role,
        changed=tuple(changed),
        records=written,
        sample=made,
    )


def write_missing(store: Store, records: Iterable[Any]) -> int:
    """Write the records whose keys the store does not have; returns how many.

    What was there and is deleted stays so. Others may do the same at the same time. Records
    of a file that is unread are left out, since it may have them.
    """
    puts = [store.schema.put(type(record), record) for record in records]
    unknown = {file.collection for file in store.unread_files()}
    puts = [put for put in puts if put.collection not in unknown]

    def write(tx: Transaction) -> int:
        missing = [
            put
            for put in puts
            if tx.collection(put.collection).get(put.key) is None
            and not store.read(put.collection, (put.key,), deleted=True)
        ]
        for put in missing:
            tx.collection(put.collection).put(put.record)
        return len(missing)

    return store.run(write)


def _belong(store: Store, settings: Settings) -> list[str]:
    """Record the environment of the database, once and for all."""
    name = settings.environment
    if store.compare_and_set_meta(ENVIRONMENT_META, None, name):
        return [f"environment {name}"]
    owner = store.meta(ENVIRONMENT_META)
    if owner != name:
        raise ConfigError(
            f"{settings.place}: the database belongs to the environment {owner!r}. "
            "Correct the URL, or choose that environment by --env."
        )
    return []


def _take_role(store: Store, settings: Settings) -> list[str]:
    """Make a database that follows JSON secondary, so that it refuses other writers.

    In the other phases a database without a role stands alone, which serves as well.
    """
    role = settings.phase.postgres_role
    if role is not Role.SECONDARY or store.meta(ROLE_META) is not None:
        return []
    wanted = RoleState(role, 0)
    if store.compare_and_set_meta(ROLE_META, None, wanted.to_meta()):
        return [f"role {role.value}, epoch 0"]
    return []


def check_sample(settings: Settings) -> None:
    """Refuse to invent data for another schema, or in a directory that has files.

    Raises:
        ConfigError: it may not.
    """
    if settings.schema != _SAMPLE_SCHEMA:
        raise ConfigError(
            f"{settings.place}.schema is {settings.schema!r}, and data can be invented "
            f"for {_SAMPLE_SCHEMA!r} only."
        )
    directory = settings.require_json().directory
    if directory.exists() and any(directory.iterdir()):
        raise ConfigError(
            f"{directory} is not empty, and invented data goes into an empty directory "
            "only. Name another one."
        )


def _invent(settings: Settings, users: int, stage: Stage) -> Sample:
    directory = settings.require_json().directory
    with stage("inventing data") as progress:
        try:
            made = generate(directory, users=users, progress=progress)
        except (ValueError, FileExistsError) as error:
            raise ConfigError(f"{error}.") from error
    return Sample(directory=directory, users=users, records=made.total)


def seeds_of(module: SchemaModule, settings: Settings) -> tuple[Any, ...]:
    """Records of ``SEED`` that the JSON store must have in this phase."""
    return module.seed if settings.phase.json_role is Role.PRIMARY else ()
