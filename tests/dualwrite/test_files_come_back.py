"""A directory made from the other store has everything that the lost one had.

Two servers begin with the same files. One stays on JSON; the other goes through all
phases, loses its directory, and goes back. Then their directories are compared: which
files there are, byte for byte, and who may read them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pend_storage._files.durability import write_all
from pend_storage._layouts.unread_files import as_stored
from pend_storage.backfill import backfill
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.operations import quarantine
from pend_storage.pend import LAYOUTS, SCHEMA, User
from pend_storage.phases import Phase
from pend_storage.records import LegacyFile, QuarantinedRecord
from pend_storage.sample_data import generate
from pend_storage.sample_data.damage import Damage
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.json._legacy_sync import render
from pend_storage.stores.json._legacy_sync.file_permissions import (
    FilePermissions,
    permissions_key,
)
from pend_storage.stores.memory import MemoryStore
from pend_storage.validation import render_check, validate
from pend_storage.validation._exact_json_compare import unequal
from tests.ages import age

from .processes import Line, living

J, PAR, PG, P = Phase
WALLETS = "wallet-db.json"
LOGS = "admin-logs.json"
EVENTS = "explorer-data/transactions-log.json"
HISTORY = "explorer-data/full-chain-history.json"
TIERS = "admin-pool-tiers.json"
PLAIN = "investments.json"  # of a collection that has no legacy file
MODES: Final = (0o600, 0o640, 0o644, 0o664, 0o666, 0o400, 0o755)

Found = dict[str, tuple[bytes, int]]


def no_work(_: Store) -> None:
    """Leave everything as it is."""


def wallet(number: int) -> tuple[str, str]:
    return f"0x{number:064x}", f"0x{number:040x}"


def log(number: int) -> dict[str, Any]:
    time = f"2026-01-01T00:00:{number:02}.000Z"
    return {"id": str(number), "action": "look", "timestamp": time}


HALF: Final = b'{"logs": [{"id": "1", "action'


def whole(*numbers: int) -> bytes:
    logs = {"n": 1, "logs": [log(number) for number in numbers], "m": []}
    return json.dumps(logs, indent=4).encode() + b"\n"


def found_in(directory: Path) -> Found:
    """By name, the bytes and the permission bits."""
    return {
        str(path.relative_to(directory)): (
            path.read_bytes(),
            path.stat().st_mode & 0o7777,
        )
        for path in sorted(directory.rglob("*"))
        if path.is_file() and ".pend-storage" not in path.parts
    }


class Twins:
    """Two directories that were equal, and the stores that work on them."""

    def __init__(self, place: Path) -> None:
        self.moved, self.stayed = place / "moved", place / "stayed"
        self.postgres = MemoryStore(SCHEMA, layouts=LAYOUTS)

    def begin(
        self, files: Mapping[str, bytes], modes: Iterable[int] = (0o644,)
    ) -> None:
        bits = list(modes)
        for number, (name, raw) in enumerate(files.items()):
            path = self.moved / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(raw)
            age(path)
            path.chmod(bits[number % len(bits)])
        self.copy()

    def copy(self) -> None:
        self.moved.mkdir(exist_ok=True)
        shutil.copytree(self.moved, self.stayed)

    def json(self, directory: Path) -> JsonStore:
        return JsonStore(SCHEMA, directory, layouts=LAYOUTS, hook=lambda _: None)

    @contextmanager
    def alone(self) -> Iterator[JsonStore]:
        """The server that stays on JSON."""
        with self.json(self.stayed) as store:
            yield store

    @contextmanager
    def pair(self) -> Iterator[DualWriteStore]:
        """The server that moves."""
        with DualWriteStore(
            json=self.json(self.moved),
            postgres=Line(self.postgres),
            relay_interval=None,
            backfill=backfill,
            validate=validate,
            hook=lambda _: None,
        ) as store:
            yield store

    def go(self, *phases: Phase) -> None:
        with self.pair() as store:
            for phase in phases:
                store.switch(phase, accept=CODES)
                if phase is PAR:
                    store.backfill()

    def lose(self) -> None:
        shutil.rmtree(self.moved)
        self.moved.mkdir()

    def lose_and_come_back(self) -> None:
        """From `P`, to JSON alone."""
        self.lose()
        with self.pair() as store:
            store.switch(PG, accept=CODES)
            assert store.validate().ok
            store.switch(J, accept=CODES)
        with self.json(self.moved) as alone, as_stored():
            assert living(alone) == living(self.postgres)

    def come_back(self) -> None:
        """From `P`, to JSON alone; the directory is as it was when it was detached."""
        self.go(PG, PAR, J)

    def through(
        self, work: Callable[[Store], object] = no_work, *, lost: bool = True
    ) -> None:
        """Both work; one in `J`, the other in `P`. Then its directory is made anew."""
        with self.alone() as store:
            work(store)
        self.go(PAR, PG, P)
        with self.pair() as store:
            work(store)
        if lost:
            self.lose_and_come_back()
        else:
            self.come_back()

    def edit(self, file: str, raw: bytes) -> None:
        """Old code writes the file, on both servers."""
        for directory in (self.moved, self.stayed):
            (directory / file).write_bytes(raw)
            age(directory / file)

    def chmod(self, file: str, mode: int) -> None:
        for directory in (self.moved, self.stayed):
            (directory / file).chmod(mode)

    def meet(self, *phases: Phase) -> None:
        """Both servers checkpoint their files; one of them in some phases first."""
        self.go(*phases)
        with self.pair(), self.alone():
            pass

    def assert_equal(self, *, by_value: Iterable[str] = ()) -> None:
        """The directories hold the same.

        Args:
            by_value: files of which the spacing may differ, because it is not the same
                throughout, and there was no text to copy from.
        """
        moved, stayed = found_in(self.moved), found_in(self.stayed)
        for name in by_value:
            (ours, mode), (theirs, _) = moved[name], stayed[name]
            if not list(unequal(theirs, ours)):
                moved[name] = (theirs, mode)
        assert moved == stayed


@pytest.fixture
def twins(tmp_path: Path) -> Twins:
    return Twins(tmp_path)


# -- every kind of file -------------------------------------------------------------------

NOTHING: Final = (b"", b" \n", b"[]", b"{}", b"[]\n", b"{}\r\n", b"[ ]", b"{\n}")
WITH_MARK: Final = tuple(b"\xef\xbb\xbf" + raw for raw in (b"[]", b"{}", b"[1,2]", b""))
BROKEN: Final = (
    *(b"{", b"[1,", b'"x"', b"3", b"null", b"\x00" * 9, b"\xff", b'{"a":1} {"b":2}'),
    *('{"a":1}'.encode("utf-16"), b"\x1f\x8b\x08rest", b"// no\n{}", b"[1,]", b"<<<<"),
)
NOT_JSON: Final = (b"{", b"[1,", b"\xff", b"<<<<")
"""A file that is JSON of another shape than the store's own is refused at opening."""
ANY: Final = (
    b"[1,2]",
    b'{"a":1}',
    b'[\n  1,\n  {\n    "b": []\n  }\n]\n',
    b'{\n\t"a": 1\n}',
)
OF_LOGS: Final = (
    *(b'{"logs": []}', b'{"logs":[]}', b'{\n  "logs": []\n}\n', b'{"total":1}'),
    *(b'{"total": 0, "logs": [ ], "x": {}}', b'{"logs": 3}', b'{"logs": null}'),
    *(b'{"logs":[],"logs":[]}', json.dumps([log(1)]).encode(), b'{"logs":[1]}'),
    json.dumps({"n": 1, "logs": [log(1), log(2)], "m": []}, indent=4).encode(),
    b"\xef\xbb\xbf" + json.dumps({"logs": [log(1)]}).encode() + b"\r\n",
)
OF_WALLETS: Final = (
    *(b"[1]", b"[]", json.dumps(dict([wallet(1)])).encode() + b"\n"),
    json.dumps({**dict([wallet(1)]), "no wallet": 3}, indent="\t").encode(),
)
OF_HISTORY: Final = (
    *(b'{"blocks": []}', b'{"blocks": [1], "h": 2}', b'{"blocks": 3}', b"[3]"),
)
OTHERS: Final = tuple(
    layout.file
    for layout in LAYOUTS
    if layout.file not in {WALLETS, LOGS, HISTORY, "server-logs.json"}
)


