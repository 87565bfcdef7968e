"""Is the history of one key linearisable? Two checkers that know nothing of each other.

:func:`version_faults` trusts version numbers: they put the writes of a key in an order,
so it is enough that time and reads agree with it. It is linear and says what is wrong.

:func:`is_linearisable` trusts nothing but values: it looks for any order of the calls
that a register could have had (Wing and Gong's search, done call by call as Lowe
proposes, with every state visited once). It is exponential only in how many calls are
under way at the same time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final, Literal, TypeAlias

__all__ = ["Call", "is_linearisable", "version_faults"]

Value: TypeAlias = int | None
_MOST_STATES: Final = 200_000


@dataclass(frozen=True, slots=True)
class Call:
    """A read or a write of one key. Values that are written are unique, but for None."""

    kind: Literal["read", "write"]
    value: Value
    begin: float
    end: float
    """Infinite where it is not known whether it happened."""
    version: int | None = None
    process: str = ""


# -- by versions --------------------------------------------------------------------------


def version_faults(calls: Iterable[Call]) -> list[str]:
    """Return contradictions to the order of versions; calls without a version do not count."""
    known = sorted((c for c in calls if c.version is not None), key=lambda c: c.begin)
    return [*_value_faults(known), *_order_faults(known)]


def _value_faults(calls: Sequence[Call]) -> Iterator[str]:
    written: dict[int | None, Call] = {}
    for call in calls:
        if call.kind == "write":
            if call.version in written:
                yield f"two writes have one version: {written[call.version]} and {call}"
            written[call.version] = call
    for call in calls:
        write = written.get(call.version)
        if call.kind == "read" and write is not None:
            if call.value != write.value:
                yield f"read what was not written: {call}, after {write}"
            if call.end < write.begin:
                yield f"read before it was written: {call}, then {write}"


def _order_faults(calls: Sequence[Call]) -> Iterator[str]:
    """A call that begins after another has ended must not see an older version."""
    events = sorted(
        chain(
            ((call.end, 1, call) for call in calls if call.end < math.inf),
            ((call.begin, 0, call) for call in calls),
        ),
        key=lambda event: event[:2],
    )
    latest: Call | None = None
    for _, is_end, call in events:
        assert call.version is not None
        if is_end:
            if latest is None or call.version > (latest.version or 0):
                latest = call
        elif latest is not None:
            least = (latest.version or 0) + (call.kind == "write")
            if call.version < least:
                yield f"went back in time: {call}, after {latest}"


# -- by values ----------------------------------------------------------------------------


def is_linearisable(calls: Iterable[Call], initial: Value = None) -> bool:
    """Return True if some order of the calls explains all that was read.

    Raises:
        OverflowError: too many calls were under way at once to tell.
    """
    order = _settled(list(calls))
    events = sorted(
        [(call.begin, 0, number) for number, call in enumerate(order)]
        + [(c.end, 1, n) for n, c in enumerate(order) if c.end < math.inf]
    )
    under_way: set[int] = set()
    states: set[_State] = {(initial, frozenset())}
    for _, is_end, number in events:
        if not is_end:
            under_way.add(number)
            continue
        states = _with(order, states, under_way, number)
        under_way.discard(number)
        if not states:
            return False
    return True


_State: TypeAlias = tuple[Value, frozenset[int]]
"""The value of the register, and which of the calls under way have had their effect."""


def _with(
    calls: Sequence[Call], states: set[_State], under_way: set[int], number: int
) -> set[_State]:
    """Every state that can be reached in which this call has had its effect.

    It has ended now, so it is not remembered any more.
    """
    seen, waiting, found = set(states), list(states), set()
    while waiting:
        value, done = state = waiting.pop()
        if number in done:
            found.add((value, done - {number}))
            continue
        for other in under_way - done:
            after = _after(calls[other], state, other)
            if after is not None and after not in seen:
                seen.add(after)
                waiting.append(after)
        if len(seen) > _MOST_STATES:
            raise OverflowError(f"more than {_MOST_STATES} states")
    return found


def _after(call: Call, state: _State, number: int) -> _State | None:
    value, done = state
    if call.kind == "write":
        return call.value, done | {number}
    return (value, done | {number}) if call.value == value else None


def _settled(calls: list[Call]) -> list[Call]:
    """Without the doubts that can be removed, so that few calls seem to go on for ever.

    A write in doubt that was read has happened by the time at which the first such read
    ended. One that was never read need not have happened: any order that explains the
    history with it explains it without it. (A deletion in doubt can be distinguished from no
    other one, so it stays as it is. A read in doubt says nothing.)
    """
    first: dict[Value, float] = {}
    for call in calls:
        if call.kind == "read" and call.end < first.get(call.value, math.inf):
            first[call.value] = call.end
    kept = []
    for call in calls:
        is_deletion = call.kind == "write" and call.value is None
        if call.end < math.inf or is_deletion:
            kept.append(call)
        elif call.kind == "write" and call.value in first:
            kept.append(replace(call, end=first[call.value]))
    return kept
