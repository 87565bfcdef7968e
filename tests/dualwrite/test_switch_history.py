"""The history of switches: it is folded, and nothing of a person is dropped."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec
import pytest

from pend_storage.dualwrite import CODES
from pend_storage.dualwrite._pair_metadata import PairMetadata
from pend_storage.dualwrite._switch_history import (
    EARLIER_META,
    HISTORY_META,
    Switch,
    current_actor,
    folded,
    record_switch,
    recorded_switches,
)
from pend_storage.phases import Phase

from .processes import Process

J, PAR, PG, P = Phase
START = datetime(2026, 1, 1, tzinfo=UTC)


class Metadata:
    """Values of a pair, in memory."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        return self.values.get(name)

    def compare_and_set(
        self,
        name: str,
        expected: Any,
        value: Any,
        given: Mapping[str, Any] | None = None,
        also: Mapping[str, Any] | None = None,
    ) -> bool:
        if any(self.get(n) != v for n, v in {name: expected, **(given or {})}.items()):
            return False
        self.values |= {name: value, **(also or {})}
        return True


@pytest.fixture
def metadata() -> PairMetadata:
    return cast("PairMetadata", Metadata())


def step(
    number: int, by: str = "auto_switch of process 7 on web-1, for a flag"
) -> Switch:
    return Switch(
        at=START + timedelta(seconds=number),
        by=by,
        before=(J, PAR)[number % 2],
        after=(PAR, J)[number % 2],
        epoch=number,
        pause=0.25,
    )


def test_a_flood_of_automatic_switches_drops_nothing_of_a_person(
    metadata: PairMetadata,
) -> None:
    record_switch(metadata, step(0, "ann@desk, process 1"))
    record_switch(metadata, replace(step(1, "bob"), accepted=("quarantine",)))
    for number in range(2, 3_000):
        record_switch(metadata, step(number))
    record_switch(metadata, step(3_000, "ann@desk, process 2"))

    history = recorded_switches(metadata)

    assert [s.by for s in history if not s.is_automatic] == [
        "ann@desk, process 1",
        "bob",
        "ann@desk, process 2",
    ]
    assert history[1].accepted == ("quarantine",)
    assert sum(s.count for s in history) == 3_001
    assert len(history) < 110
    assert [s.at for s in history] == sorted(s.at for s in history)
    assert len(msgspec.json.encode(cast("Any", metadata).values)) < 100_000


def test_a_folded_entry_has_its_number_its_times_and_its_phases() -> None:
    (entry,) = folded([step(n) for n in range(5)])

    assert (entry.count, entry.since, entry.at) == (5, step(0).at, step(4).at)
    assert (entry.before, entry.after) == (step(0).before, step(4).after)
    assert entry.pause == pytest.approx(1.25)


def test_folding_again_adds_up_and_people_divide_the_runs() -> None:
    once = folded([step(0), step(1), step(2, "ann"), step(3)])
    twice = folded([*once, step(4), step(5)])

    assert [(s.by[:4], s.count) for s in twice] == [
        ("auto", 2),
        ("ann", 1),
        ("auto", 3),
    ]
    assert twice[2].since == step(3).at


def test_people_without_number_are_folded_by_name() -> None:
    names = ["ann", "bob"]
    entries = [step(n, f"{names[n % 2]}@desk, process {n}") for n in range(3_000)]
    result: list[Switch] = []
    for begin in range(0, 3_000, 50):
        result = folded([*result, *entries[begin : begin + 50]])

    assert len(result) <= 1_050
    assert sum(s.count for s in result) == 3_000
    assert {s.by.partition("@")[0] for s in result if s.count > 1} == {"ann", "bob"}


def test_an_entry_of_any_length_is_cut(metadata: PairMetadata) -> None:
    record_switch(metadata, step(0, "x" * 100_000))

    assert len(recorded_switches(metadata)[0].by) <= 200


