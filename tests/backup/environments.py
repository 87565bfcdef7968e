"""Environments of tests: a configuration, a JSON directory, a repository, and the commands."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from pend_storage.backup._catalog import Catalog
from pend_storage.config import Settings, load_settings
from pend_storage.factory import open_primary
from pend_storage.operations.backup.opening import open_repository
from pend_storage.store import Store
from pend_storage.testing.domain import Log, a_log
from pend_storage.testing.fork_server import fork_server

__all__ = ["Environment", "Result", "an_environment"]


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        assert self.out.count("\n") == 1, self.out + self.err
        return json.loads(self.out)


@dataclass(frozen=True)
class Environment:
    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "pend.toml"

    @property
    def settings(self) -> Settings:
        return load_settings(self.config, environ={})

    @property
    def catalog(self) -> Catalog:
        return Catalog(open_repository(self.settings))

    @property
    def ids(self) -> list[str]:
        return [b.id for b in self.catalog.backups()]

    def write(self, more: str = "", *, postgres: str | None = None) -> None:
        database = (
            ""
            if postgres is None
            else f'[environments.development.postgres]\nurl = "{postgres}"\n'
        )
        self.config.write_text(
            "[environments.development]\n"
            'schema = "pend_storage.testing.domain"\n'
            '[environments.development.json]\ndirectory = "data"\n'
            f"{database}"
            '[environments.development.backup]\nrepository = "repository"\n'
            f"{more}\n",
            encoding="utf-8",
        )

    @contextmanager
    def store(self) -> Iterator[Store]:
        with open_primary(self.settings) as store:
            yield store

    def put(self, *names: str, text: str = "") -> None:
        with self.store() as store:
            for name in names:
                store.collection(Log).put(a_log(name, text))

    def run(self, *arguments: str, **environ: str) -> Result:
        """Run a command to its end, in a process of its own."""
        foreign = ("PEND_", "DB_", "PG", "REDIS_", "DATABASE_", "AWS_")
        variables = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        with (
            TemporaryFile() as out,
            TemporaryFile() as err,
            Path(os.devnull).open() as no,
        ):
            process = fork_server().start(
                "pend_storage.cli.main:main",
                arguments,
                descriptors=[no.fileno(), out.fileno(), err.fileno()],
                environment={**variables, **environ},
                directory=str(self.folder),
                path=[str(self.folder)],
            )
            try:
                code = process.wait(110)
            finally:
                process.kill()
            texts = []
            for stream in (out, err):
                stream.seek(0)
                texts.append(stream.read().decode())
        return Result(code, *texts)

    def document(self, *arguments: str, code: int = 0) -> Any:
        result = self.run(*arguments, "--json")
        assert result.code == code, result
        return result.document


def an_environment(folder: Path, more: str = "") -> Environment:
    """An environment on a JSON directory alone."""
    made = Environment(folder)
    (folder / "data").mkdir(mode=0o700)
    made.write(more)
    return made
