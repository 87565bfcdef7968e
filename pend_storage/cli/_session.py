"""Session of a command: global options, settings, output."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import click

from pend_storage._model.attribution import acting
from pend_storage._trusted_users import ALLOW_FOREIGN_OWNER, chain_of
from pend_storage.cli._exits import Exit
from pend_storage.cli._logs import LogFormat, show_logs
from pend_storage.cli._options import all_options
from pend_storage.cli._output import Output
from pend_storage.cli._run_as import OwnerGate

if TYPE_CHECKING:
    from pend_storage.config import Settings

__all__ = ["Session", "command_options", "global_options", "pass_session"]

Form: TypeAlias = Literal["table", "csv", "json"]


class Session:
    """Session of one run: the global options, and what is made from them on demand."""

    def __init__(self) -> None:
        self.config: str | None = None
        self.environment: str | None = None
        self.schema: str | None = None
        self.as_root = False
        self.by: str | None = None
        self.reason: str | None = None
        self.as_json = False
        self.form: Form | None = None
        self.wide = False
        self.no_color = False
        self.quiet = False
        self.verbose = 0
        self.log_level: str | None = None
        self.log_format: LogFormat | None = None

    @functools.cached_property
    def output(self) -> Output:
        """Writer of the output."""
        self.as_json = self.as_json or self.form == "json"
        return Output(
            as_json=self.as_json,
            as_csv=self.form == "csv" and not self.as_json,
            wide=self.wide,
            quiet=self.quiet,
            color=not (self.no_color or os.environ.get("NO_COLOR")),
        )

    def show_logs(self) -> None:
        """Configure the log by the options."""
        level = self.log_level
        if level is None and self.verbose:
            level = "info" if self.verbose == 1 else "debug"
        if level is None and self.quiet:
            level = "error"
        show_logs(level, self.log_format, as_json=self.output.as_json)

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings of the chosen environment, for a command that reads only.

        Raises:
            ConfigError: they are missing or wrong.
        """
        settings = self._settings
        if settings.file is None and settings.schema_named_by is None:
            self.output.note(
                "note: there is no pend.toml here or in a folder above; the settings are "
                f"those of the environment variables, with the schema {settings.schema}"
            )
        return settings

    @functools.cached_property
    def settings_to_change(self) -> Settings:
        """The settings of the chosen environment, for a command that changes something.

        Raises:
            ConfigError: they are missing or wrong, or no schema was named.
        """
        self._settings.require_schema()
        return self._settings

    @functools.cached_property
    def settings_to_open(self) -> Settings:
        """The settings for a command that opens the stores to read records.

        The first opening of a JSON directory records the schema there. A wrong schema
        would lock out the program that owns the files.

        Raises:
            ConfigError: they are missing or wrong, or the directory was never opened and
                no schema was named.
        """
        from pend_storage.stores.json import has_store

        settings = self.settings
        if settings.json and not has_store(settings.json.directory):
            settings.require_schema()
        return settings

    def settings_for(self, *, dry_run: bool) -> Settings:
        """Return the settings for a command that changes something, or for its dry run.

        Raises:
            ConfigError: as :attr:`settings_to_change` and :attr:`settings_to_open`.
        """
        return self.settings_to_open if dry_run else self.settings_to_change

    def act_as_owner(self, *paths: Path) -> None:
        """Become the owner of these paths before they are opened, where this is root.

        Raises:
            ConfigError: they belong to several users, or the change is not possible.
        """
        note = self._gate.pass_with(paths)
        if note is not None:
            self.output.note(note)

    @functools.cached_property
    def _gate(self) -> OwnerGate:
        if (
            self.as_root
        ):  # for the stores that the command opens, and its child processes
            os.environ[ALLOW_FOREIGN_OWNER] = "1"
        return OwnerGate(as_root=self.as_root)

    @functools.cached_property
    def _settings(self) -> Settings:
        from pend_storage.config import configuration_file, load_settings

        file = configuration_file(self.config)
        links = () if file is None else tuple(chain_of(file))
        # The file is not read before the process has become its owner.
        self.act_as_owner(*links, *(link.parent for link in links))
        settings = load_settings(self.config, self.environment, schema=self.schema)
        if self._gate.is_closed:
            self.act_as_owner(*_places_of(settings))
        file = settings.file
        if (
            file is not None
            and file.parent in Path.cwd().parents
            and not self._is_named
        ):
            self.output.note(f"note: the configuration is {file}")
        return settings

    @property
    def _is_named(self) -> bool:
        """True where an option or a variable names the configuration file."""
        return bool(self.config or os.environ.get("PEND_CONFIG"))

    def require_reason(self) -> str:
        """Return the reason that the command was given.

        Raises:
            click.UsageError: there is none, or it is empty.
        """
        if self.reason is None:
            raise click.UsageError("Missing option '--reason': it is kept.")
        if not self.reason.strip():
            raise click.UsageError("--reason must not be empty.")
        return self.reason

    def finish(self, code: Exit, result: Mapping[str, Any]) -> Exit:
        """End a command: write its JSON document if wanted, and return its exit code."""
        self.output.document(
            {
                "command": click.get_current_context().command_path,
                "ok": code is Exit.DONE,
                "exit_code": int(code),
                **result,
            }
        )
        return code


def _places_of(settings: Settings) -> list[Path]:
    """List what a command opens by its settings: records, and code."""
    from pend_storage.factory import schema_module_files

    places: list[Path] = []
    if settings.json is not None:
        places += [settings.json.directory, *settings.json.files.values()]
    for file in schema_module_files(settings):
        places += [file, file.parent]
    return places


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value and parameter.name is not None:
        setattr(context.ensure_object(Session), parameter.name, value)


def command_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a command; they may stand before or after its name."""
    return _with_options(function, hidden=True)


def global_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the same options to the program itself, whose help lists all of them."""
    return _with_options(function, hidden=False)


def _with_options(function: Callable[..., Any], *, hidden: bool) -> Callable[..., Any]:
    for option in reversed(all_options(_remember, hidden=hidden)):
        function = option(function)
    return function


def pass_session(function: Callable[..., Exit]) -> Callable[..., Exit]:
    """Pass the session to a command as its first argument, and add the options."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Exit:
        session = click.get_current_context().ensure_object(Session)
        session.show_logs()
        # Whatever the command commits and records is attributed, also in operations that
        # are called by others.
        with acting(by=session.by, reason=session.reason):
            return function(session, *args, **kwargs)

    return command_options(wrapper)
