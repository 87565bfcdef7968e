"""Exchange of the server behind an address, without a visible outage."""

from __future__ import annotations

import threading
import time

import pytest

from pend_storage.dualwrite import CODES, force_promotion
from pend_storage.dualwrite import _log_continuity as log_continuity
from pend_storage.dualwrite._log_continuity import WITNESS_META
from pend_storage.dualwrite._log_position import LogPosition
from pend_storage.dualwrite._replication_position import (
    BACKFILL_META,
    POSITION_META,
    ReplicationPosition,
)
from pend_storage.dualwrite._roles import Side, other
from pend_storage.dualwrite._route import Route
from pend_storage.errors import ConfigError, PendStorageError, SwitchRefused
from pend_storage.phases import Phase, Role
from pend_storage.records import Change
from pend_storage.stores._inmemory.state import LogRecord
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, a_log

from .processes import Place, Process, Task, living, wait_until
from .test_restored_stores import copied, replaced

J, PAR, PG, P = Phase


def primary_of(phase: Phase) -> Side:
    return "json" if phase.json_role is Role.PRIMARY else "postgres"


def to(process: Process, phase: Phase) -> None:
    process.store.switch(phase, accept=CODES)


def told(process: Process) -> set[str]:
    return {event.name for event in process.events}


def look(process: Process) -> None:
    """The relay's check, once a second."""
    process.store._continuity._refreshed = 0.0
    process.store._router.maintain()


def witness(store: MemoryStore) -> LogPosition | None:
    return LogPosition.parse(store.meta(WITNESS_META))


def assert_refused(process: Process) -> None:
    """Writes and switches are; reads are not."""
    with pytest.raises(ConfigError) as caught:
        process.put("refused", "1")
    text = str(caught.value)
    assert "number" in text
    assert "--elect json" in text
    assert process.get("refused") is None
    with pytest.raises(ConfigError, match="elect"):
        process.store.compare_and_set_meta("name", None, 1)
    with pytest.raises(ConfigError, match="elect"):
        to(process, PAR)
    with pytest.raises(ConfigError, match="elect"):
        process.store.repair()


# -- a log that has lost what was in it ---------------------------------------------------


@pytest.mark.parametrize("commits", [0, 1, 30])
def test_a_silent_failover_to_a_standby_that_was_behind_is_noticed(
    place: Place, commits: int
) -> None:
    """Also where the log is longer by now than it was: other entries, the same numbers."""
    process = Process(place, relay_interval=0.01, secondary_timeout=5.0)
    to(process, PG)
    process.put("a", "1")
    standby = copied(place.postgres)
    process.put("a", "lost")
    process.put("b", "lost")
    process.store.catch_up()

    process.postgres.lead_to(standby, "standby")
    for n in range(commits):
        put = SCHEMA.put(Log, a_log("c", f"{n}"))
        standby.commit(SCHEMA.batch([put]), epoch=standby.role().epoch)

    wait_until(lambda: "primary-rewound" in told(process))
    assert "server-changed" in told(process)
    assert_refused(process)
    assert living(place.json)["logs", "b"] == a_log("b", "lost")  # nothing was undone
    with pytest.raises(ConfigError, match="elect"):
        Process(replaced(place, postgres=standby))
    assert process.store.lag().blocked is not None
    process.store.close()


def test_writes_go_on_when_the_right_server_is_back(place: Place, one: Process) -> None:
    to(one, PG)
    one.put("a", "1")
    standby = copied(place.postgres)
    one.put("a", "2")
    one.store.catch_up()
    one.postgres.lead_to(standby, "standby")
    look(one)
    assert_refused(one)

    one.postgres.lead_to(place.postgres)
    look(one)

    one.put("a", "3")
    assert "primary-back" in told(one)
    one.store.catch_up()
    assert living(place.json) == living(place.postgres)


@pytest.mark.parametrize("phase", Phase)
def test_a_process_misses_its_own_last_commit_at_the_next_one(
    place: Place, one: Process, phase: Phase
) -> None:
    """The relay had not come to it; the number is given a second time."""
    to(one, phase)
    one.put("a", "1")
    side = primary_of(phase)
    backup = copied(place.of(side))
    one.put("a", "lost")

    one.line(side).lead_to(backup)
    one.put("b", "given the number of the lost one")

    assert "primary-rewound" in told(one)
    assert_refused(one)
    with pytest.raises(ConfigError, match="elect"):
        Process(replaced(place, **{side: backup}))


def test_of_many_threads_none_raises_a_false_alarm(place: Place) -> None:
    process = Process(place, relay_interval=0.005)
    to(process, P)

    def write(me: int) -> None:
        for n in range(60):
            process.put(f"{me}", f"{n}")

    workers = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    look(process)
    process.put("last", "1")
    assert not told(process)
    process.store.close()


