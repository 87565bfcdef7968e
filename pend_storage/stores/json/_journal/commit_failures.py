"""Failed commits: assigns each request of a batch its error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pend_storage._files.failures import translate
from pend_storage._group_commit import Request
from pend_storage.errors import PendStorageError, StoreUnavailable

__all__ = ["CommitFailures"]


class CommitFailures:
    """Translate what a failed batch raised into errors of its requests."""

    def __init__(self, name: str, directory: Path) -> None:
        """Create it.

        Args:
            name: of the store, in errors.
            directory: of its files, in errors.
        """
        self._name = name
        self._directory = directory

    @contextmanager
    def assigned_to(self, requests: Sequence[Request]) -> Iterator[None]:
        """Fail the requests that are not done when the block raises, with its error."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - it is judged, and raised again
            self.fail(requests, error)

    def fail(self, requests: Sequence[Request], error: BaseException) -> None:
        """Fail the requests that are not done; raise again what is no error of a store.

        An interrupt belongs to the thread that led the batch. The other threads get
        ``StoreUnavailable`` with ``outcome_known=False``: the frame may be on the disk.
        """
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
