"""Blocker ``backup`` of a configured pair: removed by a backup, and it comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pend_storage.factory import open_pair
from pend_storage.operations.backup.create import create_backup
from pend_storage.phases import Phase
from pend_storage.schema import Schema
from pend_storage.testing.domain import SCHEMA

from .environments import Environment, an_environment


def blocker(env: Environment) -> str | None:
    with open_pair(env.settings) as pair:
        found = pair.readiness(Phase.POSTGRES_PRIMARY).blockers
    return next((b.sentence for b in found if b.code == "backup"), None)


def test_a_backup_removes_the_blocker_until_it_is_old(
    tmp_path: Path, new_migrated_database: Callable[[Schema], str]
) -> None:
    env = an_environment(tmp_path)
    env.write("", postgres=new_migrated_database(SCHEMA))
    with open_pair(env.settings) as pair:
        pair.switch(Phase.PARALLEL)
    assert "no backup" in (blocker(env) or "")

    made = create_backup(env.settings)

    assert made.note is None
    assert blocker(env) is None
    env.write('max_age = "0.001s"', postgres=env.settings.require_postgres().url)
    assert made.manifest.id in (blocker(env) or "")
