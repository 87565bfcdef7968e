"""Progress of the stages of a long command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from pend_storage.events import Progress

__all__ = ["Stage", "silent"]


class Stage(Protocol):
    """Context of one stage of a long command; it may yield a callback for the progress."""

    def __call__(
        self, label: str, /, *, unit: str = "records"
    ) -> AbstractContextManager[Progress | None]:
        """Begin a stage, which ends with the context.

        Args:
            label: name of the stage, for people.
            unit: unit of the numbers of its progress.
        """


@contextmanager
def silent(label: str, /, *, unit: str = "records") -> Iterator[Progress | None]:
    """Run a stage without progress."""
    del label, unit
    yield None