# -- a detached store is a witness --------------------------------------------------------


@pytest.mark.parametrize("phase", [J, P])
def test_the_detached_store_knows_how_far_the_primary_was(
    place: Place, one: Process, phase: Phase
) -> None:
    to(one, phase)
    side = primary_of(phase)
    peer = place.of(other(side))
    one.put("a", "1")
    backup = copied(place.of(side))
    one.put("a", "2")
    look(one)
    found = witness(peer)
    assert found is not None
    assert found.source == place.of(side).identity()
    assert found.sequence == place.of(side).head()
    one.put("a", "3")
    one.store.close()  # leaves the last one
    assert witness(peer) != found

    with pytest.raises(ConfigError, match=r"number \d+ of 20.*elect"):
        Process(replaced(place, **{side: backup}))
    again = Process(place)
    again.put("a", "4")
    again.store.close()


@pytest.mark.parametrize("phase", [J, P])
def test_another_process_sees_what_is_lost_by_the_witness(
    place: Place, one: Process, two: Process, phase: Phase
) -> None:
    to(one, phase)
    side = primary_of(phase)
    backup = copied(place.of(side))
    one.put("a", "1")
    look(one)
    look(two)

    two.line(side).lead_to(backup)
    look(two)

    assert "primary-rewound" in told(two)
    assert_refused(two)


@pytest.mark.parametrize("phase", [J, P])
def test_a_detached_store_out_of_reach_is_no_obstacle(
    place: Place, one: Process, phase: Phase
) -> None:
    to(one, phase)
    peer = other(primary_of(phase))
    one.put("a", "1")
    look(one)
    one.line(peer).is_cut = True

    look(one)
    one.put("a", "2")
    one.store.close()
    again = Process(place)
    again.line(peer).is_cut = True
    look(again)
    again.put("a", "3")
    again.line(peer).is_cut = False
    look(again)

    assert "primary-rewound" not in told(one) | told(again)
    found = witness(place.json if phase is P else place.postgres)
    assert found is not None
    assert found.sequence == place.of(primary_of(phase)).head()
    again.store.close()


