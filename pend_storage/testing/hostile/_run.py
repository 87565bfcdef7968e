"""One run: calls, an exchange in the middle of them, what the pair makes of it, a verdict."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pend_storage import crashpoints
from pend_storage._model.records import Change
from pend_storage.dualwrite import force_promotion
from pend_storage.dualwrite._roles import other
from pend_storage.errors import ChangesExpired, PendStorageError, SwitchRefused
from pend_storage.phases import Phase, Role
from pend_storage.store import Store
from pend_storage.testing.hostile._driver import PASSING, Driver, spread
from pend_storage.testing.hostile._ledger import Contents, Fate, Ledger
from pend_storage.testing.hostile._plans import Call, Plan, Verb
from pend_storage.testing.hostile._servers import Servers

__all__ = ["Verdict", "run"]

_ATTEMPTS: Final = 12
_PAUSE: Final = 0.25
_BREATH: Final = 0.005
"""Seconds between two writes of the other thread."""
_LONG: Final = 60.0
_ALL_TOLD: Final = 1_000
"""Commits that an election names at most: so many are not all of them, perhaps."""
_SOON: Final = 3.0
"""Seconds in which somebody must have noticed what an exchange has lost."""


@dataclass(slots=True)
class Verdict:
    """What came of a run."""

    counts: Counter[str]
    """Exchanges, calls, writes by what became of them, events, healed, elections, ..."""
    told: list[str]
    """Events and errors since the exchange, apart from mere outages."""
    wrong: list[str] = field(default_factory=list)
    """What must not have happened; nothing, if all is well."""


def run(servers: Servers, directory: Path, plan: Plan) -> Verdict:
    """Carry out a plan.

    Args:
        servers: fresh ones.
        directory: an empty one, for the JSON store and what may replace it.
        plan: what to do.
    """
    return _Run(servers, directory, plan).go()


class _Wrong(Exception):
    """Something must not have happened; the rest would be about its consequences."""


class _Run:
    def __init__(self, servers: Servers, directory: Path, plan: Plan) -> None:
        self._servers = servers
        self._directory = directory
        self._plan = plan
        self._ledger = Ledger()
        self._passes = itertools.count()
        self._exchanging = threading.Lock()
        self._trouble: list[BaseException] = []
        self._position: tuple[int, int] | None = None
        self._driver = Driver(servers, directory / "json", plan, self._ledger)

    def go(self) -> Verdict:
        verdict = Verdict(self._ledger.counts, [])
        try:
            self._live()
            self._end()
        except _Wrong as wrong:
            verdict.wrong.append(str(wrong))
        finally:
            self._driver.close()
        if self._trouble:
            raise self._trouble[0]
        verdict.wrong += self._driver.hung
        verdict.told = self._driver.told
        counts = self._ledger.counts
        counts["runs"] += 1
        counts["events"] += len(self._driver.events)
        counts["found wrong"] += bool(verdict.wrong)
        return verdict

    # -- life -----------------------------------------------------------------------------

    def _live(self) -> None:
        driver, plan = self._driver, self._plan
        driver.switch(plan.begin)
        for call in plan.before:
            driver.call(call)
        self._position = (driver.pair.head(), self._ledger.begun)
        self._servers.prepare(plan.exchange)
        for call in plan.between:
            driver.call(call)
        address = self._servers.address
        if plan.point == "server.asked":
            address.trap("asked", plan.skip, self._exchange)
        elif plan.point == "server.answered":
            address.trap("answered", plan.skip, self._exchange)
        with self._others_writing(), crashpoints.handled(self._reached):
            for call in plan.during:
                driver.call(call)
        address.disarm()
        self._exchange()
        try:
            if plan.restarts:
                driver.close()
                driver.open()
        except PendStorageError as refusal:
            self._elect(refusal)
            return
        for call in plan.after:
            driver.call(call)

    @contextmanager
    def _others_writing(self) -> Iterator[None]:
        """Another thread writes keys of its own, if the plan says so."""
        stop = threading.Event()

        def write() -> None:
            for n in itertools.count():
                self._driver.call(Call(Verb.PUT, f"b{n % 2}"))
                if stop.wait(_BREATH):
                    return

        thread = threading.Thread(target=write, name="hostile-writer", daemon=True)
        if self._plan.writes:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            if self._plan.writes:
                thread.join(_LONG)
                assert not thread.is_alive(), "a writer hangs"

    def _reached(self, point: str) -> None:
        if point == self._plan.point and next(self._passes) >= self._plan.skip:
            self._exchange()

    def _exchange(self) -> None:
        """Once, in whatever thread."""
        with self._exchanging:
            if self._ledger.is_exchanged:
                return
            try:
                with self._servers.address.exchanging(self._plan.manner):
                    role, former = self._servers.peek()
                    self._servers.exchange(self._plan.exchange)
                    following = self._servers.peek()[1]
                    is_truth = role in {Role.PRIMARY, Role.FENCED}
                    lost_from = spread(former) if is_truth else {}
                    self._ledger.exchanged(lost_from, spread(following))
                self._servers.retire(self._plan.exchange)
            except BaseException as error:
                self._trouble.append(error)
                raise
            self._ledger.counts["exchanges"] += 1

    # -- the end --------------------------------------------------------------------------

    def _end(self) -> None:
        if self._ledger.counts["elections"]:
            return
        refusal = self._healed(self._catch_up)
        if refusal is None:
            self._judge_pair()
            self._judge_feed()
            refusal = self._healed(self._turn_over)
        if refusal is not None:
            self._elect(refusal)
            return
        self._judge_pair()
        self._ledger.counts["healed"] += 1

    def _healed(self, step: Callable[[], None]) -> PendStorageError | None:
        """Do something until it succeeds, or is refused; gives the refusal."""
        passing: PendStorageError | None = None
        for _ in range(_ATTEMPTS):
            try:
                step()
            except PASSING as error:
                passing = error
                time.sleep(_PAUSE)
            except PendStorageError as error:
                self._driver.errors.append(error)
                return error
            else:
                return None
        raise _Wrong(f"does not come to rest: {type(passing).__name__}: {passing}")

    def _catch_up(self) -> None:
        pair = self._driver.pair
        pair.recover()
        pair.catch_up()
        if "backfill-needed" in self._driver.told or self._is_copying:
            pair.backfill()
            pair.catch_up()
        if self._driver.told and pair.roles().follower is not None:
            self._compare()

    def _compare(self) -> None:
        """What an operator does who was told: compare the stores, and mend what differs."""
        pair = self._driver.pair
        if not pair.validate().ok:
            self._ledger.counts["repairs"] += 1
            pair.repair()
            pair.catch_up()
            for n in range(4):  # what was repaired takes what is written after it
                self._driver.call(Call(Verb.PUT, f"k{n}"))
            pair.catch_up()

    @property
    def _is_copying(self) -> bool:
        """Whether the run began before there was a secondary."""
        both = {Phase.PARALLEL, Phase.POSTGRES_PRIMARY}
        return self._plan.begin not in both and self._driver.pair.phase in both

    def _turn_over(self) -> None:
        """Have the other store become primary: what it lacks is lost then."""
        driver = self._driver
        if driver.pair.phase in {Phase.JSON_ONLY, Phase.POSTGRES_ONLY}:
            is_json = driver.pair.phase is Phase.JSON_ONLY
            driver.switch(Phase.PARALLEL if is_json else Phase.POSTGRES_PRIMARY)
            driver.pair.backfill()
            driver.pair.catch_up()
            if driver.told:
                self._compare()
        is_json = driver.pair.phase is Phase.PARALLEL
        to = Phase.POSTGRES_PRIMARY if is_json else Phase.PARALLEL
        try:
            driver.switch(to)
        except SwitchRefused as refused:
            if [code for code, _ in refused.blockers] != ["backfill"]:
                raise
            driver.pair.backfill()
            driver.switch(to)
        driver.pair.catch_up()

    # -- judging --------------------------------------------------------------------------

    def _judge_pair(self) -> None:
        pair = self._driver.pair
        view = pair.roles()
        stores = {"json": self._driver.json, "postgres": self._driver.postgres}
        assert view.primary is not None
        found = _contents(stores[view.primary])
        self._judge(found)
        if shrunk := self._ledger.shrunk():
            raise _Wrong(f"versions do not grow: {shrunk[:3]}")
        forgotten = self._ledger.forgotten(found)
        deadline = time.monotonic() + _SOON
        while forgotten and not self._driver.told and time.monotonic() < deadline:
            time.sleep(_PAUSE)  # who works in the background looks now and then
        if forgotten and not self._driver.told:
            keys = sorted(write.key for write in forgotten)
            raise _Wrong(f"lost by the exchange, and nothing was told: {keys[:5]}")
        if view.follower is not None:
            # A repair gives the value of the primary; the version may be another one.
            rows = _contents if self._ledger.counts["repairs"] else _rows
            mine, peer = (rows(store) for store in stores.values())
            differing = sorted(
                k for k in mine.keys() | peer.keys() if mine.get(k) != peer.get(k)
            )
            if differing:
                told = self._driver.told or "nothing"
                raise _Wrong(f"the stores differ, told {told}: {differing[:5]}")

    def _judge(
        self,
        found: Contents,
        told: AbstractSet[tuple[str, str | None]] | None = None,
    ) -> None:
        """Look for what must be there.

        Args:
            found: what is there.
            told: what an election said is missing. A delete that found nothing wrote
                nothing, so no log and no record has it to be told.
        """
        missing = [
            write
            for write in self._ledger.missing(found)
            if told is None
            or ((write.key, write.text) not in told and (write.text or write.version))
        ]
        if missing:
            keys = sorted(write.key for write in missing)
            raise _Wrong(f"acknowledged and not there: {len(keys)}, {keys[:5]}")
        if wrong := self._ledger.wrong(found):
            raise _Wrong(f"there without having been taken: {wrong[:3]}")

    def _judge_feed(self) -> None:
        """Whoever read the feed up to the copy sees all that was written since."""
        assert self._position is not None
        position, begun = self._position
        if self._plan.exchange.loses:  # what was lost may look as if it were not
            begun = self._ledger.begun_before
        try:
            changes = list(self._driver.pair.changes(position))
        except ChangesExpired as error:
            self._driver.errors.append(error)
            return
        seen: set[tuple[str, str | None]] = set()
        for change in changes:
            seen |= _written(change)
        unseen = sorted(
            write.key
            for writes in self._ledger.writes.values()
            for write in writes
            if write.fate is Fate.DONE
            and write.number >= begun
            and write.version
            and (write.key, write.text) not in seen
        )
        if unseen:
            raise _Wrong(f"the feed misses {len(unseen)}: {unseen[:5]}")

    # -- the way out ------------------------------------------------------------------------

    def _elect(self, refusal: PendStorageError) -> None:
        """Decide who holds the truth, as a refusal says; then give it a new follower."""
        driver, side = self._driver, self._plan.elects
        driver.errors.append(refusal)
        driver.close()
        self._ledger.counts["elections"] += 1
        json, postgres = driver.open_json(), driver.open_postgres()
        try:
            election = force_promotion(json, postgres, side)
            chosen = json if side == "json" else postgres
            told: set[tuple[str, str | None]] | None = None
            if election.missing is not None and len(election.missing) < _ALL_TOLD:
                told = {
                    pair for change in election.missing for pair in _written(change)
                }
            found = _contents(chosen)
        except PendStorageError as error:
            raise _Wrong(
                f"the way out is closed: {type(error).__name__}: {error}"
            ) from error
        finally:
            json.close()
            postgres.close()
        if told is not None:
            self._judge(found, told)
        kept = dict(found)
        self._replace(other(side))
        driver.open()
        to = Phase.PARALLEL if side == "json" else Phase.POSTGRES_PRIMARY

        def fill() -> None:
            driver.switch(to)
            driver.pair.backfill()
            driver.pair.catch_up()

        if (again := self._healed(fill)) is not None:
            raise _Wrong(f"refused after the election: {type(again).__name__}: {again}")
        for store in (driver.json, driver.postgres):
            if _contents(store) != kept:
                raise _Wrong("after the election the stores differ")

    def _replace(self, side: str) -> None:
        """Put an empty one in the place of who lost the election."""
        if side == "postgres":
            self._servers.put_empty()
        else:
            self._driver.directory = self._directory / "json after the election"


def _written(change: Change) -> set[tuple[str, str | None]]:
    """Keys and texts of one commit."""
    written: set[tuple[str, str | None]] = set()
    for record in change.records:
        if record.collection == "notes":
            if record.record is None:
                written.add((record.key, None))
            else:
                written |= set(spread({record.key: record.record.text}).items())
    return written


def _rows(store: Store) -> dict[str, tuple[int, str]]:
    return {
        row.key: (row.version, row.record.text)
        for row in store.scan("notes")
        if row.record is not None
    }


def _contents(store: Store) -> Contents:
    return spread({key: text for key, (_, text) in _rows(store).items()})
