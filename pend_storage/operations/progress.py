"""How a long operation tells what it is doing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from pend_storage.events import Progress

__all__ = ["Stage", "silent"]


class Stage(Protocol):
    """Opens a stage of an operation; what it gives, if anything, is told the progress."""

    def __call__(
        self, label: str, /, *, unit: str = "records"
    ) -> AbstractContextManager[Progress | None]:
        """The stage runs as long as the context lasts."""


@contextmanager
def silent(label: str, /, *, unit: str = "records") -> Iterator[Progress | None]:
    """A stage that tells nobody."""
    del label, unit
    yield None
