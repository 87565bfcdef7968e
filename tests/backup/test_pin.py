"""Commands ``backup prune``, ``pin`` and ``unpin`` on an environment."""

from __future__ import annotations

from pathlib import Path

from pend_storage.operations.backup.create import create_backup

from .environments import an_environment


def test_a_pinned_backup_outlives_the_policy(tmp_path: Path) -> None:
    env = an_environment(tmp_path, "keep = { last = 1 }")
    env.put("a")
    first = create_backup(env.settings).manifest.id
    second = create_backup(env.settings).manifest.id
    assert env.document("backup", "pin", first)["result"]["changed"] is True
    assert env.run("backup", "pin", "20990101").code == 2

    kept = env.document("backup", "prune")
    assert kept["deleted"] == []
    assert "pinned" in env.run("backup", "prune", "--dry-run").out
    env.document("backup", "unpin", first)
    said = env.document("backup", "prune", "--dry-run")
    assert said["deleted"] == [first]
    assert env.ids == [first, second]
    done = env.document("backup", "prune")

    assert done["deleted"] == [first]
    assert env.ids == [second]
