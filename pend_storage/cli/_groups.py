"""Command groups, with messages for a missing and an unknown command."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click
from typing_extensions import override

from pend_storage._shown import did_you_mean, shown

__all__ = ["CommandGroup", "LazyGroup", "NoCommand"]


class NoCommand(click.UsageError):
    """Call of a group without one of its commands; the message is the group's help."""


class _UnknownCommand(click.UsageError):
    """Call of a command that a group does not have."""


class CommandGroup(click.Group):
    """Group that suggests a command for a mistyped one, and shows its help for none."""

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            raise NoCommand(ctx.get_help(), ctx)
        return super().parse_args(ctx, args)

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if (
            self.get_command(ctx, name) is None
            and not ctx.resilient_parsing
            and not name.startswith("-")
        ):
            known = self.list_commands(ctx)
            raise _UnknownCommand(
                f"there is no command {shown(name)}{did_you_mean(name, known)} The commands "
                f"are: {', '.join(known)}.",
                ctx,
            )
        return super().resolve_command(ctx, args)

    @override
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            is_own = error.ctx is ctx and ctx.invoked_subcommand is None
            if not is_own or isinstance(error, _UnknownCommand):
                raise
            # Options were given, and no command: click raises its own short message here.
            raise NoCommand(ctx.get_help(), ctx) from error


class LazyGroup(CommandGroup):
    """Lazy group: imports the module of a command when the command is called."""

    def __init__(
        self, *args: Any, table: Mapping[str, tuple[str, str]], **options: Any
    ) -> None:
        """Make a group.

        Args:
            args: of a group of click.
            table: ``module:attribute`` and help line of each command.
            options: of a group of click.
        """
        super().__init__(*args, **options)
        self._table = table

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._table)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._table:
            return None
        module, _, attribute = self._table[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    @override
    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(n, text) for n, (_, text) in self._table.items()])
