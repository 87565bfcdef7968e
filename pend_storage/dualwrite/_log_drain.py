"""Drain of the change log: apply its rest to the secondary, from its mark.

Each pass reads the log from the entry at the mark, which must be the one that the mark was
made on, and each apply continues the mark that is stored: where the stored one is another,
another process has moved it, or another server stands behind the address, and the pass
begins anew from what is there.

Batches are bounded (:mod:`~pend_storage.dualwrite._batch_limit`) and never pass a commit that
is refused. Such a commit is found by halving; then it is applied together with the current
rows of the primary (:mod:`~pend_storage.dualwrite._current_rows`), and if that is refused
too, it is the obstacle at which the drain stops. The next drain tries this commit first,
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from typing_extensions import override

from pend_storage._model.diff import equal
from pend_storage._model.records import JSON, Advance, ChangedRecord
from pend_storage._redaction import record_label
from pend_storage.crashpoints import declare
from pend_storage.dualwrite._batch_limit import Backlog, BatchLimit, Entry
from pend_storage.dualwrite._circuit_breaker import OUT_OF_REACH, why
from pend_storage.dualwrite._current_rows import current_rows
from pend_storage.dualwrite._replication_position import (
    POSITION_META,
    ReplicationPosition,
    changes_after,
)
from pend_storage.errors import (
    ChangesExpired,
    InvalidRecord,
    PendStorageError,
    ReferenceViolation,
    StalePosition,
    UniqueViolation,
)
from pend_storage.store import Store

__all__ = ["REFUSALS", "LogDrain", "Obstacle", "drain"]

REFUSALS: Final = (UniqueViolation, ReferenceViolation, InvalidRecord)
"""Errors of a secondary where rows came before their turn, or where it holds others."""
_MOST_SETBACKS: Final = 20
"""Passes in a row that may end without progress of the mark."""
_SHOWN: Final = 3

_READ: Final = declare("relay.read", "a part of the change log is read, not applied")
_APPLIED: Final = declare("relay.applied", "it is applied, and so is the mark")


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Commit that the secondary refuses or does not answer, though it answers other calls."""

    after: int
    """The mark: everything up to here is applied."""
    sequence: int
    """Of the commit."""
    commits: int
    """1, or how many were tried together."""
    keys: str
    """Keys that it changes, in short."""
    reason: str
    """Why it is not applied."""
    error: PendStorageError
    """Error of the last call."""

    @property
    def is_refused(self) -> bool:
        """True: it breaks a rule there. False: the call was not answered in time."""
        return isinstance(self.error, REFUSALS)

    @override
    def __str__(self) -> str:
        what = (
            "commit" if self.commits == 1 else f"a batch of {self.commits} commits from"
        )
        return (
            f"the mark stands at {self.after}, and {what} {self.sequence} ({self.keys}) "
            f"is not applied: {self.reason}"
        )


