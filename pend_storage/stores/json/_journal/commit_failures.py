"""Failed commits: which error each request of a batch ends with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pend_storage._group_commit import Request
from pend_storage.errors import PendStorageError, StoreUnavailable
from pend_storage.stores.json._journal.atomic_files import translate

__all__ = ["CommitFailures"]


class CommitFailures:
    """Errors of the requests of one store."""

    def __init__(self, name: str, directory: Path) -> None:
        """Make one.

        Args:
            name: how errors call the store.
            directory: where its files are.
        """
        self._name = name
        self._directory = directory

    @contextmanager
    def assigned_to(self, requests: Sequence[Request]) -> Iterator[None]:
        """Have requests that are not done at its error fail with that error."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - it is judged, and raised again
            self.fail(requests, error)

    def fail(self, requests: Sequence[Request], error: BaseException) -> None:
        """Have those that are not done fail; raises what is no error of a store."""
        if isinstance(error, OSError):
            error = translate(error, self._directory)
        failure = error
        if not isinstance(failure, PendStorageError):
            reason = "the commit was interrupted"
            failure = StoreUnavailable(reason, store=self._name, outcome_known=False)
        for request in requests:
            if not request.done:
                request.fail(failure)
        if failure is not error:
            raise error
