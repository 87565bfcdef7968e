"""The command line as a process of its own, in a directory of its own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import psycopg
import pytest
from psycopg import sql

import pend_storage as ps
from pend_storage.pend import SCHEMA
from pend_storage.sample_data import generate
from pend_storage.testing.fork_server import fork_server

_FOREIGN = ("PEND_", "DB_", "PG", "REDIS_", "DATABASE_")


def clean_environment() -> dict[str, str]:
    """The environment without anything that would configure the library."""
    return {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}


@dataclass(frozen=True)
class Result:
    """Result of a command."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its JSON document: exactly one line on the standard output."""
        assert self.out.count("\n") == 1, self.out + self.err
        return json.loads(self.out)


@dataclass(frozen=True)
class Site:
    """A server's place: a directory with ``pend.toml`` and ``data``, and a database."""

    path: Path
    url: str
    program: str = "pend_storage.cli.main:main"
    """Function that is called in place of the command."""

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def config(self) -> Path:
        return self.path / "pend.toml"

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pend_storage", *arguments]

    def environment(self, **more: str) -> dict[str, str]:
        return {**clean_environment(), **more}

    def run(self, *arguments: str, **environ: str) -> Result:
        """Run a command to its end, in a process whose imports are done."""
        with (
            TemporaryFile() as out,
            TemporaryFile() as err,
            Path(os.devnull).open() as no,
        ):
            process = fork_server().start(
                self.program,
                arguments,
                descriptors=[no.fileno(), out.fileno(), err.fileno()],
                environment=self.environment(**environ),
                directory=str(self.path),
                path=[str(self.path)],
            )
            try:
                code = process.wait(110)
            finally:
                process.kill()
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode())
            return Result(code, *texts)

    def run_afresh(self, *arguments: str, **environ: str) -> Result:
        """Run a command to its end, in an interpreter of its own."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.path,
            env=self.environment(**environ),
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def shell(self, script: str) -> Result:
        """Run a script of the shell."""
        done = subprocess.run(
            ["/bin/sh", "-c", script],
            cwd=self.path,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments: str, **environ: str) -> Any:
        """Run a command that must succeed; its JSON document."""
        result = self.run(*arguments, "--json", **environ)
        assert result.code == 0, result.out + result.err
        return result.document

    def configure(self, text: str) -> None:
        self.config.write_text(text, encoding="utf-8")

    def digest(self) -> dict[str, str]:
        """Every file below the site, by name: its SHA-256."""
        return {
            str(path.relative_to(self.path)): hashlib.sha256(
                path.read_bytes()
            ).hexdigest()
            for path in sorted(self.path.rglob("*"))
            if path.is_file()
        }

    def rows(self) -> dict[str, list[Any]]:
        """All rows of all tables of the database, in order."""
        with psycopg.connect(self.url) as connection:
            names = connection.execute(
                "select tablename from pg_tables where schemaname not in "
                "('pg_catalog', 'information_schema') order by 1"
            ).fetchall()
            return {
                name: connection.execute(
                    sql.SQL("select t::text from {} t order by 1").format(
                        sql.Identifier(name)
                    )
                ).fetchall()
                for (name,) in names
            }

    def change(self, statement: str) -> None:
        """Change the database behind the library's back."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())


_CONFIG = """
[environments.development]
phase = "json-only"
[environments.development.json]
directory = "data"
[environments.development.postgres]
url = "{url}"
"""


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The JSON files of a server with 40 users, one record in ten irregular."""
    directory = tmp_path_factory.mktemp("sample") / "data"
    generate(directory, users=40, irregular=0.1, seed=5)
    return directory


@pytest.fixture
def site(tmp_path: Path, postgres_url: str) -> Site:
    """A configured site without data, and with an empty database."""
    made = Site(tmp_path, postgres_url)
    made.configure(_CONFIG.format(url=postgres_url))
    return made


MakeSite = Callable[[Path], Site]


@pytest.fixture
def make_server(
    new_migrated_database: Callable[[ps.Schema], str], sample: Path
) -> MakeSite:
    """Makes sites with data, and with databases that have their tables."""

    def make(path: Path) -> Site:
        made = Site(path, new_migrated_database(SCHEMA))
        path.mkdir(exist_ok=True)
        made.configure(_CONFIG.format(url=made.url))
        subprocess.run(["cp", "-a", str(sample), str(made.data)], check=True)
        return made

    return make


@pytest.fixture
def server(tmp_path: Path, make_server: MakeSite) -> Site:
    """A site with data, and with a database that has its tables."""
    return make_server(tmp_path / "server")


@pytest.fixture(scope="session")
def make_site(databases: Any, sample: Path) -> MakeSite:
    """Makes sites with data, and with empty databases, that last as long as the run."""

    def make(path: Path) -> Site:
        made = Site(path, databases.make())
        made.configure(_CONFIG.format(url=made.url))
        subprocess.run(["cp", "-a", str(sample), str(made.data)], check=True)
        return made

    return make
