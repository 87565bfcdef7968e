"""Environment of a server with a repository, for tests of whole journeys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pend_storage as ps
from pend_storage.backup._manifest import BackupManifest
from pend_storage.cli._app import run
from pend_storage.config import Settings, load_settings
from pend_storage.operations.backup.archive import archive_once
from pend_storage.operations.backup.create import create_backup
from pend_storage.store import Store
from pend_storage.testing.domain import a_log

__all__ = ["Site", "texts_of"]

_ONE_STORE = """
[environments.production]
phase = "{phase}"
schema = "pend_storage.testing.domain"
[environments.production.{kind}]
{place}
[environments.production.backup]
repository = "repository"
"""


@dataclass(frozen=True)
class Site:
    """Folder with ``pend.toml``, a store and a repository."""

    path: Path

    @classmethod
    def with_json(cls, path: Path) -> Site:
        (path / "data").mkdir(parents=True)
        return cls._made(path, "json-only", "json", 'directory = "data"')

    @classmethod
    def with_postgres(cls, path: Path, url: str, *more: str) -> Site:
        path.mkdir(exist_ok=True)
        place = "\n".join([f'url = "{url}"', *more])
        return cls._made(path, "postgres-only", "postgres", place)

    @classmethod
    def with_both(cls, path: Path, url: str) -> Site:
        (path / "data").mkdir(parents=True)
        site = cls._made(path, "parallel", "json", 'directory = "data"')
        more = f'[environments.production.postgres]\nurl = "{url}"\n'
        config = path / "pend.toml"
        config.write_text(config.read_text() + more)
        return site

    @classmethod
    def _made(cls, path: Path, phase: str, kind: str, place: str) -> Site:
        text = _ONE_STORE.format(phase=phase, kind=kind, place=place)
        (path / "pend.toml").write_text(text)
        (path / "pend.toml").chmod(0o600)
        return cls(path)

    @property
    def settings(self) -> Settings:
        return load_settings(self.path / "pend.toml", "production")

    def open(self) -> Store:
        return ps.open_store(self.path / "pend.toml", environment="production")

    def write(self, *texts: tuple[str, str | None]) -> list[int]:
        """Make one commit for each key and text; None deletes. Returns their numbers."""
        with self.open() as store:
            logs = store.collection("logs")
            for key, text in texts:
                if text is None:
                    logs.delete(key)
                else:
                    logs.put(a_log(key, text=text))
            return [c.sequence for c in store.changes()][-len(texts) :]

    def back_up(self) -> BackupManifest:
        return create_backup(self.settings).manifest

    def archive(self) -> None:
        archive_once(self.settings)

    def run(self, *arguments: str) -> int:
        """Run a command in this process; returns its exit code."""
        place = str(self.path / "pend.toml")
        return run(["--config", place, "--env", "production", *arguments])


def texts_of(store: Store) -> dict[str, str]:
    """Texts of the log lines, by key."""
    return {row.key: row.record.text for row in store.scan("logs")}