def directories() -> list[dict[str, bytes]]:
    """Directories that hold every kind; a file may be missing."""
    rounds: list[dict[str, bytes]] = [{} for _ in range(8)]
    rest = [*NOTHING, *WITH_MARK, *BROKEN, *ANY]
    places = ((files, name) for files in rounds for name in OTHERS)
    for raw, (files, name) in zip(rest, places, strict=False):
        files[name] = raw
    own = {
        LOGS: OF_LOGS[:8],
        "server-logs.json": (*OF_LOGS[8:], *BROKEN[:4]),
        WALLETS: (*OF_WALLETS, *NOTHING[:2], *BROKEN[:2]),
        HISTORY: (*OF_HISTORY, *ANY),
        PLAIN: (*NOTHING[:2], b"{}", b"{ }\n", *NOT_JSON),
    }
    for name, raws in own.items():
        for files, raw in zip(rounds, raws, strict=True):
            files[name] = raw
    return rounds


def test_a_directory_of_any_kind_comes_back(tmp_path: Path) -> None:
    for number, files in enumerate(directories()):
        twins = Twins(tmp_path / str(number))
        twins.begin(files, MODES[number % len(MODES) :] + MODES)

        twins.through()

        twins.assert_equal()
        moved = {name: raw for name, (raw, _) in found_in(twins.moved).items()}
        assert files.items() <= moved.items()
        assert moved.keys() - files.keys() <= {"user_profiles.json"}
        with twins.pair():
            pass  # and is read as it was written
        twins.assert_equal()


