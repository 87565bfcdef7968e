"""Global options; they may stand before or after the name of the command."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import click

from pend_storage.cli._logs import LEVELS

__all__ = ["FORMATS", "all_options", "main_options", "wants_json"]

FORMATS = ("table", "csv", "json")
"""Formats of a result."""

Remember = Callable[[click.Context, click.Parameter, Any], None]


def main_options(remember: Remember) -> list[Callable[..., Any]]:
    """Return the options that help shows for each command."""
    option = functools.partial(
        click.option, expose_value=False, callback=remember, is_eager=True
    )
    return [
        option(
            "--config",
            metavar="FILE",
            help="Configuration file.  [default: PEND_CONFIG, or pend.toml here or in a "
            "folder above]",
        ),
        option(
            "--env",
            "environment",
            metavar="NAME",
            help="Environment in it.  [default: PEND_ENV, or development]",
        ),
        option(
            "--schema",
            metavar="MODULE",
            help="Schema module.  [default: PEND_SCHEMA, or what the file says]",
        ),
        option(
            "--json",
            "as_json",
            is_flag=True,
            help="One JSON document on the standard output, and nothing else.",
        ),
    ]


def all_options(remember: Remember, *, hidden: bool) -> list[Callable[..., Any]]:
    """Return all options; the rest is hidden where help is about one command."""
    option = functools.partial(
        click.option,
        expose_value=False,
        callback=remember,
        is_eager=True,
        hidden=hidden,
    )
    return [
        *main_options(remember),
        option(
            "--format",
            "form",
            type=click.Choice(FORMATS),
            help="How tables are written; json is the same as --json.  [default: table]",
        ),
        option(
            "--as-root",
            is_flag=True,
            help="As root, keep root's rights on files of another user, who is trusted.",
        ),
        option(
            "--by",
            metavar="NAME",
            help="Who does it, for the records.  [default: user, machine and process]",
        ),
        option("--reason", metavar="TEXT", help="Why, for the records."),
        option("--wide", is_flag=True, help="No cards on a narrow terminal."),
        option("--no-color", is_flag=True, help="No colours; as with NO_COLOR set."),
        option("-q", "--quiet", is_flag=True, help="The result and errors, no more."),
        option(
            "-v", "--verbose", count=True, help="Show the log from info; twice: debug."
        ),
        option(
            "--log-level",
            type=click.Choice(LEVELS, case_sensitive=False),
            help="The least level of the log that is shown.",
        ),
        option(
            "--log-format",
            type=click.Choice(["text", "json"]),
            help="How a line of the log looks, on the standard error.",
        ),
    ]


def wants_json(arguments: Sequence[str]) -> bool:
    """Return whether a command line asks for JSON.

    The arguments are searched, not parsed: an error of the parser must be reported as
    JSON, too.
    """
    if "--json" in arguments or "--format=json" in arguments:
        return True
    return ("--format", "json") in itertools.pairwise(arguments)
