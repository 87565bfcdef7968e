"""Execution of a plan: calls, an exchange in the middle, recovery, checks."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pend_storage import crashpoints
from pend_storage.dualwrite import force_promotion
from pend_storage.dualwrite._roles import other
from pend_storage.errors import ChangesExpired, PendStorageError, SwitchRefused
from pend_storage.phases import Phase, Role
from pend_storage.testing.hostile._driver import (
    PASSING,
    Driver,
    contents_of,
    rows_of,
    spread,
    written_in,
)
from pend_storage.testing.hostile._ledger import Contents, Fate, Ledger, Verdict
from pend_storage.testing.hostile._plans import Call, Plan, Verb
from pend_storage.testing.hostile._servers import Servers

__all__ = ["run"]

_ATTEMPTS: Final = 12
_PAUSE: Final = 0.25
"""Seconds between two attempts."""
_WRITE_INTERVAL: Final = 0.005
"""Seconds between two writes of the other thread."""
_JOIN_TIMEOUT: Final = 60.0
_LIST_LIMIT: Final = 1_000
"""Maximum of commits that an election lists: a full list may not be all of them."""
_REPORT_TIMEOUT: Final = 3.0
"""Seconds in which the loss of writes must have been reported."""


def run(servers: Servers, directory: Path, plan: Plan) -> Verdict:
    """Execute a plan.

    Args:
        servers: new ones.
        directory: an empty one, for the JSON store and its replacement.
        plan: calls and exchange.

    Returns:
        Counters, reports and violations.
    """
    return _Run(servers, directory, plan).execute()


class _Violation(Exception):
    """Violation of a promise; later checks would only show its consequences."""


class _Run:
    def __init__(self, servers: Servers, directory: Path, plan: Plan) -> None:
        self._servers = servers
        self._directory = directory
        self._plan = plan
        self._ledger = Ledger()
        self._passes = itertools.count()
        self._exchanging = threading.Lock()
        self._failures: list[BaseException] = []
        self._position: tuple[int, int] | None = None
        self._driver = Driver(servers, directory / "json", plan, self._ledger)

    def execute(self) -> Verdict:
        verdict = Verdict(self._ledger.counts, [])
        try:
            self._make_calls()
            self._check_end()
        except _Violation as violation:
            verdict.wrong.append(str(violation))
        finally:
            self._driver.close()
        if self._failures:
            raise self._failures[0]
        verdict.wrong += self._driver.hung
        verdict.reported = self._driver.reported
        counts = self._ledger.counts
        counts["runs"] += 1
        counts["events"] += len(self._driver.events)
        counts["found wrong"] += bool(verdict.wrong)
        return verdict

    # -- life -----------------------------------------------------------------------------

    def _make_calls(self) -> None:
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
        # The exchange happens inside one of these calls, or after all of them.
        with self._background_writer(), crashpoints.handled(self._on_crash_point):
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
    def _background_writer(self) -> Iterator[None]:
        """Write keys of its own in another thread, if the plan says so."""
        stop = threading.Event()

        def write() -> None:
            for n in itertools.count():
                self._driver.call(Call(Verb.PUT, f"b{n % 2}"))
                if stop.wait(_WRITE_INTERVAL):
                    return

        thread = threading.Thread(target=write, name="hostile-writer", daemon=True)
        if self._plan.writes:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            if self._plan.writes:
                thread.join(_JOIN_TIMEOUT)
                assert not thread.is_alive(), "a writer hangs"

    def _on_crash_point(self, point: str) -> None:
        if point == self._plan.point and next(self._passes) >= self._plan.skip:
            self._exchange()

    def _exchange(self) -> None:
        """Exchange the server once, at the first call from any thread."""
        # A crash point, a trap and the end of the calls may all ask for the exchange.
        with self._exchanging:
            if self._ledger.is_exchanged:
                return
            try:
                with self._servers.address.exchanging(self._plan.manner):
                    role, former = self._servers.peek()
                    self._servers.exchange(self._plan.exchange)
                    following = self._servers.peek()[1]
                    # A store that was not primary has nothing that an exchange could
                    # lose.
                    is_truth = role in {Role.PRIMARY, Role.FENCED}
                    lost_from = spread(former) if is_truth else {}
                    self._ledger.exchanged(lost_from, spread(following))
                self._servers.retire(self._plan.exchange)
            except BaseException as error:
                self._failures.append(error)
                raise
            self._ledger.counts["exchanges"] += 1

    # -- the end of a run -----------------------------------------------------------------

    def _check_end(self) -> None:
        if self._ledger.counts["elections"]:
            return
        refusal = self._retried(self._catch_up)
        if refusal is None:
            self._check_pair()
            self._check_feed()
            refusal = self._retried(self._switch_primary)
        if refusal is not None:
            self._elect(refusal)
            return
        self._check_pair()
        self._ledger.counts["healed"] += 1

    def _retried(self, step: Callable[[], None]) -> PendStorageError | None:
        """Repeat a step until it succeeds or is refused; return the refusal.

        Raises:
            _Violation: outages did not end.
        """
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
        raise _Violation(f"does not recover: {type(passing).__name__}: {passing}")

    def _catch_up(self) -> None:
        pair = self._driver.pair
        pair.recover()
        pair.catch_up()
        if "backfill-needed" in self._driver.reported or self._is_copying:
            pair.backfill()
            pair.catch_up()
        if self._driver.reported and pair.roles().follower is not None:
            self._validate_and_repair()

    def _validate_and_repair(self) -> None:
        """Validate and repair the stores, as an operator does after a report."""
        pair = self._driver.pair
        if not pair.validate().ok:
            self._ledger.counts["repairs"] += 1
            pair.repair()
            pair.catch_up()
            for n in range(4):  # a repaired record must accept later writes
                self._driver.call(Call(Verb.PUT, f"k{n}"))
            pair.catch_up()

    @property
    def _is_copying(self) -> bool:
        """The run began without a secondary, and has one now."""
        both = {Phase.PARALLEL, Phase.POSTGRES_PRIMARY}
        return self._plan.begin not in both and self._driver.pair.phase in both

    def _switch_primary(self) -> None:
        """Switch the primary to the other store: what it lacks is lost then."""
        driver = self._driver
        if driver.pair.phase in {Phase.JSON_ONLY, Phase.POSTGRES_ONLY}:
            is_json = driver.pair.phase is Phase.JSON_ONLY
            driver.switch(Phase.PARALLEL if is_json else Phase.POSTGRES_PRIMARY)
            driver.pair.backfill()
            driver.pair.catch_up()
            if driver.reported:
                self._validate_and_repair()
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

    # -- checks ---------------------------------------------------------------------------

    def _check_pair(self) -> None:
        pair = self._driver.pair
        view = pair.roles()
        stores = {"json": self._driver.json, "postgres": self._driver.postgres}
        assert view.primary is not None
        found = contents_of(stores[view.primary])
        self._check_contents(found)
        if shrunk := self._ledger.shrunk():
            raise _Violation(f"versions do not grow: {shrunk[:3]}")
        forgotten = self._ledger.forgotten(found)
        # A loss may be unavoidable. To be silent about it is not.
        deadline = time.monotonic() + _REPORT_TIMEOUT
        while forgotten and not self._driver.reported and time.monotonic() < deadline:
            time.sleep(_PAUSE)  # background checks run at intervals
        if forgotten and not self._driver.reported:
            keys = sorted(write.key for write in forgotten)
            raise _Violation(f"lost by the exchange without a report: {keys[:5]}")
        if view.follower is not None:
            # A repair writes the value of the primary; the version may be a different
            # one.
            rows = contents_of if self._ledger.counts["repairs"] else rows_of
            mine, peer = (rows(store) for store in stores.values())
            differing = sorted(
                k for k in mine.keys() | peer.keys() if mine.get(k) != peer.get(k)
            )
            if differing:
                reported = self._driver.reported or "nothing"
                raise _Violation(
                    f"the stores differ, reported {reported}: {differing[:5]}"
                )

    def _check_contents(
        self,
        found: Contents,
        reported: AbstractSet[tuple[str, str | None]] | None = None,
    ) -> None:
        """Check contents against the ledger.

        Args:
            found: contents of a store.
            reported: missing writes that an election has listed. A delete of a missing
                key wrote nothing, so no log and no record can show it.
        """
        missing = [
            write
            for write in self._ledger.missing(found)
            if reported is None
            or (
                (write.key, write.text) not in reported
                and (write.text or write.version)
            )
        ]
        if missing:
            keys = sorted(write.key for write in missing)
            raise _Violation(f"acknowledged and missing: {len(keys)}, {keys[:5]}")
        if wrong := self._ledger.wrong(found):
            raise _Violation(f"present, but refused or never written: {wrong[:3]}")

    def _check_feed(self) -> None:
        """Check that the change feed, read from the copy on, has every write."""
        assert self._position is not None
        position, begun = self._position
        if self._plan.exchange.loses:  # a lost write may look acknowledged
            begun = self._ledger.begun_before
        try:
            changes = list(self._driver.pair.changes(position))
        except ChangesExpired as error:
            self._driver.errors.append(error)
            return
        seen: set[tuple[str, str | None]] = set()
        for change in changes:
            seen |= written_in(change)
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
            raise _Violation(f"the feed misses {len(unseen)}: {unseen[:5]}")

    # -- election ---------------------------------------------------------------------------

    def _elect(self, refusal: PendStorageError) -> None:
        """Elect a store, as the refusal demands, and give it a new secondary."""
        driver, side = self._driver, self._plan.elects
        driver.errors.append(refusal)
        driver.close()
        self._ledger.counts["elections"] += 1
        json, postgres = driver.open_json(), driver.open_postgres()
        try:
            election = force_promotion(json, postgres, side)
            chosen = json if side == "json" else postgres
            reported: set[tuple[str, str | None]] | None = None
            if election.missing is not None and len(election.missing) < _LIST_LIMIT:
                reported = {
                    pair for change in election.missing for pair in written_in(change)
                }
            found = contents_of(chosen)
        except PendStorageError as error:
            raise _Violation(
                f"the election is refused: {type(error).__name__}: {error}"
            ) from error
        finally:
            json.close()
            postgres.close()
        if reported is not None:
            self._check_contents(found, reported)
        kept = dict(found)
        self._replace(other(side))
        driver.open()
        to = Phase.PARALLEL if side == "json" else Phase.POSTGRES_PRIMARY

        def fill() -> None:
            driver.switch(to)
            driver.pair.backfill()
            driver.pair.catch_up()

        if (again := self._retried(fill)) is not None:
            raise _Violation(
                f"refused after the election: {type(again).__name__}: {again}"
            )
        for store in (driver.json, driver.postgres):
            if contents_of(store) != kept:
                raise _Violation("the stores differ after the election")

    def _replace(self, side: str) -> None:
        """Replace the store that lost the election by an empty one."""
        if side == "postgres":
            self._servers.put_empty()
        else:
            self._driver.directory = self._directory / "json after the election"