@pytest.mark.parametrize("lost", [True, False], ids=["lost", "kept"])
def test_so_does_one_that_was_used_meanwhile(twins: Twins, *, lost: bool) -> None:
    """First records of empty files, last records of others, and files that were missing."""
    twins.begin(
        {
            LOGS: json.dumps({"logs": [log(1)]}).encode(),
            WALLETS: b"\n",
            "server-logs.json": b"[]",
            EVENTS: b"[ ]\n",
            TIERS: b'{"gold":1}\n',
        },
        (0o600, 0o640, 0o660, 0o644),
    )
    kyc = "uploads/kyc/metadata.json"

    def work(store: Store) -> None:
        del store.legacy(LOGS)["logs"][0]
        del store.legacy(TIERS)["gold"]
        store.legacy(WALLETS).update([wallet(1)])
        store.legacy("server-logs.json")["logs"].append(log(1))
        store.legacy("server-logs.json")["version"] = 3
        store.legacy("consents-db.json")["a"] = {"b": 1}  # missing before
        # Made and emptied again: such a file is there, empty.
        store.legacy(kyc)[wallet(1)[0]] = {
            "verificationStatus": "verified",
            "lastUpdated": "2026-01-01T00:00:00.000Z",
        }
        del store.legacy(kyc)[wallet(1)[0]]
        store.legacy("admin-opportunities.json")["version"] = 3  # no record, a member

    twins.through(work, lost=lost)

    twins.assert_equal()
    files = found_in(twins.moved).items()
    found = {name: (raw.decode(), mode) for name, (raw, mode) in files}
    assert found[LOGS] == ('{"logs": []}', 0o600)
    assert found[WALLETS][1] == 0o640
    assert found[TIERS] == ("{}\n", 0o600)
    assert found[EVENTS] == ("[ ]\n", 0o644)
    assert found[kyc][0] == "{}"
    shown = {name: json.loads(text) for name, (text, _) in found.items()}
    assert shown["server-logs.json"] == {"logs": [log(1)], "version": 3}
    assert shown["admin-opportunities.json"]["version"] == 3
    assert shown["consents-db.json"] == {"a": {"b": 1}}


