"""What becomes of requests that cannot be carried out: each fails with why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pend_storage._group_commit import Request
from pend_storage.errors import PendStorageError, StoreUnavailable
from pend_storage.stores.json.disk import translate

__all__ = ["CommitFailures"]


class CommitFailures:
    """For the requests of one store."""

    def __init__(self, name: str, directory: Path) -> None:
        """Make one.

        Args:
            name: how errors call the store.
            directory: where its files are.
        """
        self._name = name
        self._directory = directory

    @contextmanager
    def of(self, requests: Sequence[Request]) -> Iterator[None]:
        """Have requests that are not done at its error fail with that error."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - it is judged, and raised again
            self.give_up(requests, error)

    def give_up(self, requests: Sequence[Request], error: BaseException) -> None:
        """Have those that are not done fail; raises what is no error of a store."""
        if isinstance(error, OSError):
            error = translate(error, self._directory)
        told = error
        if not isinstance(told, PendStorageError):
            reason = "the commit was interrupted"
            told = StoreUnavailable(reason, store=self._name, outcome_known=False)
        for request in requests:
            if not request.done:
                request.fail(told)
        if told is not error:
            raise error
