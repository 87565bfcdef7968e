"""Prints of an environment: all that a look could change, to be compared before and after."""

from __future__ import annotations

import hashlib

import psycopg

from pend_storage.config import Settings

__all__ = ["print_of"]


def print_of(settings: Settings) -> dict[str, object]:
    """Return names, modes, times and contents of all files, and all rows of all tables."""
    assert settings.json is not None
    assert settings.postgres is not None
    assert settings.file is not None
    found: dict[str, object] = {}
    for path in sorted(settings.file.parent.rglob("*")):
        status = path.stat()
        content = (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        )
        name = str(path.relative_to(settings.file.parent))
        found[name] = (status.st_mode, status.st_mtime_ns, status.st_size, content)
    return found | _tables(settings.postgres.full_url)


def _tables(url: str) -> dict[str, object]:
    with psycopg.connect(url) as connection:
        names = connection.execute(
            "select schemaname, tablename from pg_tables "
            "where schemaname not in ('pg_catalog', 'information_schema') order by 1, 2"
        ).fetchall()
        return {
            f"{schema}.{name}": sorted(
                map(repr, connection.execute(f'select * from "{schema}"."{name}"'))
            )
            for schema, name in names
        }