def test_a_file_that_json_made_and_emptied_comes_back_empty(twins: Twins) -> None:
    """A file that shares its collection leaves no tombstone that shows it was there."""
    name = "consents-db.json"
    twins.begin({TIERS: b"[1]"})
    twins.meet(PAR)
    for item in ({"a": 1}, {}):
        with twins.pair() as store, twins.alone() as alone:
            for server in (store, alone):
                server.legacy(name).update(item)
                if not item:
                    server.legacy(name).clear()

    twins.through()

    twins.assert_equal()
    assert found_in(twins.moved)[name][0] == b"{}"


def test_files_that_somebody_deletes_come_back(twins: Twins) -> None:
    twins.begin(
        {WALLETS: b"[]", LOGS: b"", TIERS: b"[1]", EVENTS: b"{", HISTORY: b"{ }"},
        MODES,
    )
    twins.meet()
    before = found_in(twins.stayed)
    for name in before:
        (twins.stayed / name).unlink()

    twins.meet()

    assert found_in(twins.stayed) == before


def test_files_made_from_a_store_are_compared_with_those_of_the_directory(
    twins: Twins,
) -> None:
    twins.begin({WALLETS: b"[]", LOGS: whole(1), TIERS: b"[1", EVENTS: b"[]"})
    twins.meet(PAR)
    twins.edit(LOGS, HALF)
    twins.meet()
    with twins.pair() as store:
        store.catch_up()
    (twins.moved / EVENTS).unlink()
    checked = {c.file: c.result for c in render_check(twins.postgres, twins.moved)}
    expected = dict.fromkeys([WALLETS, LOGS, TIERS], "identical")
    assert checked == {**expected, EVENTS: "missing"}

    with twins.pair() as store:
        for aside in list(store.collection(QuarantinedRecord).scan()):
            quarantine.accept(store, aside, "written from the records")
        store.catch_up()
    checked = {c.file: c.result for c in render_check(twins.postgres, twins.moved)}
    assert checked == {**expected, EVENTS: "identical"}


# -- modes --------------------------------------------------------------------------------


def test_the_mode_that_comes_back_is_the_last_one(twins: Twins) -> None:
    twins.begin({WALLETS: b"{}", LOGS: b"[]", TIERS: b"[1]", EVENTS: b"[]"})
    twins.meet(PAR)
    twins.chmod(WALLETS, 0o600)
    for directory in (twins.moved, twins.stayed):  # an edit by rename has its own mode
        new = directory / "new"
        new.write_bytes(b'{"logs": []}')
        new.chmod(0o640)
        new.rename(directory / LOGS)
    twins.meet()
    twins.meet(PG)
    twins.chmod(TIERS, 0o604)  # JSON follows: it is noted when it is primary again
    twins.meet(PAR)

    twins.through()

    twins.assert_equal()
    modes = {name: mode for name, (_, mode) in found_in(twins.moved).items()}
    assert modes == {WALLETS: 0o600, LOGS: 0o640, TIERS: 0o604, EVENTS: 0o644}


def test_a_chmod_writes_no_file_anew(twins: Twins) -> None:
    twins.begin({TIERS: b'[1, {"b":2} , 3]'})
    twins.meet()
    before = (twins.stayed / TIERS).stat()
    twins.chmod(TIERS, 0o600)

    twins.meet()

    after = (twins.stayed / TIERS).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_who_may_not_read_a_file_may_do_so_at_no_moment(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    kyc = "uploads/kyc/metadata.json"
    twins.begin({TIERS: b"[1]", kyc: b"{}"}, (0o600,))
    seen: set[int] = set()

    def spy(fd: int, data: bytes, offset: int | None = None) -> None:
        seen.add(os.fstat(fd).st_mode & 0o777)
        write_all(fd, data, offset)

    monkeypatch.setattr(render, "write_all", spy)
    with twins.alone() as store:
        store.legacy(TIERS).append(2)  # the file is there
    twins.through()  # and here it is not

    assert seen == {0o600}
    assert {mode for _, mode in found_in(twins.moved).values()} == {0o600}
    folders = (twins.moved / "uploads", twins.moved / "uploads/kyc")
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700, 0o700]