def test_a_store_that_cannot_be_used_as_configured_is_not_called_rewound(
    place: Place, one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where every server of an address is read-only in the middle of a failover."""
    to(one, PG)
    one.put("a", "1")

    def read_only(token: str) -> Change | None:
        raise ConfigError(f"the server is read-only ({token}).")

    with monkeypatch.context() as patch:
        patch.setattr(place.postgres, "find_commit", read_only)
        look(one)

    one.put("a", "2")
    assert "primary-rewound" not in told(one)


def test_a_witness_whose_entry_was_pruned_is_silent(place: Place, one: Process) -> None:
    to(one, P)
    one.put("a", "1")
    look(one)
    place.postgres.prune(place.postgres.head())

    look(one)
    one.put("a", "2")
    again = Process(place)
    again.put("a", "3")

    assert "primary-rewound" not in told(one) | told(again)
    again.store.close()


# -- exchanged, and nothing lost ----------------------------------------------------------


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("is_running", [False, True])
def test_a_move_that_loses_nothing_is_told_and_goes_on(
    place: Place, one: Process, phase: Phase, is_running: bool
) -> None:
    to(one, phase)
    one.put("a", "1")
    one.store.catch_up()
    look(one)
    side = primary_of(phase)
    moved = copied(place.of(side))
    if is_running:
        process = one
    else:
        one.store.close()
        process = Process(place)
        process.store.close()
        process.events.clear()
    process.line(side).lead_to(moved, "new server")
    if not is_running:
        process.store = process._make()

    look(process)
    look(process)

    changed = [e for e in process.events if e.name == "server-changed"]
    assert len(changed) == 1
    assert "new server" in changed[0].message
    assert place.of(side).identity() in changed[0].message
    process.put("a", "2")
    assert process.store.phase is phase
    look(process)
    process.store.close()
    process.events.clear()
    process.store = process._make()
    look(process)
    assert "server-changed" not in told(process)  # it is known by now
    process.store.catch_up()
    if phase in {PAR, PG}:
        mark = ReplicationPosition.load(place.postgres if phase is PAR else place.json)
        assert mark is not None
        assert mark.incarnation == "new server"
    for wanted in (PAR, PG, PAR):
        to(process, wanted)
    assert process.get("a") == "2"
    process.store.close()


@pytest.mark.parametrize("side", ["json", "postgres"])
def test_a_validation_counts_for_the_servers_that_it_was_made_against(
    place: Place, one: Process, side: Side
) -> None:
    to(one, PAR)
    one.put("a", "1")
    one.store.validate()
    codes = {b.code: b.sentence for b in one.store.readiness(PG).blockers}
    assert "validation" not in codes

    one.line(side).lead_to(copied(place.of(side)), "new server")

    codes = {b.code: b.sentence for b in one.store.readiness(PG).blockers}
    assert "was exchanged since" in codes["validation"]
    assert "new server" in codes["validation"]
    one.store.validate()
    assert "validation" not in {b.code for b in one.store.readiness(PG).blockers}


def test_a_mark_on_no_entry_counts_for_nothing_at_another_server(
    place: Place, one: Process
) -> None:
    to(one, PAR)
    one.put("old", "1")
    to(one, PG)
    mark = ReplicationPosition.load(place.json)
    assert mark is not None
    assert mark.sequence > 0
    assert (mark.committed_at, mark.needs_no_backfill) == (None, True)
    exchanged = copied(place.postgres)
    one.postgres.lead_to(exchanged, "new server")
    exchanged.commit(
        SCHEMA.batch([SCHEMA.put(Log, a_log("a", "1"))]),
        epoch=exchanged.role().epoch,
    )

    one.store.catch_up()

    assert "backfill-needed" in told(one)
    mark = ReplicationPosition.load(place.json)
    assert mark is not None
    assert (mark.incarnation, mark.needs_no_backfill) == ("new server", False)
    one.store.backfill()
    to(one, PAR)
    assert one.get("a") == "1"


def test_marks_of_older_versions_are_taken_along(place: Place, one: Process) -> None:
    to(one, PAR)
    one.put("a", "1")
    one.store.catch_up()
    found = place.postgres.meta(POSITION_META)
    assert isinstance(found, dict)
    old = {k: v for k, v in found.items() if k not in {"token", "incarnation"}}
    place.postgres.compare_and_set_meta(POSITION_META, found, old)

    process = Process(place)
    process.put("a", "2")
    process.store.catch_up()

    mark = ReplicationPosition.load(place.postgres)
    assert mark is not None
    assert mark.token is not None
    assert mark.incarnation == place.json.incarnation()
    to(process, PG)
    process.store.close()


# -- copies with one identity -------------------------------------------------------------


@pytest.mark.parametrize("phase", Phase)
def test_of_two_copies_of_a_primary_one_is_refused_and_both_are_named(
    place: Place, one: Process, phase: Phase
) -> None:
    to(one, phase)
    one.put("a", "1")
    one.store.catch_up()
    look(one)
    side = primary_of(phase)
    twin = copied(place.of(side))
    one.line(side).server = "original"
    look(one)
    second = Process(replaced(place, **{side: twin}))
    second.line(side).server = "copy"
    look(second)
    assert "server-changed" in told(second)

    one.put("b", "in the original")
    one.store.catch_up()
    look(one)
    look(second)

    with pytest.raises(ConfigError) as caught:
        second.put("c", "in the copy")
    assert "copy" in str(caught.value)
    assert twin.identity() == place.of(side).identity()
    one.put("b", "2")
    second.store.close()


# -- the vote -----------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["json", "postgres"])
def test_after_a_vote_everything_goes_on_and_the_stores_become_equal(
    place: Place, one: Process, side: Side
) -> None:
    to(one, PG)
    one.put("a", "1")
    one.put("both", "1")
    standby = copied(place.postgres)
    one.put("a", "lost")
    one.put("b", "lost")
    one.store.catch_up()
    one.postgres.lead_to(standby, "standby")
    for key in ("a", "c"):
        put = SCHEMA.put(Log, a_log(key, "after"))
        standby.commit(SCHEMA.batch([put]), epoch=standby.role().epoch)
    look(one)
    assert_refused(one)
    one.store.close()

    vote = force_promotion(place.json, standby, side)

    assert vote.missing is not None
    lost = {(r.key, r.record.text) for c in vote.missing for r in c.records if r.record}
    expected = (
        {("a", "lost"), ("b", "lost")}
        if side == "postgres"
        else {
            ("a", "after"),
            ("c", "after"),
        }
    )
    assert lost == expected
    voted = replaced(place, postgres=standby)
    process = Process(voted)
    process.put("d", "1")
    look(process)
    assert "primary-rewound" not in told(process)
    with pytest.raises(SwitchRefused, match="empty"):
        to(process, PAR if side == "json" else PG)
    process.store.close()
    emptied = replaced(voted, **{other(side): MemoryStore(SCHEMA)})
    process = Process(emptied)
    to(process, PAR if side == "json" else PG)
    process.store.backfill()
    process.store.catch_up()
    assert living(emptied.json) == living(emptied.postgres)
    assert process.get("d") == "1"
    process.put("a", "2")
    process.store.close()


# -- the switch ---------------------------------------------------------------------------


def test_what_is_lost_behind_the_fence_calls_the_switch_off(
    place: Place, one: Process
) -> None:
    """A commit between the last drain and the fence: only this process knows of it."""
    to(one, PG)
    one.put("a", "1")
    one.store.catch_up()
    standby = copied(place.postgres)
    switch = Task(lambda: to(one, PAR)).start("switch.prepared")
    one.postgres.before_next["compare_and_set_meta"] = lambda: one.put("b", "lost")
    switch.resume("switch.fenced")
    meta = place.postgres.meta("role")
    standby.compare_and_set_meta("role", standby.meta("role"), meta)
    one.postgres.lead_to(standby, "standby")

    switch.resume()

    assert isinstance(switch.error, PendStorageError)
    assert place.json.role().role.value == "secondary"


def test_looks_are_at_most_one_a_second(
    place: Place, one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Route] = []
    compare = log_continuity.LogContinuity._compare

    def counted(self: log_continuity.LogContinuity, route: Route) -> None:
        looks.append(route)
        compare(self, route)

    monkeypatch.setattr(log_continuity.LogContinuity, "_compare", counted)
    to(one, P)
    looks.clear()
    for n in range(50):
        one.put("a", f"{n}")
        one.store._router.maintain()

    assert len(looks) <= 2


# -- what a process leaves when it closes -------------------------------------------------


@pytest.mark.parametrize("phase", [PAR, PG])
@pytest.mark.parametrize("is_passed", [False, True])
def test_a_primary_put_back_between_two_processes_is_noticed(
    place: Place, phase: Phase, is_passed: bool
) -> None:
    """The follower got the last commit directly, beyond its mark."""
    process = Process(place)
    to(process, phase)
    side = primary_of(phase)
    process.put("a", "1")
    process.store.catch_up()
    backup = copied(place.of(side))
    process.put("b", "lost")
    if is_passed:
        process.store.catch_up()
    follower = place.of(other(side))
    assert living(follower)["logs", "b"] == a_log("b", "lost")

    process.store.close()

    assert (witness(follower) is None) is is_passed  # the mark is proof enough
    assert Process(place).get("b") == "lost"
    with pytest.raises(ConfigError, match=r"number \d+.*elect"):
        Process(replaced(place, **{side: backup}))


def test_closing_does_not_wait_for_a_store_that_hangs(
    place: Place, one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_continuity, "_LEAVING", 0.05)
    to(one, PG)
    one.put("a", "1")
    hangs = threading.Event()
    one.json.before_next["meta"] = lambda: hangs.wait(30)
    began = time.monotonic()

    one.store.close()

    assert time.monotonic() - began < 5.0
    hangs.set()


@pytest.mark.parametrize("side", ["json", "postgres"])
def test_closing_beside_a_store_out_of_reach_raises_nothing(
    place: Place, one: Process, side: Side
) -> None:
    to(one, PG)
    one.put("a", "1")
    one.line(side).is_cut = True

    one.store.close()

    assert witness(place.json) is None


def test_a_witness_of_a_follower_is_no_obstacle_once_it_was_passed(
    place: Place, one: Process
) -> None:
    to(one, PG)
    one.put("a", "1")
    one.store.close()
    assert witness(place.json) is not None

    again = Process(place)
    again.put("a", "2")
    again.store.catch_up()
    place.postgres.prune(place.postgres.head())
    for phase in (PAR, PG, P, PG, J):
        to(again, phase)
        again.put("a", phase.value)
        look(again)

    assert "primary-rewound" not in told(again)
    assert again.get("a") == J.value
    again.store.close()


def test_a_witness_says_nothing_of_a_store_that_was_emptied_since(place: Place) -> None:
    """Of its records and its log, and not of its name."""
    process = Process(place)
    to(process, PG)
    process.put("a", "1")
    process.store.close()
    process = Process(place)
    to(process, J)
    process.store.close()
    assert witness(place.json) is not None
    emptied = MemoryStore(SCHEMA)
    named = tuple(
        (name, value)
        for name, value in place.postgres._state.meta.items()
        if name not in {POSITION_META, BACKFILL_META, WITNESS_META}
    )
    emptied._state.install(LogRecord(rows=(), meta=named))
    assert emptied.identity() == place.postgres.identity()

    process = Process(replaced(place, postgres=emptied))
    to(process, PAR)
    process.store.backfill()
    to(process, PG)
    look(process)

    assert "primary-rewound" not in told(process)
    process.put("a", "2")
    process.store.close()
