"""Leases: one holder at a time, among processes and hosts that die, sleep and race."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typing_extensions import override

from pend_storage.backup import _holder as holder_module
from pend_storage.backup import _leases as leases
from pend_storage.backup._folder_repository import FolderRepository
from pend_storage.backup._holder import Holder, this_process
from pend_storage.backup._opening import open_repository
from pend_storage.backup._repository import Repository
from pend_storage.errors import ConfigError, LockTimeout, StoreUnavailable
from pend_storage.testing import Child, run_until_crash
from pend_storage.testing.crash import Report


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "repository"


@pytest.fixture
def repository(path: Path) -> Repository:
    return open_repository(str(path), create=True)


def hold_until_killed(report: Report, path: str, seconds: float) -> None:
    with open_repository(path).lease("create", seconds=seconds) as held:
        held.require()
        report("held")
        time.sleep(600)


def written(repository: Repository, name: str = "create", **facts: Any) -> Holder:
    """Write a lease of another host, with the next number."""
    now = datetime.now(UTC)
    holder = msgspec.structs.replace(
        this_process(now, 120), host="elsewhere", process=None, random="theirs"
    )
    holder = msgspec.structs.replace(holder, **facts)
    number = len(repository.list(f"leases/{name}/")) + 1
    place = f"leases/{name}/{number:012d}.json"
    repository.put(place, [msgspec.json.encode(holder)], create_only=True)
    return holder


def test_a_second_process_is_refused_and_learns_who_holds_it(
    repository: Repository, path: Path
) -> None:
    with Child(hold_until_killed, str(path), 60.0) as child:
        child.wait_for_reports()
        holder = f"process {child.pid} on "
        with (
            pytest.raises(LockTimeout, match=holder) as caught,
            repository.lease("create"),
        ):
            pass
        assert "since 20" in str(caught.value)
        with repository.lease("another"):
            assert sorted(leases.holders(repository)) == ["another", "create"]


def test_what_was_released_is_taken_at_once(repository: Repository) -> None:
    for _ in range(3):
        with repository.lease("create") as held:
            held.require()
            assert leases.holders(repository, "cre")["create"].pid == os.getpid()
        assert leases.holders(repository) == {}
        with pytest.raises(LockTimeout):
            held.require()


def test_it_is_released_by_an_error_too(repository: Repository) -> None:
    with pytest.raises(KeyError), repository.lease("create"):
        raise KeyError
    with repository.lease("create"):
        pass


def test_it_is_waited_for(repository: Repository) -> None:
    done: list[str] = []

    def wait() -> None:
        with repository.lease("create", wait=60):
            done.append("second")

    with repository.lease("create"):
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.3)
        done.append("first")
    waiting.join()
    assert done == ["first", "second"]


def test_one_of_a_process_that_died_on_this_machine_is_free_at_once(
    repository: Repository, path: Path
) -> None:
    with Child(hold_until_killed, str(path), 3_600.0) as child:
        child.wait_for_reports()
        child.kill()
    with repository.lease("create"):
        pass


def test_one_that_died_while_it_took_it_is_free_at_once(
    repository: Repository, path: Path
) -> None:
    run_until_crash(hold_until_killed, str(path), 3_600.0, point="lease.taken")
    with repository.lease("create"):
        pass


@pytest.mark.parametrize(
    "process", [None, "another-boot:1:2", "gone"], ids=["unknown", "boot", "reused"]
)
def test_only_a_process_of_this_machine_is_known_to_be_dead(
    repository: Repository, process: str | None
) -> None:
    mine = this_process(datetime.now(UTC), 120).process
    assert mine is not None
    if process == "gone":  # its number belongs to this process now
        written(repository, process=mine.rpartition(":")[0] + ":1", pid=os.getpid())
        with repository.lease("create"):
            return
    written(repository, process=process, pid=2**22 + 1)
    with pytest.raises(LockTimeout, match="elsewhere"), repository.lease("create"):
        pass


def test_an_expired_one_is_taken_when_clocks_that_differ_agree(
    repository: Repository,
) -> None:
    now = datetime.now(UTC)
    written(repository, expires=now - timedelta(seconds=holder_module.SKEW - 5))
    with pytest.raises(LockTimeout), repository.lease("create"):
        pass
    written(repository, expires=now - timedelta(seconds=holder_module.SKEW + 1))
    with repository.lease("create"):
        pass


def test_a_damaged_one_expires(repository: Repository, path: Path) -> None:
    repository.put("leases/create/000000000001.json", [b"{"])
    with pytest.raises(LockTimeout, match="unknown"), repository.lease("create"):
        pass
    old = time.time() - 2 * 3_600
    os.utime(path / "leases/create/000000000001.json", (old, old))
    with repository.lease("create"):
        pass


def test_one_of_a_newer_version_is_refused(repository: Repository) -> None:
    written(repository, format=2)
    newer = "newer version of pend_storage"
    with pytest.raises(ConfigError, match=newer), repository.lease("create"):
        pass


def race(report: Report, path: str, go: Path, done: Path) -> None:
    repository = open_repository(path)
    report("ready")
    wait_for(go)
    try:
        with repository.lease("create") as held:
            held.require()
            report("won")
            wait_for(done)
    except LockTimeout:
        report("lost")


def wait_for(file: Path) -> None:
    until(file.exists, 60)


@pytest.mark.parametrize("turn", range(2))
def test_of_processes_that_race_for_an_expired_one_exactly_one_wins(
    repository: Repository, path: Path, tmp_path: Path, turn: int
) -> None:
    written(repository, expires=datetime.now(UTC) - timedelta(hours=1))
    go, done = tmp_path / "go", tmp_path / "done"
    with contextlib.ExitStack() as stack:
        children = [
            stack.enter_context(Child(race, str(path), go, done)) for _ in range(4)
        ]
        for child in children:
            child.wait_for_reports()
        go.touch()
        outcomes = [child.wait_for_reports(2)[1] for child in children]
        done.touch()
        for child in children:
            child.finish()
    assert sorted(outcomes) == ["lost", "lost", "lost", "won"]


def test_threads_that_race_at_every_step_have_one_winner(
    repository: Repository,
) -> None:
    barrier = threading.Barrier(4)
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        barrier.wait(30)
        for _ in range(5):
            with repository.lease("create", wait=60):
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20


# -- renewal ---------------------------------------------------------------------------


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


def numbers(repository: Repository) -> list[int]:
    return leases._numbers(repository, "create")


def test_it_is_renewed_for_as_long_as_it_is_held(repository: Repository) -> None:
    with repository.lease("create", seconds=2.4) as held:
        until(lambda: numbers(repository)[-1] >= 4)
        held.require()
    assert len(numbers(repository)) <= 3, "old numbers are removed"


class Broken(FolderRepository):
    """Repository whose connection breaks."""

    is_broken = False
    is_answer_lost = False

    @override
    def put(
        self, name: str, content: Iterable[bytes], *, create_only: bool = False
    ) -> int:
        if self.is_broken:
            raise StoreUnavailable("the line is cut", store=self.url)
        size = super().put(name, content, create_only=create_only)
        if self.is_answer_lost:
            type(self).is_answer_lost = False
            raise StoreUnavailable("no answer", store=self.url, outcome_known=False)
        return size


@pytest.fixture
def broken(repository: Repository, path: Path) -> Iterator[Broken]:
    from pend_storage._files.directory import Directory

    yield Broken(Directory(path))
    Broken.is_broken = Broken.is_answer_lost = False


def is_held(held: Any) -> bool:
    try:
        held.require()
    except LockTimeout:
        return False
    return True


def test_one_that_cannot_be_renewed_is_no_longer_required_with_success(
    broken: Broken,
) -> None:
    with broken.lease("create", seconds=2.0) as held:
        held.require()
        Broken.is_broken = True
        until(lambda: not is_held(held))
        Broken.is_broken = False
        before = numbers(broken)
        time.sleep(0.6)
        assert numbers(broken) == before, "it does not come back to life"
        with pytest.raises(LockTimeout, match="could not be renewed"):
            held.require()


def test_a_short_break_is_survived(broken: Broken) -> None:
    with broken.lease("create", seconds=6.0) as held:
        Broken.is_broken = True
        time.sleep(2.5)
        held.require()
        Broken.is_broken = False
        until(lambda: numbers(broken)[-1] >= 2)
        held.require()


def test_a_renewal_whose_answer_was_lost_is_its_own(broken: Broken) -> None:
    with broken.lease("create", seconds=3.0) as held:
        Broken.is_answer_lost = True
        until(lambda: numbers(broken)[-1] >= 4)
        held.require()


def test_a_holder_that_slept_has_lost_what_another_took(
    repository: Repository,
) -> None:
    with repository.lease("create", seconds=1.2) as held:
        written(repository, expires=datetime.now(UTC) + timedelta(hours=1))
        until(lambda: not is_held(held), 5)
    assert leases.holders(repository)["create"].host == "elsewhere"


def test_a_number_that_was_removed_gives_no_lease(repository: Repository) -> None:
    # It slept between its look and its creation, for many renewals of others.
    held = leases._HeldLease(repository, "create", 120, 0)
    other = leases._HeldLease(repository, "create", 120, 0)
    assert other._advance()
    for _ in range(4):
        assert other._advance()
    assert 1 not in numbers(repository)
    assert not held.take()
    assert other._is_held()


def test_a_forked_child_does_not_hold_it(repository: Repository) -> None:
    with repository.lease("create") as held:
        child = os.fork()
        if child == 0:
            try:
                code = 1 if is_held(held) else 0
                held.release()  # type: ignore[attr-defined]
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        held.require()
        assert "create" in leases.holders(repository)


def test_free_ones_are_removed_after_a_day(repository: Repository) -> None:
    now = datetime.now(UTC)
    written(repository, "restore-1", released=True, expires=now - timedelta(days=2))
    written(repository, "restore-2", released=True, expires=now - timedelta(hours=2))
    written(repository, "restore-3", expires=now + timedelta(hours=2))
    assert leases.remove_old_leases(repository) == 1
    left = {each.name.split("/")[1] for each in repository.list("leases/")}
    assert left == {"restore-2", "restore-3"}


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".x"])
def test_names_are_verified(repository: Repository, name: str) -> None:
    with pytest.raises(ConfigError), repository.lease(name):
        pass


def test_no_secret_is_in_it(repository: Repository, path: Path) -> None:
    with repository.lease("create"):
        [file] = (path / "leases/create").iterdir()
        facts = json.loads(file.read_bytes())
    assert set(facts) <= {
        "format", "host", "pid", "process", "random", "since", "expires", "released"
    }  # fmt: skip