def test_a_group_that_cannot_be_kept_gets_nothing_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for mode, left in ((0o660, 0o600), (0o664, 0o644), (0o604, 0o604)):
        path.touch(0o600)
        fd = os.open(path, os.O_RDWR)
        FilePermissions(mode, None, "a group that is not here").apply(
            fd, tmp_path.stat()
        )
        os.close(fd)
        assert path.stat().st_mode & 0o777 == left


def test_an_owner_is_given_as_far_as_the_system_lets_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, int]] = []

    def refuse(_: int, user: int, group: int) -> None:
        calls.append((user, group))
        if user != -1:
            raise PermissionError

    monkeypatch.setattr(os, "fchown", refuse)
    (tmp_path / "file").touch()
    fd = os.open(tmp_path / "file", os.O_RDWR)
    FilePermissions(0o600, "54321", "54322").apply(fd, tmp_path.stat())
    FilePermissions(0o600, "no such user name", None).apply(fd, tmp_path.stat())
    os.close(fd)

    assert calls == [(54321, 54322), (-1, 54322)]


def test_a_directory_made_before_gets_its_modes_noted(twins: Twins) -> None:
    twins.begin({WALLETS: b"{}", TIERS: b"[1]"}, (0o600,))
    with twins.alone() as store:
        for name in (WALLETS, TIERS):
            store.collection(LegacyFile).delete(permissions_key(name))
        store.checkpoint()
        rows = store.collection(LegacyFile).get_many([permissions_key(WALLETS)])
    (noted,) = rows.values()
    assert FilePermissions.of_row(noted) == FilePermissions.of_file(
        (twins.stayed / TIERS).stat()
    )


# -- files that are broken as a whole -------------------------------------------------------


def test_a_file_broken_under_way_comes_back_broken(twins: Twins) -> None:
    wallets = json.dumps(dict([wallet(1)])).encode()
    files = {LOGS: whole(1, 2), TIERS: b'{"gold": 1}', WALLETS: wallets}
    twins.begin(files, (0o600,))
    twins.meet(PAR)
    for raw in (HALF, b"\x00" * 9, HALF):
        twins.edit(LOGS, raw)
        twins.edit(TIERS, raw[1:])
        twins.edit(WALLETS, raw)
        twins.meet()

    def work(store: Store) -> None:
        (user,) = store.collection(User).scan()
        store.collection(User).put(replace(user, tier=3))

    twins.through(work)

    twins.assert_equal()
    found = found_in(twins.moved)
    assert (found[LOGS], found[TIERS]) == ((HALF, 0o600), (HALF[1:], 0o600))
    # Repaired afterwards: what the repaired file leaves out was never in the one before.
    twins.edit(LOGS, whole(1, 3))
    twins.edit(WALLETS, json.dumps({wallet(1)[0]: wallet(9)[1]}).encode())
    twins.meet()
    assert json.loads((twins.stayed / LOGS).read_text())["logs"] == [log(1), log(3)]
    logs = json.loads((twins.moved / LOGS).read_text())["logs"]
    assert sorted(item["id"] for item in logs) == ["1", "2", "3"]
    with twins.pair() as store:
        (user,) = store.collection(User).scan()
        assert user.blockchain_address == wallet(9)[1]
        assert user.tier == 3  # in no file
        assert {r.file for r in store.collection(QuarantinedRecord).scan()} == {TIERS}


def test_a_broken_file_that_is_deleted_is_there_again(twins: Twins) -> None:
    """Also one that had records before, and is cut to nothing."""
    server_logs = "server-logs.json"
    twins.begin({LOGS: whole(1, 2), server_logs: whole(3), TIERS: b"[1"})
    twins.meet(PAR)
    twins.edit(LOGS, HALF)
    twins.edit(server_logs, HALF)
    twins.meet()
    before = found_in(twins.stayed)
    for directory in (twins.moved, twins.stayed):
        (directory / LOGS).unlink()
        (directory / TIERS).unlink()
    twins.edit(server_logs, b"")

    twins.meet()

    twins.assert_equal()
    assert found_in(twins.stayed) == before


