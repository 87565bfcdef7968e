"""Every operation that changes something takes an author and a reason."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from pend_storage import operations

CHANGING: Final = {
    "audit.prune_old",
    "audit.reveal",
    "audit.reveal_entries",
    "repair.repair",
    "backup.archive.archive_once",
    "backup.create.create_backup",
    "backup.drill.drill",
    "backup.promote.promote",
    "backup.restore.restore",
    "backup.retention.pin_backup",
    "backup.retention.prune_backups",
    "backup.undo.undo",
    "backup.verify.verify_backups",
    "check.check",
    "divergences.accept",
    "election.elect",
    "emergency.roll_back",
    "evolve.migrate_database",
    "evolve.migrate_directory",
    "jobs.ask",
    "jobs.request",
    "jobs.running_job",
    "jobs.settings_job",
    "migrate_json.migrate_json",
    "phase.advance",
    "phase.change_phase",
    "phase.go_back",
    "prune.prune_log",
    "purge.purge",
    "purge_older.purge_older",
    "quarantine.retry",
    "seed.seed",
    "tuning.reset_knob",
    "tuning.set_knob",
}
"""Operations that take ``by`` and ``reason``."""
NOTED: Final = {"quarantine.accept"}
"""Operations whose reason has another name, which is older."""


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Each public function of the operations, by module and name."""
    prefix = f"{operations.__name__}."
    for module in pkgutil.walk_packages(operations.__path__, prefix):
        if any(part.startswith("_") for part in module.name.split(".")[1:]):
            continue
        loaded = importlib.import_module(module.name)
        for name in getattr(loaded, "__all__", ()):
            value = getattr(loaded, name)
            if inspect.isfunction(value):
                yield f"{module.name.removeprefix(prefix)}.{name}", value


FUNCTIONS: Final = dict(public())


@pytest.mark.parametrize("name", sorted(CHANGING | NOTED))
def test_an_operation_takes_an_author_and_a_reason(name: str) -> None:
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    assert "by" in parameters
    assert ("note" if name in NOTED else "reason") in parameters


def test_the_operations_with_an_author_are_listed() -> None:
    taking = {
        name
        for name, function in FUNCTIONS.items()
        if "by" in inspect.signature(function).parameters
    }
    helping = {
        "phase.change_flag",
        "jobs.acted",
        "audit.record",
        "audit.record_done",
        "purge.enter",
    }
    assert taking - helping == CHANGING | NOTED
