"""The checkers themselves: histories that are known to be good, and to be bad."""

from __future__ import annotations

import math
import random
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .linear import Call, is_linearisable, version_faults

NEVER = math.inf


def put(
    value: int | None, begin: float, end: float, version: int | None = None
) -> Call:
    return Call("write", value, begin, end, version)


def get(
    value: int | None, begin: float, end: float, version: int | None = None
) -> Call:
    return Call("read", value, begin, end, version)


GOOD = {
    "nothing happened": [],
    "a key never written to": [get(None, 0, 1, 0)],
    "one after the other": [put(1, 0, 1, 5), get(1, 2, 3, 5), put(2, 4, 5, 6)],
    "a read beside a write sees the old value": [put(1, 0, 9, 5), get(None, 1, 2, 0)],
    "a read beside a write sees the new value": [put(1, 0, 9, 5), get(1, 1, 2, 5)],
    "writes that overlap may go either way": [
        put(1, 0, 9, 6),
        put(2, 1, 8, 5),
        get(1, 10, 11, 6),
    ],
    "a write whose outcome is unknown happened": [put(1, 0, NEVER), get(1, 5, 6, 7)],
    "it happened much later": [
        put(1, 0, NEVER),
        put(2, 1, 2, 7),
        get(2, 3, 4, 7),
        get(1, 5, 6, 8),
    ],
    "it did not happen": [put(1, 0, NEVER), get(None, 5, 6, 0)],
    "a deletion whose outcome is unknown happened": [
        put(1, 0, 1, 5),
        put(None, 2, NEVER),
        get(1, 3, 4, 5),
        get(None, 5, 6, 6),
    ],
    "a read that never ended": [put(1, 0, 1, 5), get(None, 2, NEVER)],
}
BAD = {
    "an acknowledged write is lost": [put(1, 0, 1, 5), get(None, 2, 3, 0)],
    "a read goes back": [
        put(1, 0, 1, 5),
        put(2, 2, 20, 6),
        get(2, 3, 4, 6),
        get(1, 5, 6, 5),
    ],
    "a stale read after a switch": [
        put(1, 0, 1, 5),
        put(2, 2, 3, 6),
        get(1, 4, 5, 5),
    ],
    "a deleted record comes back": [
        put(1, 0, 1, 5),
        put(None, 2, 3, 6),
        get(1, 4, 5, 5),
    ],
}


@pytest.mark.parametrize("name", GOOD)
def test_good_histories_pass_both_checkers(name: str) -> None:
    assert is_linearisable(GOOD[name])
    assert version_faults(GOOD[name]) == []


@pytest.mark.parametrize("name", BAD)
def test_bad_histories_pass_neither(name: str) -> None:
    assert not is_linearisable(BAD[name])
    assert version_faults(BAD[name])


def test_a_value_that_nobody_wrote_is_found() -> None:
    assert not is_linearisable([get(7, 0, 1)])
    assert version_faults([put(1, 0, 1, 5), get(7, 2, 3, 5)])


def test_a_read_before_its_write_is_found() -> None:
    early = [get(1, 0, 1, 5), put(1, 2, 3, 5)]

    assert not is_linearisable(early)
    assert version_faults(early)


def test_two_writes_of_one_version_are_found() -> None:
    assert version_faults([put(1, 0, 9, 5), put(2, 0, 9, 5)])


def by_trying_everything(calls: list[Call]) -> bool:
    """All orders of all subsets that contain what certainly happened."""
    certain = [c for c in calls if c.end < NEVER]
    doubtful = [c for c in calls if c.end == NEVER and c.kind == "write"]
    return any(
        _explains(order)
        for bits in range(2 ** len(doubtful))
        for order in permutations(
            certain + [c for n, c in enumerate(doubtful) if bits >> n & 1]
        )
    )


def _explains(order: tuple[Call, ...]) -> bool:
    value: int | None = None
    for place, call in enumerate(order):
        if any(later.end < call.begin for later in order[place + 1 :]):
            return False
        if call.kind == "write":
            value = call.value
        elif call.value != value:
            return False
    return True


@st.composite
def histories(draw: st.DrawFn) -> list[Call]:
    """Short ones, good and bad: writes of unique values and deletions, and reads."""
    calls = []
    for number in range(draw(st.integers(1, 6))):
        begin = draw(st.integers(0, 8))
        end = draw(st.integers(begin + 1, 10)) + 0.5 if draw(st.booleans()) else NEVER
        if draw(st.booleans()):
            calls.append(put(draw(st.sampled_from([number, None])), begin, end))
        else:
            calls.append(get(draw(st.sampled_from([None, *range(6)])), begin, end))
    return calls


@given(histories())
def test_the_search_agrees_with_trying_everything(calls: list[Call]) -> None:
    assert is_linearisable(calls) == by_trying_everything(calls)


def a_long_history(seed: int, processes: int = 10, steps: int = 3000) -> list[Call]:
    """Of a real register: each call has its effect somewhere between begin and end."""
    chance = random.Random(seed)
    value, version = None, 0
    free = dict.fromkeys(range(processes), 0.0)
    moments: list[tuple[float, float, float]] = []
    for _ in range(steps):
        process = chance.randrange(processes)
        begin = free[process] + chance.random()
        effect = begin + chance.random()
        end = effect + chance.random()
        free[process] = end
        moments.append((effect, begin, end))
    calls = []
    for number, (_, begin, end) in enumerate(sorted(moments)):
        if chance.random() < 0.3:
            value, version = number, version + 1
            lost = chance.random() < 0.02
            calls.append(put(value, begin, NEVER if lost else end, version))
        else:
            calls.append(get(value, begin, end, version))
    return calls


@pytest.mark.parametrize("seed", range(5))
def test_a_long_history_passes_and_one_wrong_read_in_it_does_not(seed: int) -> None:
    calls = a_long_history(seed)

    assert is_linearisable(calls)
    assert version_faults(calls) == []
    reads = [n for n, c in enumerate(calls) if c.kind == "read" and n > 1000]
    wrong = random.Random(seed).choice(reads)
    old = next(c for c in calls if c.kind == "write")
    calls[wrong] = get(old.value, calls[wrong].begin, calls[wrong].end, old.version)
    assert not is_linearisable(calls)
    assert version_faults(calls)
