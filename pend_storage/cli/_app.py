"""Command tree, with the translation of errors to exit codes."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from pend_storage._extras import missing_package
from pend_storage._shown import cut, did_you_mean
from pend_storage.cli._exits import Exit, exit_of
from pend_storage.cli._groups import LazyGroup, NoCommand
from pend_storage.cli._logs import show_logs
from pend_storage.cli._options import wants_json
from pend_storage.cli._output import Output, plain
from pend_storage.cli._session import global_options
from pend_storage.errors import ConfigError, PendStorageError, StoreUnavailable

__all__ = ["root", "run"]

_PROGRAM: Final = "pend-storage"
_LONGEST_ATTRIBUTE: Final = 1_000
"""Characters of a text attribute of an error in the JSON document."""

_URL: Final = re.compile(r"(\w://).*", re.DOTALL)

_COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "demo": ("pend_storage.demo:demo", "See the whole migration on invented data."),
    "inspect": (
        "pend_storage.cli._inspect:inspect",
        "Look at the JSON files of any server.",
    ),
    "init": ("pend_storage.cli._init:init", "Write a configuration file."),
    "status": (
        "pend_storage.cli._status:status",
        "Phase, roles, lag, what is left to do.",
    ),
    "health": (
        "pend_storage.cli._health:health",
        "Whether the primary answers, for probes.",
    ),
    "console": (
        "pend_storage.cli._console:console",
        "Look and steer in a browser; health and metrics.",
    ),
    "doctor": (
        "pend_storage.cli._doctor:doctor",
        "Check everything, and say what to do.",
    ),
    "db": ("pend_storage.cli._db:db", "Prepare and check the database."),
    "json": (
        "pend_storage.cli._json:json",
        "Bring the JSON directory to another schema.",
    ),
    "migrate": (
        "pend_storage.cli._migrate:migrate",
        "Bring a JSON directory into the database.",
    ),
    "phase": (
        "pend_storage.cli._phase:phase",
        "Show the phase, and move to another one.",
    ),
    "repair": (
        "pend_storage.cli._repair:repair",
        "Make the secondary equal to the primary.",
    ),
    "relay": (
        "pend_storage.cli._relay:relay",
        "Bring the secondary up to date, until it is ended.",
    ),
    "rollback": (
        "pend_storage.cli._rollback:rollback",
        "Emergency: back to JSON alone, in five steps.",
    ),
    "jobs": (
        "pend_storage.cli._jobs:jobs",
        "Long work of all processes: look, pause, cancel.",
    ),
    "divergences": (
        "pend_storage.cli._divergences:divergences",
        "Confirmed differences between the stores.",
    ),
    "quarantine": (
        "pend_storage.cli._quarantine:quarantine",
        "Records that could not be placed.",
    ),
    "backup": (
        "pend_storage.cli._backup._group:backup",
        "Back up, verify, restore.",
    ),
    "audit": (
        "pend_storage.cli._audit:audit",
        "Who did what, and the proof of it.",
    ),
    "purge": (
        "pend_storage.cli._purge:purge",
        "Erase what is kept of deleted records.",
    ),
    "alerts": (
        "pend_storage.cli._alerts:alerts",
        "Alerts for Prometheus: the rules.",
    ),
    "completion": (
        "pend_storage.cli._completion:completion",
        "Completion for a shell: a script.",
    ),
}
"""Module and help line of each command. The help lines stand here, so that the help of the
program imports none of the modules."""


@click.group(
    cls=LazyGroup,
    table=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 found something, 2 wrong usage or configuration, "
    "3 a server, a disk or a lock cannot be had.",
)
@click.version_option(package_name="pend_storage", prog_name=_PROGRAM)
@global_options
def root() -> None:
    """Move a server from JSON files to PostgreSQL, with nothing lost.

    A fresh database, in this order: db migrate, db seed, migrate json, db validate.
    """


def run(arguments: Sequence[str]) -> int:
    """Run a command; returns the exit code. Never raises, except for a bug.

    Args:
        arguments: of the command line, without the program's name.
    """
    _accept_every_text()
    as_json = wants_json(arguments)
    show_logs(
        None, None, as_json=as_json
    )  # until the options of the command are parsed
    # Millions of records pass through, and they form no cycles; a collection after every
    # 700 new objects would take a third of the time.
    before = gc.get_threshold()
    gc.set_threshold(100_000, 20, 100)
    try:
        return _invoke_translated(arguments, as_json=as_json)
    finally:
        gc.set_threshold(*before)  # of a program that calls a command


def _invoke_translated(arguments: Sequence[str], *, as_json: bool) -> int:
    """Run a command; translate every error to its exit code."""
    try:
        return _invoke(arguments)
    except PendStorageError as error:
        return _fail(error, as_json=as_json)
    except BrokenPipeError:
        # The reader, such as head, has closed the pipe. The flush at the interpreter's
        # exit must not fail on it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("interrupted; call it again to go on\n")
        return Exit.INTERRUPTED


def _invoke(arguments: Sequence[str]) -> int:
    """Run a command; translates the errors of click and of the operating system."""
    try:
        code = root.main(list(arguments), prog_name=_PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as ending:
        return ending.exit_code
    except NoCommand as error:
        if wants_json(arguments):
            raise ConfigError(f"a command is missing. {_hint(error)}") from error
        sys.stderr.write(f"{error.message}\n")
        return Exit.USAGE
    except click.exceptions.NoSuchOption as error:
        known = did_you_mean(error.option_name, _options_of(error))
        raise ConfigError(
            f"there is no option {error.option_name}{known} {_hint(error)}"
        ) from error
    except click.ClickException as error:
        message = " ".join(error.format_message().split())  # choices are in lines
        # An argument in the wrong place may be a URL with a password.
        message = _URL.sub(r"\1***", message)
        raise ConfigError(f"{message} {_hint(error)}".rstrip()) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _from_system(error) from error
    except ModuleNotFoundError as error:
        missing = missing_package(error)
        if missing is None:
            raise
        raise missing from error
    return int(code or 0)


def _accept_every_text() -> None:
    """Let the output escape what its encoding lacks; a command must not end by that."""
    for stream in (sys.stdout, sys.stderr):
        # OSError: the descriptor of a file was replaced by that of a terminal.
        with contextlib.suppress(OSError):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")


def _hint(error: click.ClickException) -> str:
    """Point to the help of the command with the error."""
    context: click.Context | None = getattr(error, "ctx", None)
    return "" if context is None else f"See: {context.command_path} --help"


def _options_of(error: click.ClickException) -> list[str]:
    """List the options of the command with the error."""
    context: click.Context | None = getattr(error, "ctx", None)
    if context is None:
        return []
    return [
        name
        for parameter in context.command.params
        for name in parameter.opts
        if name.startswith("--")
    ]


def _from_system(error: OSError) -> PendStorageError:
    """Translate an error of the operating system that no lower layer has translated."""
    place = error.filename or "the operating system"
    if isinstance(error, PermissionError | FileNotFoundError | NotADirectoryError):
        return ConfigError(
            f"{place}: {error.strerror}. Correct the path or its rights."
        )
    return StoreUnavailable(error.strerror or str(error), store=str(place))


def _fail(error: PendStorageError, *, as_json: bool) -> int:
    code = exit_of(error)
    if as_json:
        facts: dict[str, Any] = {
            name: cut(value, _LONGEST_ATTRIBUTE) if isinstance(value, str) else value
            for name, value in vars(error).items()
            if name[:1] != "_"
        }
        Output(as_json=True).document(
            {
                "ok": False,
                "exit_code": int(code),
                "error": {
                    "type": type(error).__name__,
                    "message": str(error),
                    **plain(facts),
                },
            }
        )
    else:
        sys.stderr.write(f"error: {error}\n")
    return code
