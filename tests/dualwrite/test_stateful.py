"""Two processes on one pair of stores: whatever happens, in whatever order."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta
from typing import ClassVar, Final

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from typing_extensions import override

from pend_storage.dualwrite import CODES
from pend_storage.dualwrite._replication_position import is_complete_replica
from pend_storage.dualwrite._roles import SIDES, Side, other
from pend_storage.errors import (
    ChangesExpired,
    ConfigError,
    Conflict,
    StaleEpoch,
    StoreUnavailable,
    SwitchRefused,
    SwitchTimeout,
)
from pend_storage.phases import Phase, Role
from pend_storage.records import Change
from pend_storage.testing.domain import Log, a_log

from .processes import Died, Place, Process, Task, living, points

KEYS: Final = ("a", "b", "c")
COUNTER: Final = "count"
MAY_FAIL: Final = (
    ChangesExpired,
    Conflict,
    Died,
    StaleEpoch,
    StoreUnavailable,
    SwitchRefused,
    SwitchTimeout,
)

which = st.integers(0, 1)
keys = st.sampled_from(KEYS)
phases = st.sampled_from(list(Phase))


def stops(*prefixes: str) -> st.SearchStrategy[str | None]:
    """Crash points at which a process may stop, if any."""
    return st.none() | st.sampled_from(points(*prefixes))


WRITING: Final = stops("write.", "recover.")
SWITCHING: Final = stops("switch.", "attach.", "detach.", "role.changed", "recover.")
CATCHING_UP: Final = stops("relay.")
COPYING: Final = stops("backfill.", "relay.")
RECOVERING: Final = stops("recover.", "role.changed")
READING: Final = stops("read.")


class Expected:
    """Possible values of a key: more than one while the outcome of a write is in doubt."""

    def __init__(self) -> None:
        self.possible: dict[str, set[str | None]] = {}
        self.pending: dict[str, str | None] = {}
        """The write of a process that is paused: it may take effect at any time."""

        self._watched: dict[str, list[set[str | None]]] = {}

    def wrote(self, key: str, value: str | None) -> None:
        """It was acknowledged."""
        self.possible[key] = {value}
        self._tell(key, value)

    def perhaps_wrote(self, key: str, value: str | None) -> None:
        """It was not, but it may have happened."""
        self.possible.setdefault(key, {None}).add(value)

    def begins(self, key: str, value: str | None) -> None:
        """A write is under way."""
        self.pending[key] = value
        self._tell(key, value)

    def watch(self, key: str) -> set[str | None]:
        """Possible results of a read that begins now, whenever it ends: the set grows."""
        allowed = self.possible.get(key, {None}) | self._pending(key)
        self._watched.setdefault(key, []).append(allowed)
        return allowed

    def _tell(self, key: str, value: str | None) -> None:
        for allowed in self._watched.get(key, ()):
            allowed.add(value)

    def seen(self, key: str, value: str | None) -> None:
        """It was read by a process."""
        allowed = self.possible.get(key, {None}) | self._pending(key)
        assert value in allowed, f"{key!r} is {value!r}, and may be one of {allowed}"
        self.possible[key] = {value}

    def _pending(self, key: str) -> set[str | None]:
        return {self.pending[key]} if key in self.pending else set()


class TwoProcesses(RuleBasedStateMachine):
    """State machine of two processes over one pair."""

    settings_of_stores: ClassVar[dict[str, object]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.values = (f"v{n}" for n in itertools.count())
        self.expected = Expected()
        self.paused: dict[int, tuple[Task, str | None, str | None]] = {}
        self.feed: list[Change] = []
        self.is_feed_whole = True
        self.counted = 0
        self.doubtful = 0

    @initialize(old=st.lists(keys, unique=True), pruned=st.booleans())
    def begin(self, old: list[str], *, pruned: bool) -> None:
        """A JSON store with a past, and an empty PostgreSQL."""
        self.place = Place()
        for key in old:
            value = next(self.values)
            self.place.json.collection(Log).put(a_log(key, value))
            self.expected.wrote(key, value)
        if pruned:
            self.place.json.prune(self.place.json.head())
            self.is_feed_whole = False
        self.processes = [Process(self.place), Process(self.place)]

    # -- doing things, which may stop or die on the way ---------------------------------

    def _do(
        self,
        n: int,
        work: Callable[[Process], object],
        point: str | None,
        *,
        dies: bool,
        key: str | None = None,
        value: str | None = None,
    ) -> Task | None:
        """Let a process do something; None where it is paused now."""
        process = self.processes[n]
        if key is not None and key in self.expected.pending:
            return None  # one write in doubt at a time
        task = Task(lambda: work(process)).start(point, dies=dies)
        if not task.is_done:
            self.paused[n] = (task, key, value)
            if key is not None:
                self.expected.begins(key, value)
            return None
        self._note_end(n, task, key, value)
        return task

    def _note_end(self, n: int, task: Task, key: str | None, value: str | None) -> None:
        if task.error is not None and not isinstance(task.error, MAY_FAIL):
            raise task.error
        if key is not None:
            self.expected.pending.pop(key, None)
            sure = isinstance(task.error, StaleEpoch | Conflict)
            unreached = isinstance(task.error, StoreUnavailable)
            if task.error is None:
                self.expected.wrote(key, value)
            elif not (sure or unreached):
                self.expected.perhaps_wrote(key, value)
        if task.has_died:
            self.processes[n].restart()

    def _is_free(self, n: int) -> bool:
        return n not in self.paused

    @rule(n=which, key=keys, point=WRITING, dies=st.booleans())
    def put(self, n: int, key: str, point: str | None, *, dies: bool) -> None:
        """A write."""
        if self._is_free(n):
            value = next(self.values)
            self._do(
                n, lambda p: p.put(key, value), point, dies=dies, key=key, value=value
            )

    @rule(n=which, key=keys, point=WRITING, dies=st.booleans())
    def delete(self, n: int, key: str, point: str | None, *, dies: bool) -> None:
        """A delete."""
        if self._is_free(n):
            self._do(
                n,
                lambda p: p.store.collection(Log).delete(key),
                point,
                dies=dies,
                key=key,
            )

    @rule(n=which, key=keys, point=READING)
    def read(self, n: int, key: str, point: str | None) -> None:
        """A read: it must fit what was acknowledged, and what may have happened."""
        if self._is_free(n):
            allowed = self.expected.watch(key)
            self._do(n, lambda p: _read(p, key, allowed), point, dies=False)

    @rule(n=which, point=SWITCHING, dies=st.booleans(), phase=phases)
    def switch(self, n: int, phase: Phase, point: str | None, *, dies: bool) -> None:
        """A change of phases."""
        if self._is_free(n):
            self._do(
                n,
                lambda p: p.store.switch(phase, accept=CODES, timeout=0.1),
                point,
                dies=dies,
            )

    @rule(n=which, point=CATCHING_UP, dies=st.booleans())
    def catch_up(self, n: int, point: str | None, *, dies: bool) -> None:
        """The relay."""
        if self._is_free(n):
            self._do(n, lambda p: p.store.catch_up(), point, dies=dies)

    @rule(n=which, point=COPYING, dies=st.booleans())
    def backfill(self, n: int, point: str | None, *, dies: bool) -> None:
        """A backfill, where there is a secondary."""
        if self._is_free(n):
            self._do(n, _backfill, point, dies=dies)

    @rule(n=which, point=RECOVERING, dies=st.booleans())
    def recover(self, n: int, point: str | None, *, dies: bool) -> None:
        """A process presumes every unfinished switch dead."""
        if self._is_free(n):
            self._do(n, lambda p: p.store.recover(), point, dies=dies)

    @rule(n=which)
    def count(self, n: int) -> None:
        """A value of the pair as a whole."""
        if not self._is_free(n):
            return
        task = self._do(n, _count, None, dies=False)
        assert task is not None
        if task.error is None and task.result:
            self.counted += 1

    @rule(n=which)
    def follow_the_feed(self, n: int) -> None:
        """A reader of the feed goes on from its position."""
        if not self._is_free(n):
            return
        after = self.feed[-1].sequence if self.feed else 0
        task = self._do(n, lambda p: list(p.store.changes(after)), None, dies=False)
        assert task is not None
        if isinstance(task.error, ChangesExpired):
            self.is_feed_whole = False
        elif task.error is None:
            assert isinstance(task.result, list)
            self.feed += task.result

    @rule(n=which)
    def prune(self, n: int) -> None:
        """Change logs are forgotten as soon as they may be."""
        if self._is_free(n):
            process = self.processes[n]
            process.store._relay._retention = timedelta(0)
            self._do(n, lambda p: p.store._relay.prune(), None, dies=False)

    @rule(n=which)
    @precondition(lambda self: self.paused)
    def resume(self, n: int) -> None:
        """A process that was paused goes on."""
        if n in self.paused:
            task, key, value = self.paused.pop(n)
            task.resume()
            self._note_end(n, task, key, value)

    @rule(n=which)
    def die(self, n: int) -> None:
        """A process is killed while it does nothing."""
        if self._is_free(n):
            self.processes[n].restart()

    @rule(n=which, side=st.sampled_from(SIDES))
    def cut(self, n: int, side: Side) -> None:
        """A process loses a store."""
        self.processes[n].line(side).is_cut = True

    @rule(side=st.sampled_from(SIDES))
    def stop_server(self, side: Side) -> None:
        """Everybody loses a store."""
        for process in self.processes:
            process.line(side).is_cut = True

    @rule()
    def mend(self) -> None:
        """All lines are up again."""
        for process in self.processes:
            for side in SIDES:
                process.line(side).is_cut = False

    # -- what must hold all the time ------------------------------------------------------

    @invariant()
    def one_primary_at_most(self) -> None:
        """I1."""
        assert len(self.place.primaries()) <= 1

    @invariant()
    def nothing_is_lost(self) -> None:
        """I2, I4, I6: the store that answers holds what it must."""
        store = self.place.live()
        for key in KEYS:
            log = store.collection(Log).get(key)
            self.expected.seen(key, None if log is None else log.text)

    @invariant()
    def no_version_is_given_twice(self) -> None:
        """Of one key."""
        given: dict[tuple[str, str, int], object] = {}
        for record in (r for change in self.place.log() for r in change.records):
            place = (record.collection, record.key, record.version)
            assert given.setdefault(place, record.record) == record.record

    @rule()
    def everything_settles(self) -> None:
        """I3: with everybody awake, and all lines up, the stores become equal."""
        for n in list(self.paused):
            self.resume(n)
        self.mend()
        process = self.processes[0]
        process.store.recover()
        process.store.catch_up()
        (side,) = self.place.primaries()
        peer = self.place.of(other(side))
        if peer.role().role is Role.SECONDARY:
            if not is_complete_replica(
                self.place.of(side), peer
            ):  # else it must do without
                _backfill(process)
                process.store.catch_up()
            assert living(self.place.json) == living(self.place.postgres)
            assert process.store.lag().commits == 0
        assert process.store.meta(COUNTER) == (self.counted or None)

    @override
    def teardown(self) -> None:
        if not hasattr(self, "processes"):
            return
        try:
            self.everything_settles()
            self.follow_the_feed(0)
            if self.is_feed_whole:
                self._check_feed()
        finally:
            for process in self.processes:
                process.store.close()

    def _check_feed(self) -> None:
        """Every commit once, in the order of the epochs."""
        shown = [(change.epoch, change.records) for change in self.feed]
        assert shown == [(c.epoch, c.records) for c in self.place.log()]


def _read(process: Process, key: str, allowed: set[str | None]) -> None:
    found = process.get(key)
    assert found in allowed, f"{key!r} was read as {found!r}, not one of {allowed}"


def _backfill(process: Process) -> object:
    try:
        return process.store.backfill()
    except ConfigError:  # no secondary in this phase
        return None


def _count(process: Process) -> bool:
    now = process.store.meta(COUNTER)
    assert now is None or isinstance(now, int)
    return process.store.compare_and_set_meta(COUNTER, now, (now or 0) + 1)


TestTwoProcesses = TwoProcesses.TestCase
