"""``pend-storage backup``: the group, which imports a command when it is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

from pend_storage.cli._groups import LazyGroup
from pend_storage.cli._session import command_options

__all__ = ["backup"]

_COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "create": (f"{__package__}._create:create", "Make a backup, and verify it."),
    "archive": (
        f"{__package__}._archive:archive",
        "Copy the change log to the repository.",
    ),
    "list": (
        f"{__package__}._list:list_command",
        "Backups, with their state and window.",
    ),
    "show": (f"{__package__}._show:show", "One backup: parts, numbers, window, facts."),
    "verify": (f"{__package__}._verify:verify", "Read backups and compare them."),
    "restore": (
        f"{__package__}._restore:restore",
        "Restore to a store beside the live one.",
    ),
    "diff": (f"{__package__}._diff:diff", "Compare a restored store by value."),
    "promote": (f"{__package__}._promote:promote", "Make a restored store primary."),
    "undo": (f"{__package__}._undo:undo", "Write an earlier value of a record again."),
    "prune": (f"{__package__}._prune:prune", "Delete what the policy does not keep."),
    "pin": (f"{__package__}._pin:pin", "Keep a backup, whatever the policy."),
    "unpin": (f"{__package__}._pin:unpin", "Give a backup back to the policy."),
    "drill": (f"{__package__}._drill:drill", "Restore for trial, and measure it."),
    "schedule": (f"{__package__}._schedule:schedule", "Make backups at set times."),
}
"""Module and help line of each command. The help lines stand here, so that the help of the
group imports none of the modules."""


@click.group(cls=LazyGroup, table=_COMMANDS, short_help="Back up, verify, restore.")
@command_options
def backup() -> None:
    """Back up an environment, verify the backups, and restore from them."""
