"""Plans of runs: calls, and the instant at which the server is exchanged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from hypothesis import strategies as st

from pend_storage.dualwrite._roles import Side
from pend_storage.phases import Phase
from pend_storage.testing.hostile._address import Manner
from pend_storage.testing.hostile._servers import Exchange

__all__ = ["Call", "Plan", "Step", "Verb", "plans"]


class Verb(Enum):
    """Calls that a run makes."""

    PUT = "put"
    DELETE = "delete"
    PUT_MANY = "put_many"
    ADD = "add"
    GET = "get"
    AWAY = "writes while the secondary is out of reach"
    CATCH_UP = "catch_up"
    BACKFILL = "backfill"
    VALIDATE = "validate"
    LAG = "lag"
    SWITCH = "switch"


class Call(NamedTuple):
    """One call of the pair, with its arguments."""

    verb: Verb
    key: str = ""
    size: int = 1
    """Number of records of ``PUT_MANY``; number of commits of ``AWAY``."""
    phase: Phase | None = None
    """Phase to switch to."""


class Step(Enum):
    """Operation in progress when the server is exchanged."""

    WRITE = "write"
    RELAY = "relay"
    BACKFILL = "backfill"
    SWITCH = "switch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Plan of one run."""

    exchange: Exchange
    manner: Manner
    begin: Phase
    """Phase in which the copy is taken."""
    before: tuple[Call, ...]
    """Calls before the copy is taken; every later server has them."""
    between: tuple[Call, ...]
    """Calls between the copy and the exchange."""
    during: tuple[Call, ...]
    """Calls within which the exchange happens, at the point."""
    point: str
    """Name of a crash point; ``server.asked`` or ``server.answered``: a request, or an
    answer, is lost at the exchange; ``idle``: between two calls."""
    skip: int
    """Passes of the point before the exchange."""
    writes: bool
    """Another thread writes during the exchange."""
    after: tuple[Call, ...]
    """Calls after the exchange."""
    relays: bool
    """A relay runs in the background."""
    restarts: bool
    """Another process takes over after the exchange."""
    elects: Side
    """Store that is elected if the pair refuses to continue."""


_SERVER: Final = ("server.asked", "server.answered")
_POINTS: Final[dict[Step, tuple[str, ...]]] = {
    Step.WRITE: ("write.committed", "write.followed", "idle", *_SERVER),
    Step.RELAY: ("relay.read", "relay.applied", *_SERVER),
    Step.BACKFILL: ("backfill.chunk", "backfill.complete", *_SERVER),
    Step.SWITCH: (
        "switch.planned",
        "switch.prepared",
        "switch.fenced",
        "switch.drained",
        "switch.sealed",
        "switch.ready",
        "switch.opened",
        "switch.followed",
        "attach.marked",
        "attach.following",
        "role.changed",
        *_SERVER,
    ),
}
_BEGINS: Final[dict[Step, tuple[Phase, ...]]] = {
    Step.WRITE: (Phase.PARALLEL, Phase.POSTGRES_PRIMARY, Phase.POSTGRES_ONLY),
    Step.RELAY: (Phase.PARALLEL, Phase.POSTGRES_PRIMARY),
    Step.BACKFILL: (Phase.JSON_ONLY, Phase.POSTGRES_ONLY),
    Step.SWITCH: tuple(Phase),
}
_NEIGHBOURS: Final[dict[Phase, tuple[Phase, ...]]] = {
    Phase.JSON_ONLY: (Phase.PARALLEL,),
    Phase.PARALLEL: (Phase.POSTGRES_PRIMARY, Phase.POSTGRES_PRIMARY, Phase.JSON_ONLY),
    Phase.POSTGRES_PRIMARY: (Phase.PARALLEL, Phase.PARALLEL, Phase.POSTGRES_ONLY),
    Phase.POSTGRES_ONLY: (Phase.POSTGRES_PRIMARY,),
}
_MANY: Final = 700
"""Records of a large commit: two of them exceed one call of the relay."""

_KEYS: Final = st.sampled_from(["k0", "k1", "k2", "k3"])
_PUTS: Final = _KEYS.map(lambda key: Call(Verb.PUT, key))
_WRITES: Final = st.one_of(
    _PUTS,
    _PUTS,
    st.just(Call(Verb.ADD)),
    _KEYS.map(lambda key: Call(Verb.DELETE, key)),
    st.integers(2, 4).map(lambda size: Call(Verb.PUT_MANY, "m", size)),
)
_OTHERS: Final = st.sampled_from(
    [Call(Verb.GET, "k0"), Call(Verb.CATCH_UP), Call(Verb.LAG), Call(Verb.VALIDATE)]
)
_CALLS: Final = st.one_of(_WRITES, _WRITES, _WRITES, _OTHERS)


def _calls(least: int, most: int) -> st.SearchStrategy[tuple[Call, ...]]:
    return st.lists(_CALLS, min_size=least, max_size=most).map(tuple)


@st.composite
def plans(
    draw: st.DrawFn,
    *,
    exchanges: Iterable[Exchange] = tuple(Exchange),
    steps: Iterable[Step] = tuple(Step),
    longest: int = 6,
) -> Plan:
    """Generate plans.

    Args:
        draw: given by Hypothesis.
        exchanges: exchanges to choose from.
        steps: operations that may be in progress.
        longest: maximum number of calls in each part of the plan.
    """
    step = draw(st.sampled_from(tuple(steps)))
    begin = draw(st.sampled_from(_BEGINS[step]))
    return Plan(
        exchange=draw(st.sampled_from(tuple(exchanges))),
        manner=draw(st.sampled_from(Manner)),
        begin=begin,
        before=draw(_calls(1, longest)),
        between=draw(_calls(0, longest)) if step is not Step.BACKFILL else (),
        during=draw(_during(step, begin)),
        point=draw(st.sampled_from(_POINTS[step])),
        skip=draw(st.sampled_from([0, 0, 0, 1, 1, 2, 3])),
        writes=draw(st.booleans()),
        after=draw(_calls(1, longest)),
        relays=draw(st.booleans()),
        restarts=draw(st.sampled_from([False, False, True])),
        elects=draw(st.sampled_from(["json", "postgres"])),
    )


def _during(step: Step, begin: Phase) -> st.SearchStrategy[tuple[Call, ...]]:
    match step:
        case Step.WRITE:
            return st.tuples(_WRITES)
        case Step.RELAY:
            away = Call(Verb.AWAY, "away", 4)
            return st.just((away, Call(Verb.CATCH_UP)))
        case Step.BACKFILL:
            (phase,) = _NEIGHBOURS[begin]
            attach = Call(Verb.SWITCH, phase=phase)
            many = Call(Verb.PUT_MANY, "copied", 2 * _MANY)
            return st.just((many, attach, Call(Verb.BACKFILL)))
        case Step.SWITCH:
            to = st.sampled_from(_NEIGHBOURS[begin])
            return to.map(lambda phase: (Call(Verb.SWITCH, phase=phase),))
