"""Seed of a fresh database: its environment, its role, its first records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pend_storage._shown import shown
from pend_storage._transaction import Transaction
from pend_storage.config import Settings
from pend_storage.errors import ConfigError
from pend_storage.factory import (
    ENVIRONMENT_META,
    SchemaModule,
    load_schema,
    open_postgres,
)
from pend_storage.operations.jobs import running_job, staged
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
    """Report of a seed; it is empty where everything was present already."""

    environment: str
    phase: str
    role: RoleState
    """Role of the database, afterwards."""
    changed: tuple[str, ...]
    """Descriptions of the meta entries that were written."""
    records: int
    """Records of the schema module's ``SEED`` that were written."""
    sample: Sample | None


def seed(
    settings: Settings,
    *,
    sample: int | None = None,
    stage: Stage = silent,
    by: str | None = None,
    reason: str | None = None,
) -> SeedReport:
    """Seed a fresh database: write its environment, its role, its first records.

    Idempotent. Records of ``SEED`` belong to the primary: while that is JSON, ``migrate
    json`` writes them there, and the backfill copies them here.

    Args:
        settings: of the environment.
        sample: generate the data of so many users in the JSON directory, which must be
            empty.
        stage: gets the progress.
        by: who does it; None: the author of this context, or user, machine, process.
        reason: of the person; the job and the commits keep it.

    Raises:
        ConfigError: the database belongs to another environment, or the directory is
            not empty; nothing was written then.
        SchemaOutOfDate: the database must be migrated first.
        StoreUnavailable: the database cannot be reached.
    """
    if sample is not None:
        check_sample(settings)
    module = load_schema(settings)
    with (
        open_postgres(settings) as store,
        running_job(store, "seed", by=by, reason=reason) as job,
    ):
        changed = [*_claim_database(store, settings), *_claim_role(store, settings)]
        role = store.role()
        # A role is a fact; the configured phase is only what is wanted.
        has_role = store.meta(ROLE_META) is not None
        first = (
            role.role if has_role else settings.phase.postgres_role
        ) is Role.PRIMARY
        written = write_missing(store, module.seed) if first else 0
        stages, made = staged(job, stage), None
        if sample is not None:
            made = _generate_sample(settings, sample, stages)
        job.finish(f"{written:,} records of SEED written")
    return SeedReport(
        environment=settings.environment,
        phase=settings.phase.value,
        role=role,
        changed=tuple(changed),
        records=written,
        sample=made,
    )


def write_missing(store: Store, records: Iterable[Any]) -> int:
    """Write the records whose keys the store does not have; returns their number.

    Deleted records stay deleted. Other processes may do the same at the same time. Records
    of an unread file are left out, because the file may contain them.
    """
    puts = [store.schema.put(type(record), record) for record in records]
    unknown = {file.collection for file in store.unread_files()}
    puts = [put for put in puts if put.collection not in unknown]

    def write(tx: Transaction) -> int:
        # Tombstones are read, too: a record of SEED that was deleted stays deleted.
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


def _claim_database(store: Store, settings: Settings) -> list[str]:
    """Record the environment that the database belongs to; it never changes."""
    name = settings.environment
    if store.compare_and_set_meta(ENVIRONMENT_META, None, name):
        return [f"environment {name}"]
    owner = store.meta(ENVIRONMENT_META)
    if owner != name:
        raise ConfigError(
            f"{settings.place}: the database belongs to the environment {shown(owner)}. "
            "Correct the URL, or choose that environment by --env."
        )
    return []


def _claim_role(store: Store, settings: Settings) -> list[str]:
    """Make the database secondary in the phase ``parallel``, so that it refuses commits.

    In the other phases a database needs no role yet.
    """
    role = settings.phase.postgres_role
    if role is not Role.SECONDARY or store.meta(ROLE_META) is not None:
        return []
    wanted = RoleState(role, 0)
    if store.compare_and_set_meta(ROLE_META, None, wanted.to_meta()):
        return [f"role {role.value}, epoch 0"]
    return []


def check_sample(settings: Settings) -> None:
    """Refuse to generate data for another schema, or in a directory that has files.

    Raises:
        ConfigError: the schema is not Pend's, or the directory is not empty.
    """
    if settings.schema != _SAMPLE_SCHEMA:
        raise ConfigError(
            f"{settings.place}.schema is {shown(settings.schema)}, and data can be invented "
            f"for {_SAMPLE_SCHEMA!r} only."
        )
    directory = settings.require_json().directory
    if directory.exists() and any(directory.iterdir()):
        raise ConfigError(
            f"{directory} is not empty, and invented data goes into an empty directory "
            "only. Name another one."
        )


def _generate_sample(settings: Settings, users: int, stage: Stage) -> Sample:
    directory = settings.require_json().directory
    with stage("inventing data") as progress:
        try:
            made = generate(directory, users=users, progress=progress)
        except (ValueError, FileExistsError) as error:
            raise ConfigError(f"{error}.") from error
    return Sample(directory=directory, users=users, records=made.total)


def seeds_of(module: SchemaModule, settings: Settings) -> tuple[Any, ...]:
    """Return the records of ``SEED`` that belong to the JSON store in this phase."""
    return module.seed if settings.phase.json_role is Role.PRIMARY else ()
