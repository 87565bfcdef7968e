"""Pending commits of one call: settled ones, and those to repeat at the new primary.

Some may be committed just before a switch and the others refused by it. Each is settled
once; those that were not written go along to the new primary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from pend_storage._model.records import Batch, Outcome
from pend_storage.errors import PendStorageError, StaleEpoch, StoreUnavailable, own_copy

__all__ = ["PendingCommit", "Written", "raise_unsettled"]

Written: TypeAlias = tuple[Batch, Sequence[int]]
"""A commit that was written, and its versions."""


class PendingCommit:
    """One of many commits, and its outcome so far."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._answer: Outcome | None = None

    def resolve(self, answer: Outcome) -> None:
        """Record the answer of the primary."""
        self._answer = answer

    def fail(self, error: PendStorageError) -> None:
        """Record an error of the whole call, unless the commit has an answer of its own."""
        if not self.is_settled:
            self._answer = own_copy(error)

    @property
    def is_settled(self) -> bool:
        """True where the outcome is final, also if another store is primary by now."""
        answer = self._answer
        return answer is not None and not _was_elsewhere(answer)

    @property
    def is_written(self) -> bool:
        """True where the commit was written."""
        return isinstance(self._answer, tuple)

    @property
    def written(self) -> Written:
        """The commit and its versions; only where it was written."""
        assert isinstance(self._answer, tuple)  # noqa: S101 - see above
        return self.batch, self._answer

    @property
    def outcome(self) -> Outcome:
        """Versions, or the error; only after an answer or a failure."""
        assert self._answer is not None  # noqa: S101 - failed at the latest
        return self._answer


def _was_elsewhere(answer: Outcome) -> bool:
    """Return whether the commit was not made, and may be repeated at another primary."""
    return isinstance(answer, StaleEpoch) or (
        isinstance(answer, StoreUnavailable) and answer.outcome_known
    )


def raise_unsettled(commits: Iterable[PendingCommit]) -> None:
    """Raise an error of the commits that could not be made here, if there are such."""
    reasons = [c.outcome for c in commits if not c.is_settled]
    errors = [reason for reason in reasons if isinstance(reason, PendStorageError)]
    if errors:
        # A stale epoch first: then it is certain that reading the roles again helps.
        raise min(errors, key=lambda error: not isinstance(error, StaleEpoch))
