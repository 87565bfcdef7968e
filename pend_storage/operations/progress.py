"""Progress of the stages of a long command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from pend_storage.events import Progress

__all__ = ["Stage", "silent"]


class Stage(Protocol):
    """Context of one stage of a command, which may return a callback for its progress."""

    def __call__(
        self, label: str, /, *, unit: str = "records"
    ) -> AbstractContextManager[Progress | None]:
        """Begin a stage; it lasts as long as the context.

        Args:
            label: the stage, for people.
            unit: of what its progress counts.
        """


@contextmanager
def silent(label: str, /, *, unit: str = "records") -> Iterator[Progress | None]:
    """Run a stage without progress."""
    del label, unit
    yield None
