"""What every command has: the global options, the settings, and where to write to."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec

import click

from pend_storage.cli.exits import Exit
from pend_storage.cli.output import Output

if TYPE_CHECKING:
    from pend_storage.config import Settings

__all__ = ["Session", "command_options", "pass_session"]

P = ParamSpec("P")


class Session:
    """One run of the command line."""

    def __init__(self) -> None:
        self.config: str | None = None
        self.environment: str | None = None
        self.as_json = False

    @functools.cached_property
    def output(self) -> Output:
        """Where to write to."""
        return Output(as_json=self.as_json)

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings of the chosen environment.

        Raises:
            ConfigError: they are missing or wrong.
        """
        from pend_storage.config import load_settings

        return load_settings(self.config, self.environment)

    def finish(self, code: Exit, result: Mapping[str, Any]) -> Exit:
        """End a command: its JSON document if wanted, and its exit code."""
        self.output.document(
            {
                "command": click.get_current_context().command_path,
                "ok": code is Exit.DONE,
                "exit_code": int(code),
                **result,
            }
        )
        return code


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value and parameter.name is not None:
        setattr(context.ensure_object(Session), parameter.name, value)


def command_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the global options; they may stand before or after a command's name."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


_OPTIONS = (
    click.option(
        "--config",
        metavar="FILE",
        expose_value=False,
        callback=_remember,
        help="Configuration file.  [default: PEND_CONFIG, or ./pend.toml]",
    ),
    click.option(
        "--env",
        "environment",
        metavar="NAME",
        expose_value=False,
        callback=_remember,
        help="Environment in it.  [default: PEND_ENV, or development]",
    ),
    click.option(
        "--json",
        "as_json",
        is_flag=True,
        expose_value=False,
        callback=_remember,
        help="One JSON document on the standard output, and nothing else.",
    ),
)


def pass_session(function: Callable[..., Exit]) -> Callable[..., Exit]:
    """Give the session to a command as its first argument, and add the options."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Exit:
        session = click.get_current_context().ensure_object(Session)
        return function(session, *args, **kwargs)

    return command_options(wrapper)
