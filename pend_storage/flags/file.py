"""Phase flag in the configuration file ``pend.toml``."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from pend_storage._extras import with_packages
from pend_storage._files.by_path import read_linked
from pend_storage._files.linked import LinkedFile
from pend_storage._shown import cut, shown
from pend_storage._trusted_users import LARGEST_CONFIGURATION
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.flags.source import DesiredPhase, FlagSource
from pend_storage.phases import Phase, parse_phase

__all__ = ["FileFlag"]

_ATTEMPTS: Final = 10
"""Times that a write is tried while another program changes the file."""


class FileFlag(FlagSource):
    """Phase flag in the member ``phase`` of one environment of a configuration file.

    The file is read anew each time: it is small, and its time of change does not always
    distinguish two edits. A write replaces that one word, and leaves the rest of the file,
    comments included, as it is. Readers see the old file or the new one, never a part.
    """

    def __init__(self, path: str | Path, environment: str) -> None:
        """Args: path: the file. environment: which of its environments."""
        self.path: Path = Path(path).absolute()
        self.environment = environment
        self._last: tuple[bytes, DesiredPhase | None] | None = None

    @property
    @override
    def place(self) -> str:
        return f"{self.path}, environments.{self.environment}.phase"

    @property
    @override
    def writable(self) -> bool:
        # The file is replaced, not written to: the permissions of its directory count.
        return os.access(self.path.resolve().parent, os.W_OK)

    @override
    def read(self) -> DesiredPhase | None:
        content, last = self._content(), self._last
        if last is None or last[0] != content:
            last = self._last = content, self._wanted(content)
        return last[1]

    def _content(self) -> bytes:
        try:
            return read_linked(self.path, limit=LARGEST_CONFIGURATION)
        except OSError as error:
            reason = f"it cannot be read: {error.strerror}"
            raise StoreUnavailable(reason, store=str(self.path)) from error

    def _wanted(self, content: bytes) -> DesiredPhase | None:
        table = self._table(self._parsed(content))
        word = table.get("phase")
        if word is None:
            return None
        if not isinstance(word, str):
            raise ConfigError(
                f'{self.place}: expected a word in quotes, such as "parallel", not '
                f"{shown(word)}."
            )
        return DesiredPhase(parse_phase(word, place=self.place), self.place)

    def _parsed(self, content: bytes) -> dict[str, Any]:
        try:
            return tomllib.loads(content.decode())
        except (ValueError, RecursionError) as error:  # a number of 5,000 digits, too
            raise ConfigError(
                f"{self.path} is not valid TOML: {cut(str(error))}."
            ) from None

    def _table(self, document: Any) -> Any:
        """Return the environment's table of a document of tomllib or of tomlkit."""
        tables = document.get("environments")
        table = tables.get(self.environment) if isinstance(tables, dict) else None
        if not isinstance(table, dict):
            raise ConfigError(
                f"{self.path} has no environment {shown(self.environment)}. Add the table "
                f"[environments.{self.environment}]."
            )
        return table

    @override
    def write(self, phase: Phase, *, by: str) -> DesiredPhase:
        for _ in range(_ATTEMPTS):
            before = self._content()
            after = self._edited(before, phase)
            if after == before or self._replaced(before, after):
                return DesiredPhase(phase, self.place)
        raise ConfigError(
            f"{self.path} was changed by another program during each of {_ATTEMPTS} "
            f'attempts to write it. Set phase = "{phase.value}" there by hand.'
        )

    def _edited(self, content: bytes, phase: Phase) -> bytes:
        """Return the content with another phase; comments and order stay."""
        with with_packages(
            user="changing the phase in a file",
            instead=f'Or set phase = "{phase.value}" in {self.path} by hand.',
        ):
            import tomlkit  # noqa: PLC0415 - only those who write need it
        expected = self._parsed(content)
        self._table(expected)["phase"] = phase.value
        try:
            document = tomlkit.parse(content.decode())
            table = self._table(document)
            old = table.get("phase")
            is_text = isinstance(old, tomlkit.items.String)
            is_literal = is_text and old.as_string().startswith("'")
            table["phase"] = tomlkit.string(phase.value, literal=is_literal)
            edited = tomlkit.dumps(document).encode()
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
            edited = content  # its parser does not know everything that TOML allows
        # The edit is checked by another parser: a file in an unusual form, such as dotted
        # keys, must not lose a setting.
        if self._parsed(edited) != expected:
            raise ConfigError(
                f"{self.path} is written in a way that only a person can edit. Set "
                f'phase = "{phase.value}" for {shown(self.environment)} there by hand.'
            )
        return edited

    def _replaced(self, before: bytes, after: bytes) -> bool:
        """Replace the file atomically; False where another process has changed it."""
        try:
            # Replaces the target of a link, not the link.
            with LinkedFile(self.path) as file:
                file.directory.replace(
                    file.name, self._unless_changed(before, after), model=file.status()
                )
        except _ChangedError:
            return False
        except OSError as error:
            raise ConfigError(
                f"{self.path} cannot be written: {error.strerror}. Correct the "
                "permissions of its directory, or set the phase there by hand."
            ) from error
        return True

    def _unless_changed(self, before: bytes, after: bytes) -> Iterator[bytes]:
        """Yield the new content, and verify that it is still to replace the old one."""
        yield after
        if self._content() != before:
            raise _ChangedError


class _ChangedError(Exception):
    """Another program has changed the file meanwhile."""
