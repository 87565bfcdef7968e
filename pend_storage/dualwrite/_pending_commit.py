"""Pending commits of one call: which have an answer, and which are repeated elsewhere.

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
"""A commit that went through, and its versions."""


class PendingCommit:
    """One of many commits, and what came of it so far."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._answer: Outcome | None = None

    def resolve(self, answer: Outcome) -> None:
        """Keep what the primary answered."""
        self._answer = answer

    def fail(self, error: PendStorageError) -> None:
        """End with an error that is shared by all that have no answer of their own."""
        if not self.is_settled:
            self._answer = own_copy(error)

    @property
    def is_settled(self) -> bool:
        """Whether this is the last word, also if another store is primary by now."""
        answer = self._answer
        return answer is not None and not _was_elsewhere(answer)

    @property
    def is_written(self) -> bool:
        """Whether it went through."""
        return isinstance(self._answer, tuple)

    @property
    def written(self) -> Written:
        """The commit and its versions; only where it went through."""
        assert isinstance(self._answer, tuple)  # noqa: S101 - see above
        return self.batch, self._answer

    @property
    def outcome(self) -> Outcome:
        """The answer."""
        assert self._answer is not None  # noqa: S101 - failed at the latest
        return self._answer


def _was_elsewhere(answer: Outcome) -> bool:
    """Whether nothing was done, and perhaps because another store is primary."""
    return isinstance(answer, StaleEpoch) or (
        isinstance(answer, StoreUnavailable) and answer.outcome_known
    )


def raise_unsettled(commits: Iterable[PendingCommit]) -> None:
    """Raise why some commits could not be carried out here, if there are such.

    A stale epoch first: it is certain that another look at the roles helps.
    """
    reasons = [c.outcome for c in commits if not c.is_settled]
    errors = [reason for reason in reasons if isinstance(reason, PendStorageError)]
    if errors:
        raise min(errors, key=lambda error: not isinstance(error, StaleEpoch))
