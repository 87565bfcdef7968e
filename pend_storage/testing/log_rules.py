"""State machine rules for change logs: apply, replay, repeat commits, pending."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from pend_storage._model.attribution import new_token
from pend_storage._model.diff import equal
from pend_storage._model.records import Advance, Row
from pend_storage._model.snapshots import StoredRow
from pend_storage.schema import CollectionSpec
from pend_storage.testing import inputs as draw
from pend_storage.testing.agreement import Pair, Place, Side

__all__ = ["LogRules"]


class LogRules(RuleBasedStateMachine):
    """Rules of the state machine about change logs and tokens."""

    pair: Pair
    followers: Pair

    # -- following ------------------------------------------------------------------------

    @rule(epoch=st.sampled_from([None, None, 1, 2]), marked=st.booleans())
    def follow(self, epoch: int | None, *, marked: bool) -> None:
        """Apply the rest of the change logs to the followers."""
        batches = [side.unapplied() for side in self.pair]
        for side, (records, _) in zip(self.followers, batches, strict=True):
            side.incoming = records
        count = len(self.pair.model.log())

        def apply(side: Side) -> int:
            mark = Advance("mark", side.store.meta("mark"), count) if marked else None
            return side.store.apply(side.incoming, epoch=epoch, mark=mark)

        written = self.followers.agree(apply)
        if written is not None:
            for side, (_, sequence) in zip(self.pair, batches, strict=True):
                side.followed = sequence
            self.followers.agree(lambda side: side.store.meta("mark"))

    @rule(expected=draw.ALIKE, removes=st.booleans())
    def follow_from_elsewhere(self, expected: Any, *, removes: bool) -> None:
        """Apply with a wrong expected mark: the mark stays, nothing is applied."""
        for side, follower in zip(self.pair, self.followers, strict=True):
            follower.incoming = side.unapplied()[0]
        value = None if removes else "moved"
        before = self.followers.agree(lambda side: side.store.meta("mark"))
        # What is equal by value is what was read, however it looks.
        wrong = {"not": expected} if equal(before, expected) else expected

        def apply(side: Side) -> Any:
            mark = Advance("mark", wrong, value)
            return side.store.apply(side.incoming, mark=mark)

        assert self.followers.agree(apply) is None, "applied despite a wrong mark"
        assert self.followers.agree(lambda side: side.store.meta("mark")) == before

    @rule(count=st.integers(1, 12), skip=st.integers(0, 3), back=st.booleans())
    def replay(self, count: int, skip: int, *, back: bool) -> None:
        """Apply a part of the change log again, too early, or backwards.

        Not where the end state would break a constraint: a secondary does not check,
        but a database may refuse the call, and get the records from a later read of the
        log.
        """
        for side, follower in zip(self.pair, self.followers, strict=True):
            log = side.log()
            end = max(len(log) - skip, 0)
            part = log[max(end - count, 0) : end]
            follower.incoming = part[::-1] if back else part
        if self.followers.model.would_satisfy_constraints():
            self.followers.agree(lambda side: side.store.apply(side.incoming))

    # -- snapshots and histories --------------------------------------------------------------

    @rule()
    def snapshot(self) -> None:
        """Open a snapshot: all rows and tombstones, at a position after every version."""

        def read(side: Side) -> list[Any]:
            with side.store.snapshot() as reader:
                found = {
                    spec.name: sorted(
                        _decoded(spec, row) for row in reader.rows(spec.name)
                    )
                    for spec in side.store.schema
                }
                upto = reader.point.sequence
            assert all(row.version <= upto for rows in found.values() for row in rows)
            return [side.rows(name, rows) for name, rows in found.items()]

        self.pair.agree(read)
        self.followers.agree(read)

    @rule(place=draw.PLACE, skip=st.integers(0, 3))
    def record_history(self, place: Place, skip: int) -> None:
        """Read the history of a key, whole and from one of its changes on."""
        name, key = place

        def read(side: Side) -> list[Any]:
            whole = list(side.store.record_history(name, key))
            if len(whole) > skip:
                before = whole[skip].sequence
                rest = list(side.store.record_history(name, key, before=before))
                assert rest == whole[skip + 1 :]
            return [(side.ordinal(place, c.version), c.record) for c in whole]

        self.pair.agree(read)

    # -- tokens -----------------------------------------------------------------------------

    @rule(which=st.integers(0, 50), epoch=draw.EPOCHS, grouped=st.booleans())
    @precondition(lambda self: self.pair.model.committed)
    def repeat_commit(self, which: int, epoch: int | None, *, grouped: bool) -> None:
        """Commit a batch again, in any role: the same versions, and no new entry."""

        def repeat(side: Side) -> int:
            batch, versions = side.committed[which % len(side.committed)]
            before = [change.sequence for change in side.store.changes()]
            if grouped:  # twice in one call
                outcomes = side.store.commit_each([batch, batch], epoch=epoch)
                assert outcomes == [versions, versions]
            else:
                assert side.store.commit(batch, epoch=epoch) == versions
            after = [change.sequence for change in side.store.changes()]
            assert before == after, "a repeated commit has a second entry in the log"
            return len(after)

        self.pair.agree(repeat)

    @rule(which=st.integers(0, 50))
    @precondition(lambda self: self.pair.model.committed)
    def find_commit(self, which: int) -> None:
        """Find the entry of a commit by its token, and none by an unused one."""

        def find(side: Side) -> Any:
            batch, versions = side.committed[which % len(side.committed)]
            found = side.store.find_commit(batch.token)
            assert found is not None
            assert found.versions_of(batch) == versions
            assert found in list(side.store.changes())
            return side.store.find_commit(new_token())

        self.pair.agree(find)

    @rule(skip=st.integers(0, 30))
    def pending(self, skip: int) -> None:
        """Compare the pending count and age with a walk along the log."""

        def count(side: Side) -> int:
            log = list(side.store.changes())
            after = log[skip % len(log)].sequence if log else 0
            rest = [change for change in log if change.sequence > after]
            found = side.store.pending(after)
            assert found.commits == len(rest)
            assert found.oldest == (rest[0].at if rest else None)
            return found.commits

        self.pair.agree(count)


def _decoded(spec: CollectionSpec, row: StoredRow) -> Row:
    record = None if row.body is None else spec.codec.decode(row.body)
    return Row(row.key, row.version, record)
