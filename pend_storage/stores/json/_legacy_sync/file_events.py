"""File events: ``file-busy`` and ``attributes-lost``, each reported once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from pend_storage.events import Event, Hook
from pend_storage.stores.json._legacy_sync.quiescence import QuiescentReader

__all__ = ["BusyFileEvents", "LostAttributeEvents"]

_BUSY: Final = 3.0
"""Seconds after which a busy file is reported."""


class BusyFileEvents:
    """Report ``file-busy`` once, and ``file-busy-over`` once."""

    def __init__(self, file: str, reader: QuiescentReader, hook: Hook) -> None:
        """Create it.

        Args:
            file: name.
            reader: of the file; knows whether it is quiescent.
            hook: receives the events.
        """
        self._file = file
        self._reader = reader
        self._hook = hook
        self._lost_since: float | None = None
        """Monotonic time since which every attempt to write the file met an edit."""
        self._is_reported = False

    def won(self) -> None:
        """Record a round in which the file was written, or need not be."""
        self._lost_since = None

    def lost(self) -> None:
        """Record a round in which each attempt to write met an edit."""
        if self._lost_since is None:
            self._lost_since = self._reader.clock.monotonic()

    def report(self, *, is_busy: bool) -> None:
        """Report a change after a round.

        Args:
            is_busy: the file could not be read or written in this round.
        """
        lost = self._lost_since
        behind = 0.0 if lost is None else self._reader.clock.monotonic() - lost
        if not self._is_reported and max(behind, self._reader.restless) >= _BUSY:
            self._is_reported = True
            message = self._message(behind, is_busy=is_busy)
            fields = {"file": self._file, "seconds": behind}
            self._hook(Event("file-busy", message, logging.WARNING, fields))
        elif self._is_reported and self._reader.is_quiet and lost is None:
            self._is_reported = False
            message = f"{self._file} is not written without a pause any more"
            self._hook(Event("file-busy-over", message, fields={"file": self._file}))

    def _message(self, behind: float, *, is_busy: bool) -> str:
        what = f"{self._file} is written by another program without a pause"
        if behind >= _BUSY:
            return (
                f"{what}: for {behind:.0f} seconds each attempt to write what is new in "
                "the store met an edit. Edits are adopted; commits are in the file when "
                "that program pauses"
            )
        if is_busy:
            return (
                f"{what}, and was never found whole: neither are its edits adopted, nor "
                "are commits in the file, until it is left whole for a moment. Have that "
                "program write a new file and rename it"
            )
        return (
            f"{what}. Its edits are adopted and commits are in the file, without waiting "
            "for a rest: have that program write a new file and rename it"
        )


class LostAttributeEvents:
    """Report ``attributes-lost`` once for each attribute that a rewrite could not keep."""

    def __init__(self, hook: Hook) -> None:
        self._hook = hook
        self._reported: set[str] = set()

    def report(self, target: Path, lost: tuple[str, ...]) -> None:
        """Report attributes that were not reported before.

        Args:
            target: the file.
            lost: names of attributes.
        """
        news = [what for what in lost if what not in self._reported]
        self._reported.update(news)
        if news:
            self._hook(
                Event(
                    "attributes-lost",
                    f"{target} was written anew, and could not keep: {', '.join(news)}. "
                    "Set them again, and run the server as the owner of the file, or "
                    "with the right to set them, to have them kept",
                    logging.WARNING,
                    {"file": str(target), "lost": news},
                )
            )