@pytest.mark.parametrize("retried", [False, True], ids=["accepted", "retried"])
def test_what_was_decided_about_a_broken_file_comes_back(
    twins: Twins, *, retried: bool
) -> None:
    twins.begin({LOGS: whole(1, 2)}, (0o600,))
    twins.meet(PAR)
    twins.edit(LOGS, HALF)
    twins.meet()

    def decide(store: Store) -> None:
        (aside,) = store.collection(QuarantinedRecord).scan()
        if retried:
            assert quarantine.retry(store, aside, text=whole(1, 3)).placed
        else:
            quarantine.accept(store, aside, "written from the records")

    twins.through(decide)

    twins.assert_equal()
    if retried:
        assert (twins.moved / LOGS).read_bytes() == whole(1, 3)
    else:
        shown = json.loads((twins.moved / LOGS).read_text())
        assert shown == {"logs": [log(1), log(2)]}


def test_an_edit_that_breaks_the_file_of_a_secondary_takes_nothing_from_it(
    twins: Twins,
) -> None:
    twins.begin({LOGS: whole(1, 2), TIERS: b"[1"}, (0o600,))
    twins.meet(PAR, PG)
    for name in (LOGS, TIERS):
        (twins.moved / name).write_bytes(b"[[[")

    twins.meet()

    twins.assert_equal()
    with twins.pair() as store:
        assert store.validate().ok


# -- any directory ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.deep)])
def test_a_damaged_sample_comes_back(twins: Twins, seed: int) -> None:
    kinds = list(Damage)
    names = [layout.file for layout in LAYOUTS]
    shift = seed * 5
    damage = {
        name: kinds[(number + shift) % len(kinds)].value
        for number, name in enumerate(names)
        if name in {LOGS, "admin-opportunities.json", "server-logs.json", HISTORY}
        or kinds[(number + shift) % len(kinds)]
        not in {Damage.BARE, Damage.OTHER_MEMBERS}
    }
    generate(twins.moved, users=12, irregular=0.2, seed=seed, damage=damage)
    twins.copy()

    twins.through()

    twins.assert_equal(by_value=found_in(twins.stayed))


names = st.sampled_from([f"n{n}" for n in range(4)] + ["", "é", "a b"])
leaves = (
    st.none() | st.booleans() | st.integers(-9, 10**20) | st.sampled_from(["", "x"])
)
bodies = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)
    ),
)


@st.composite
def texts(draw: st.DrawFn, wrapper: str | None) -> bytes:
    """The text of a file of records, or of what is none, in one style throughout."""
    value: Any = draw(
        st.lists(bodies, max_size=3) | st.dictionaries(names, bodies, max_size=3)
    )
    if wrapper is not None and draw(st.booleans()):
        beside = draw(st.dictionaries(names, bodies, max_size=2))
        value = {**beside, wrapper: value}
    indent = draw(st.sampled_from([None, 1, 2, 4, "\t"]))
    separators = (",", ":") if indent is None and draw(st.booleans()) else None
    text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=False)
    if draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    before, after = (
        draw(st.sampled_from(["", "\ufeff"])),
        draw(st.sampled_from(["", "\n"])),
    )
    raw = (before + text + after).encode()
    return (
        raw[: draw(st.integers(0, len(raw)))] if draw(st.integers(0, 4)) == 0 else raw
    )


FILES = {layout.file: layout.wrapper for layout in LAYOUTS if layout.file != WALLETS}


@settings(
    deadline=None,
    max_examples=max(3, settings().max_examples // 40),
    suppress_health_check=list(HealthCheck),
)
@given(
    files=st.fixed_dictionaries(
        {}, optional={name: texts(wrapper) for name, wrapper in FILES.items()}
    ),
    modes=st.lists(st.sampled_from(MODES), min_size=1, max_size=5),
)
def test_any_directory_comes_back(
    files: dict[str, bytes], modes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    twins = Twins(tmp_path_factory.mktemp("any"))
    twins.begin(files, modes)

    twins.through()

    twins.assert_equal(by_value=files)
