from __future__ import annotations

import os
from pathlib import Path

import pytest

from pend_storage.operations.doctor import _memory as memory
from pend_storage.operations.doctor._findings import State
from pend_storage.operations.doctor._memory import memory_finding, needed_memory

MIB = 1 << 20


def sparse(path: Path, size: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.touch()
    os.truncate(path, size)
    return path


@pytest.mark.parametrize(
    ("free", "state"), [(700, State.OK), (600, State.WARN), (None, State.OK)]
)
def test_what_opening_needs_is_compared_with_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int | None, state: State
) -> None:
    monkeypatch.setattr(
        memory, "available_memory", lambda: None if free is None else free * MIB
    )
    file = sparse(tmp_path / "a.json", 100 * MIB)

    found = memory_finding(tmp_path / "own", [file, tmp_path / "missing.json"])

    assert (found.check, found.state) == ("memory", state)
    assert "about 664 MiB are needed" in found.message


def test_of_an_adopted_directory_the_newest_snapshot_counts(tmp_path: Path) -> None:
    own = tmp_path / "own"
    for name, size in (
        ("snapshot-00000001.jsonl", 900),
        ("snapshot-00000002.jsonl", 100),
        ("journal-00000002.jsonl", 10),
    ):
        sparse(own / name, size * MIB)

    assert needed_memory(own, [tmp_path / "a.json"]) == (64 + 2 * 110) * MIB


def test_a_container_may_have_less_than_its_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "meminfo"
    info.write_text("MemTotal: 9999 kB\nMemAvailable:   1000 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", info)
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.available_memory() == 1_024_000

    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert memory.available_memory() == 1_024_000

    (tmp_path / "memory.max").write_text("1000\n")
    assert memory.available_memory() == 600

    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "missing")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path / "missing")
    assert memory.available_memory() is None