def test_the_history_of_an_earlier_version_is_read_and_goes_on(
    metadata: PairMetadata,
) -> None:
    entries = [
        {
            "at": f"2025-01-01T00:{n // 60:02}:{n % 60:02}Z",
            "by": "ann@desk, process 1" if n % 2 else "auto_switch of process 2 on b",
            "before": "json-only",
            "after": "parallel",
            "epoch": n,
            "accepted": ["backup"],
            "pause": 0.5,
        }
        for n in range(200)
    ]
    cast("Any", metadata).values[HISTORY_META] = entries
    assert len(recorded_switches(metadata)) == 200

    record_switch(metadata, step(1_000, "bob"))

    history = recorded_switches(metadata)
    assert sum(not s.is_automatic for s in history) == 101
    assert history[-1].by == "bob"
    assert sum(s.count for s in history) == 201


def test_an_earlier_version_reads_and_extends_what_this_one_writes(
    metadata: PairMetadata,
) -> None:
    for number in range(500):
        record_switch(metadata, step(number, f"person {number}"))
    values = cast("Any", metadata).values

    # What the version before this one does, with the same members.
    entries = [*values[HISTORY_META], msgspec.to_builtins(step(500, "old program"))]
    for entry in entries:
        entry.pop("count", None)
        entry.pop("since", None)
    assert len(entries) < 150  # so it drops none: it keeps 200
    values[HISTORY_META] = entries[-200:]

    history = recorded_switches(metadata)
    assert [s.by for s in history] == [
        *(f"person {n}" for n in range(500)),
        "old program",
    ]
    assert values[EARLIER_META]


def test_another_process_may_write_at_the_same_time(metadata: PairMetadata) -> None:
    values = cast("Any", metadata)
    original, number = values.compare_and_set, 1_000

    def compare_and_set(*args: Any, **more: Any) -> bool:
        nonlocal number
        if number < 1_150:
            number += 1
            values.compare_and_set = original
            record_switch(metadata, step(number, "two"))
            values.compare_and_set = compare_and_set
        answer: bool = original(*args, **more)
        return answer

    values.compare_and_set = compare_and_set
    for n in range(150):
        record_switch(metadata, step(n, "one"))

    history = recorded_switches(metadata)
    assert sum(s.by == "one" for s in history) == 150
    assert sum(s.by == "two" for s in history) == 150


def test_a_real_pair_keeps_its_history_through_switches(one: Process) -> None:
    one.store.switch(PAR, by="ann")
    for number in range(60):
        phase = (PG, PAR)[number % 2]
        one.store.switch(phase, accept=CODES, by="auto_switch of a test")
    for number in range(60):
        phase = (PG, PAR)[number % 2]
        one.store.switch(phase, accept=CODES, by="auto_switch of a test")
    one.store.switch(J, accept=CODES, by="bob")

    history = one.store.history()
    assert (history[0].by, history[-1].by) == ("ann", "bob")
    assert sum(s.count for s in history) == 122
    assert one.store.phase is J


# -- who it was ---------------------------------------------------------------------------


def test_the_actor_is_the_user_of_the_process_whatever_the_variables_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "another-user")

    assert current_actor({}).startswith(f"{pwd.getpwuid(os.getuid()).pw_name}@")


@pytest.mark.parametrize(
    ("number", "asked", "expected"),
    [
        (0, "ann", "root for ann@"),
        (0, "", "root@"),
        (0, "a b\n\x1b[2J" + "x" * 100, "root for a?b???2J" + "x" * 56 + "@"),
        (1, "ann", "daemon@"),  # only sudo sets it for root; others could set anything
        (54_321, "", "uid 54321@"),
    ],
)
def test_the_actor_of_sudo_is_added(
    monkeypatch: pytest.MonkeyPatch, number: int, asked: str, expected: str
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: number)

    assert current_actor({"SUDO_USER": asked}).startswith(expected)
