"""Check of a schema module: a trial migration of a copy of the JSON files."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from pend_storage._files.by_path import make_directories, read_linked
from pend_storage._files.directory import Directory
from pend_storage._files.durability import write_all
from pend_storage._files.subtree import Subtree
from pend_storage._layouts.layout import Layout
from pend_storage._model.records import QuarantinedRecord
from pend_storage.backfill import BackfillReport, backfill
from pend_storage.config._database_url import overridden_url, url_fault
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.events import Event
from pend_storage.inspect import DirectoryReport
from pend_storage.inspect._directory_walk import Found, find_files
from pend_storage.operations.init import claimed_names, is_claimed
from pend_storage.operations.progress import Stage, silent
from pend_storage.schema import QUARANTINE, Schema
from pend_storage.validation import FileCheck, render_check

if TYPE_CHECKING:
    from pend_storage.stores.json import JsonStore
    from pend_storage.stores.postgres import PostgresStore

__all__ = ["CheckedFile", "InspectCheck", "check_module"]

_WORSE: Final = ("identical", "equal", "different", "missing")
_NAME: Final = "pend_storage_inspected_schema"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFile:
    """Result of the trial for one file."""

    file: str
    read: int
    placed: int
    quarantined: int
    reasons: Mapping[str, int]
    """Number of quarantined records by the code of the reason."""
    result: str
    """Comparison of the file rendered from PostgreSQL with the original: identical, equal
    (by value), different or missing."""

    @property
    def lost(self) -> int:
        """Records that are neither placed nor in quarantine."""
        return max(0, self.read - self.placed - self.quarantined)

    @property
    def ok(self) -> bool:
        """True where no record is lost, and the file can be rendered again."""
        return self.result in {"identical", "equal"} and not self.lost


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectCheck:
    """Result of a trial on a copy."""

    files: tuple[CheckedFile, ...]
    undeclared: tuple[str, ...]
    """JSON files that no layout of the module claims."""
    postgres: str
    """Name and version of the PostgreSQL that was used."""
    database_bytes: int
    seconds: float

    @property
    def placed(self) -> int:
        """Records that are in the database."""
        return sum(file.placed for file in self.files)

    @property
    def quarantined(self) -> int:
        """Records that wait in quarantine."""
        return sum(file.quarantined for file in self.files)

    @property
    def lost(self) -> int:
        """Records that are neither placed nor in quarantine."""
        return sum(file.lost for file in self.files)

    @property
    def ok(self) -> bool:
        """True where every file is declared, and is rendered equal by value."""
        return all(file.ok for file in self.files) and not self.undeclared


def check_module(
    module: Path,
    directory: Path,
    report: DirectoryReport,
    *,
    database: str | None = None,
    stage: Stage = silent,
) -> InspectCheck:
    """Check a schema module: adopt a copy of a directory, migrate it, render its files.

    The directory itself is only read.

    Args:
        module: file of the schema module.
        directory: the inspected directory.
        report: report of the inspection, for the names of the files.
        database: URL of a PostgreSQL, on which a database is created and dropped; None: a
            server is started for the trial.
        stage: gets the progress.

    Raises:
        ConfigError: the module cannot be imported, or declares no schema.
        StoreUnavailable: there is no PostgreSQL.
    """
    started = time.monotonic()
    schema, layouts = _load(module)
    with ExitStack() as stack:
        folder = tempfile.TemporaryDirectory(prefix="pend-inspect-")
        place = Path(stack.enter_context(folder))
        names = _names(directory, report)
        with stage("copying the files", unit="files"):
            originals, work = place / "originals", place / "work"
            # The second copy is adopted and rewritten; the first one stays to compare
            # with, since a server may write to the directory meanwhile.
            _copy(directory, originals, names)
            _copy(originals, work, names)
        url, version = stack.enter_context(_database(database))
        files, size = _run_trial((schema, layouts), (originals, work), url, stage)
    known = claimed_names(schema, layouts)
    return InspectCheck(
        files=tuple(files),
        undeclared=tuple(name for name in names if not is_claimed(name, known)),
        postgres=version,
        database_bytes=size,
        seconds=time.monotonic() - started,
    )


# -- the module ---------------------------------------------------------------------------


def _load(path: Path) -> tuple[Schema, tuple[Layout, ...]]:
    spec = importlib.util.spec_from_file_location(_NAME, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is not a Python module.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = module  # dataclasses resolve their annotations there
    try:
        spec.loader.exec_module(module)
        return _declared(module, path)
    except (SyntaxError, ImportError, NameError, OSError) as error:
        raise ConfigError(f"{path} cannot be imported: {error}. Correct it.") from error
    finally:
        del sys.modules[_NAME]


def _declared(module: ModuleType, path: Path) -> tuple[Schema, tuple[Layout, ...]]:
    schema: Any = getattr(module, "SCHEMA", None)
    if not isinstance(schema, Schema):
        raise ConfigError(f"{path} has no SCHEMA. Assign a pend_storage.Schema to it.")
    layouts: tuple[Layout, ...] = tuple(getattr(module, "LAYOUTS", ()))
    return schema, layouts


# -- the trial ----------------------------------------------------------------------------


def _names(directory: Path, report: DirectoryReport) -> list[str]:
    """List the files of a report, and every file of a folder of records."""
    wanted = {file.file for file in report.files}
    folders = {
        name.removesuffix("*.json") for name in wanted if name.endswith("*.json")
    }
    single = wanted - {f"{folder}*.json" for folder in folders}
    every: list[Found] = find_files(directory)[0]
    inside = {
        file.name
        for file in every
        if any(f"{file.name.rpartition('/')[0]}/".lstrip("/") == f for f in folders)
    }
    return sorted(single | inside)


def _copy(source: Path, target: Path, names: Sequence[str]) -> None:
    make_directories(target)
    with Subtree(Directory(target)) as copies:
        for name in names:
            try:
                content = read_linked(source / name)
            except (PermissionError, ConfigError):
                continue  # the report names it as a hazard
            fd = copies.create(name)
            try:
                write_all(fd, content)
            finally:
                os.close(fd)


@contextmanager
def _database(url: str | None) -> Iterator[tuple[str, str]]:
    """Create a database for the trial, and drop it afterwards; yields its URL and name."""
    if url is None:
        from pend_storage.testing.servers import (  # noqa: PLC0415 - optional
            temporary_postgres,
        )

        with temporary_postgres() as server:
            yield server.url, f"PostgreSQL {server.version}, started for this"
        return
    if (fault := url_fault(url)) is not None:
        raise ConfigError(f"--database: {fault}")
    name = f"pend_inspect_{uuid.uuid4().hex[:12]}"
    _run(url, "create database {}", name)
    try:
        yield overridden_url(url, {"name": name}), f"database {name}, removed again"
    finally:
        _run(url, "drop database if exists {} with (force)", name)


def _run(url: str, statement: Any, name: str) -> None:
    import psycopg  # noqa: PLC0415 - optional
    from psycopg import sql  # noqa: PLC0415

    from pend_storage.stores.postgres import open_session  # noqa: PLC0415 - optional

    try:
        with open_session(url) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigError(
            "--database: its user may not create databases. Name one who may, or leave "
            "--database out."
        ) from error
    except psycopg.Error as error:
        raise StoreUnavailable(
            str(error).strip().splitlines()[0], store="PostgreSQL"
        ) from error


def _run_trial(
    declared: tuple[Schema, Sequence[Layout]],
    places: tuple[Path, Path],
    url: str,
    stage: Stage,
) -> tuple[list[CheckedFile], int]:
    """Migrate the copy; returns the result of each file, and the size of the database."""
    from pend_storage.stores.json import JsonStore  # noqa: PLC0415 - as the factory
    from pend_storage.stores.postgres import PostgresStore  # noqa: PLC0415

    (schema, layouts), (originals, work) = declared, places
    with ExitStack() as stack:
        with stage("adopting the files"):
            source = stack.enter_context(
                JsonStore(schema, work, layouts=layouts, hook=_quiet)
            )
        target = stack.enter_context(
            PostgresStore(schema, url, layouts=layouts, hook=_quiet)
        )
        with stage("making the tables"):
            target.migrate()
        with stage("filling the database") as progress:
            filled = backfill(source, target, progress=progress)
        with stage("making the files again", unit="files") as progress:
            made = render_check(target, originals, progress=progress)
        size = target.inspect().size
        return [*_files(source, filled, made, target)], size


def _quiet(event: Event) -> None:
    """Drop the events of a trial: its result reports the same."""
    del event


def _files(
    source: JsonStore,
    filled: BackfillReport,
    made: Sequence[FileCheck],
    target: PostgresStore,
) -> Iterator[CheckedFile]:
    sources = {layout.file: layout.source for layout in target.layouts}
    reasons: dict[str, Counter[str]] = {}
    for row in target.scan(QUARANTINE):
        record: QuarantinedRecord = row.record
        file = sources.get(record.file, record.file)
        reasons.setdefault(file, Counter())[record.code] += 1
    read = {adopted.file: adopted.read for adopted in source.adoption_report()}
    by_file: dict[str, list[CheckedFile]] = {}
    for check in made:
        tally = filled.files.get(check.file)
        placed = tally.written + tally.unchanged if tally else 0
        waiting = tally.quarantined if tally else 0
        part = CheckedFile(
            file=sources[check.file],
            read=read.get(check.file, placed + waiting),
            placed=placed,
            quarantined=waiting,
            reasons=reasons.get(sources[check.file], {}),
            result=check.result,
        )
        by_file.setdefault(part.file, []).append(part)
    for parts in by_file.values():
        yield _joined(parts)


def _joined(parts: Sequence[CheckedFile]) -> CheckedFile:
    """Join the results of the collections that are one file."""
    return CheckedFile(
        file=parts[0].file,
        read=sum(part.read for part in parts),
        placed=sum(part.placed for part in parts),
        quarantined=sum(part.quarantined for part in parts),
        reasons=dict(parts[0].reasons),
        result=max((part.result for part in parts), key=_WORSE.index),
    )
