"""Workbench of a run: directories, databases, and its duration."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import msgspec
import psycopg
from psycopg import sql

__all__ = ["Plan", "Workbench"]

_FILLED: Final = ".complete"


@dataclass(frozen=True, slots=True)
class Plan:
    """Size of a measurement."""

    quick: bool = False
    rounds: int = 11
    seconds: float = 0.4
    """Length of a slice; work that cannot be cut takes as long as it takes."""


@dataclass(slots=True)
class Workbench:
    """Tools of a contender. Handed to child processes as JSON."""

    plan: Plan
    root: Path
    """An empty directory, removed at the end; on the disk that is measured."""
    database_url: str = ""
    """A database from which others can be made."""
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def directory(self, name: str) -> Path:
        """A new, empty directory."""
        path = self.root / f"{name}-{os.getpid()}-{next(self._numbers)}"
        path.mkdir(parents=True)
        return path

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a new, empty database that is dropped afterwards."""
        name = f"benchmark_{os.getpid()}_{next(self._numbers)}"
        with psycopg.connect(self.database_url, autocommit=True) as admin:
            admin.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        try:
            yield _with_database(self.database_url, name)
        finally:
            drop = sql.SQL("drop database {} with (force)")
            with psycopg.connect(self.database_url, autocommit=True) as admin:
                admin.execute(drop.format(sql.Identifier(name)))

    def kept(self, name: str) -> tuple[Path, bool]:
        """A directory that all contenders share, and whether it has been filled.

        The code that fills it calls :meth:`fill` at the end.
        """
        path = self.root / "kept" / name
        path.mkdir(parents=True, exist_ok=True)
        return path, (path.with_name(name + _FILLED)).exists()

    def fill(self, name: str) -> None:
        """Remember that a kept directory is complete."""
        (self.root / "kept" / (name + _FILLED)).touch()

    def to_json(self) -> str:
        """For a child process, which has directories of its own."""
        data = {
            "plan": self.plan,
            "root": str(self.root),
            "database_url": self.database_url,
        }
        return msgspec.json.encode(data).decode()

    @classmethod
    def from_json(cls, text: str) -> Workbench:
        """The workbench of the parent process."""
        data = msgspec.json.decode(text)
        plan = msgspec.convert(data["plan"], Plan)
        return cls(plan, Path(data["root"]), data["database_url"])


def _with_database(url: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