class _Restart(Exception):
    """Raised where a call was not answered, to read the mark again."""

    def __init__(self, error: PendStorageError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(slots=True)
class LogDrain:
    """Drain of one log. Batch limit, obstacle and mark are kept from one drain to the next."""

    on_rewound: Callable[[ReplicationPosition, ReplicationPosition | None], None] = (
        lambda _before, _now: None
    )
    """Called with the mark that was known, and the one found, where that lies before it:
    the secondary has lost commits."""
    on_obstacle: Callable[[Obstacle], None] = lambda _: None
    """Called at each attempt that failed though the secondary answers otherwise."""
    on_moved: Callable[[], None] = lambda: None
    """Called after each apply."""
    room: BatchLimit = field(default_factory=BatchLimit)
    obstacle: Obstacle | None = None
    """Commit at which the last drain stopped."""
    _known: tuple[int, ReplicationPosition] | None = None
    """The latest mark, and the epoch."""

    def run(
        self,
        primary: Store,
        follower: Store,
        epoch: int,
        *,
        between: Callable[[], None] = lambda: None,
    ) -> int:
        """Apply the rest of the log to the follower.

        Args:
            primary: whose log it is.
            follower: where to apply.
            epoch: at which the follower must be secondary.
            between: called before each call; what it raises ends the drain there.

        Returns:
            The number of commits that were applied.

        Raises:
            StaleEpoch: the follower is not secondary at that epoch any more.
            StalePosition: the mark is set back again and again.
            ChangesExpired: the log does not reach back to the mark.
            ConfigError: the primary was rewound.
            StoreUnavailable: a store cannot be reached, or a single commit is not
                answered; :attr:`obstacle` distinguishes the two.
            UniqueViolation, ReferenceViolation, InvalidRecord: a commit is refused;
                :attr:`obstacle` has it.
        """
        job = _DrainJob(primary, follower, epoch, between)
        commits = setbacks = 0
        while True:
            stored = follower.meta(POSITION_META)
            pass_ = _DrainPass(self, job, self._compare_known(stored, job), stored)
            try:
                pass_.apply_all()
                return commits + pass_.commits
            except (StalePosition, _Restart) as trouble:
                between()
                setbacks = 0 if pass_.commits else setbacks + 1
                if setbacks > _MOST_SETBACKS:
                    raise getattr(trouble, "error", trouble) from None
            finally:
                self._known = (epoch, pass_.mark)
            commits += pass_.commits

    def _compare_known(self, stored: JSON, job: _DrainJob) -> ReplicationPosition:
        """Return the stored mark, having compared it with the one that was known."""
        mark = ReplicationPosition.parse(stored)
        before, known = self._known or (0, None)
        if (
            known is not None
            and before == job.epoch
            and (
                mark is None
                or (mark.source == known.source and mark.sequence < known.sequence)
            )
        ):
            self._known = None
            self.on_rewound(known, mark)
        if mark is None:
            head = job.primary.head()
            raise ChangesExpired(store="the change log", after=0, oldest=head)
        return mark


class _DrainJob(NamedTuple):
    """Arguments of :meth:`LogDrain.run`."""

    primary: Store
    follower: Store
    epoch: int
    between: Callable[[], None]


class _DrainPass:
    """One pass over the log from the mark."""

    def __init__(
        self, state: LogDrain, job: _DrainJob, mark: ReplicationPosition, stored: JSON
    ) -> None:
        self._state = state
        self._primary, self._follower, self._epoch, self._between = job
        self._stored = stored
        self._suspects = 0
        """Commits of a refused batch that are not applied yet."""
        self._few: int | None = None
        """Commits in the next call at most, while a refused one is looked for."""
        self.mark = mark
        self.commits = 0

    def apply_all(self) -> None:
        """Apply the log to its end."""
        state = self._state
        backlog = Backlog(changes_after(self._primary, self.mark), self._primary.schema)
        if state.obstacle is not None and state.obstacle.after == self.mark.sequence:
            self._suspects = self._few = 1  # the obstacle of the last drain goes alone
        else:
            state.obstacle = None
        while batch := backlog.take(state.room, self._few):
            _READ()
            self._between()
            try:
                self._apply(batch)
            except REFUSALS as refusal:
                # Halving finds the refused commit in few calls, and applies all before it.
                if len(batch) > 1:
                    backlog.put_back(batch)
                    self._suspects, self._few = len(batch), len(batch) // 2
                    continue
                self._apply_current(batch[0], refusal)
            self._passed(len(batch))

    def _passed(self, count: int) -> None:
        self._state.obstacle = None
        self._suspects = max(0, self._suspects - count)
        self._few = max(1, self._suspects // 2) if self._suspects else None

    def _apply(
        self, batch: Sequence[Entry], more: Sequence[ChangedRecord] = ()
    ) -> None:
        records = [item for entry in batch for item in entry.load.records]
        # One transaction for rows and mark: after a crash neither is there without the
        # other. The mark is a compare-and-set on the one that was read, so a relay that
        # was overtaken, or a secondary that was rewound, fails instead of skipping entries.
        moved = self.mark.moved(batch[-1].change)
        value = moved.to_meta()
        advance = Advance(POSITION_META, self._stored, value)
        size = sum(entry.load.bytes for entry in batch)
        try:
            self._follower.apply([*records, *more], epoch=self._epoch, mark=advance)
        except OUT_OF_REACH as error:
            self._unanswered(batch, len(records), size, error)
        _APPLIED()
        self._state.room.grow(len(records), size)
        self.mark, self._stored = moved, value
        self.commits += len(batch)
        self._state.on_moved()

    def _unanswered(
        self, batch: Sequence[Entry], records: int, size: int, error: PendStorageError
    ) -> None:
        """Classify a call without an answer: too large, done all the same, or an obstacle."""
        if len(batch) > 1:
            self._state.room.shrink(records, size)
        try:
            now = self._follower.meta(POSITION_META)
        except OUT_OF_REACH:
            raise error from None
        if not equal(now, self._stored):
            raise _Restart(error)  # it was done, or another process has done it
        obstacle = self._obstacle(batch, why(error), error)
        self._state.on_obstacle(obstacle)
        if len(batch) > 1:
            raise _Restart(error)
        self._state.obstacle = obstacle
        raise error

    def _apply_current(self, entry: Entry, refusal: PendStorageError) -> None:
        """Apply a refused commit with the current rows: a later one may allow it."""
        load, strangers = current_rows(
            self._primary, self._follower, entry.load.records
        )
        self._between()
        try:
            self._apply([entry], load.records)
        except REFUSALS:
            reason = str(refusal)
            if strangers:
                reason += f" Conflicting rows there: {self._shown(strangers)}, unknown to the primary."
            obstacle = self._obstacle([entry], reason, refusal)
            self._state.obstacle = obstacle
            self._state.on_obstacle(obstacle)
            raise refusal from None

    def _obstacle(
        self, batch: Sequence[Entry], reason: str, error: PendStorageError
    ) -> Obstacle:
        records = [item for entry in batch for item in entry.load.records]
        return Obstacle(
            after=self.mark.sequence,
            sequence=batch[0].change.sequence,
            commits=len(batch),
            keys=self._shown([(item.collection, item.key) for item in records]),
            reason=reason,
            error=error,
        )

    def _shown(self, places: Sequence[tuple[str, str]]) -> str:
        schema = self._primary.schema
        keys = [record_label(schema[name], key) for name, key in places[:_SHOWN]]
        more = len(places) - len(keys)
        return ", ".join(keys) + (f" and {more:,} more" if more else "")


def drain(
    primary: Store,
    follower: Store,
    epoch: int,
    *,
    between: Callable[[], None] = lambda: None,
) -> int:
    """Apply the rest of the primary's change log once; see :meth:`LogDrain.run`."""
    return LogDrain().run(primary, follower, epoch, between=between)
