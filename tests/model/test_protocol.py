"""Every interleaving of small instances; and that leaving out a rule is found out."""

from __future__ import annotations

from typing import Final

import pytest

from pend_storage.phases import Role, RoleState

from .explore import Found, explore
from .steps import Protocol
from .world import Controller, Reader, Row, StoreState, Weakness, World, Writer

PRIMARY, SECONDARY, DETACHED = Role.PRIMARY, Role.SECONDARY, Role.DETACHED


def pair(json: Role, postgres: Role, **rest: object) -> World:
    """Two empty stores at epoch 1."""
    return World(
        StoreState(RoleState(json, 1)),
        StoreState(RoleState(postgres, 1)),
        **rest,  # type: ignore[arg-type]
    )


def json_writer(*ops: tuple[str, int | None]) -> Writer:
    return Writer(ops)


def postgres_writer(*ops: tuple[str, int | None]) -> Writer:
    return Writer(ops, side="postgres")


def before_backfill(*writers: Writer, plan: tuple[str, ...], **rest: object) -> World:
    """JSON has a record from before its change log begins; PostgreSQL is fresh."""
    old = StoreState(RoleState(PRIMARY, 1), rows=(Row("a", 1, 10),), sequence=1)
    fresh = StoreState(RoleState(DETACHED, 1), whole=False, mark=1)
    return World(
        old,
        fresh,
        writers=writers,
        controllers=(Controller(plan),),
        backfill=("a",),
        cuts=True,
        **rest,  # type: ignore[arg-type]
    )


SWAP: Final = Controller(("swap",))
INSTANCES: Final = {
    "a write and a delete during a switch": pair(
        PRIMARY,
        SECONDARY,
        writers=(json_writer(("a", 1)), json_writer(("a", None))),
        controllers=(SWAP,),
        crashes=1,
        heals=3,
        cuts=True,
    ),
    "there and back": pair(
        PRIMARY,
        SECONDARY,
        writers=(json_writer(("a", 1), ("a", 2)),),
        controllers=(Controller(("swap", "swap")),),
        crashes=1,
        heals=2,
        cuts=True,
    ),
    "a read during a switch": pair(
        PRIMARY,
        SECONDARY,
        writers=(json_writer(("a", 1)),),
        reader=Reader(1),
        controllers=(SWAP,),
        crashes=1,
        heals=3,
    ),
    "two controllers at once": pair(
        PRIMARY,
        SECONDARY,
        writers=(json_writer(("a", 1)),),
        controllers=(SWAP, SWAP),
        heals=2,
        cuts=True,
    ),
    "detached and attached during a switch": pair(
        PRIMARY,
        SECONDARY,
        writers=(json_writer(("a", 1)),),
        controllers=(SWAP, Controller(("detach", "attach"))),
        heals=2,
    ),
    "the same from PostgreSQL": pair(
        SECONDARY,
        PRIMARY,
        writers=(postgres_writer(("a", 1)),),
        controllers=(SWAP, Controller(("detach", "attach"))),
        heals=2,
    ),
    "a later commit ends first": pair(
        SECONDARY,
        PRIMARY,
        writers=(postgres_writer(("a", 1)), postgres_writer(("b", 2))),
        relays=2,
        cuts=True,
    ),
    "a later commit ends first, and a switch": pair(
        SECONDARY,
        PRIMARY,
        writers=(postgres_writer(("a", 1)), postgres_writer(("b", 2))),
        controllers=(SWAP,),
        relays=1,
        cuts=True,
    ),
    "a backfill, a delete and a switch": before_backfill(
        json_writer(("a", None)),
        plan=("attach", "swap"),
        relays=1,
        heals=1,
        crashes=1,
    ),
    "a backfill, a change and a delete": before_backfill(
        json_writer(("a", 2), ("a", None)), plan=("attach",), relays=2
    ),
    "two attach at once": pair(
        PRIMARY,
        DETACHED,
        writers=(json_writer(("a", 1)),),
        controllers=(Controller(("attach", "swap")), Controller(("attach",))),
        heals=2,
        crashes=1,
    ),
}
LARGER: Final = {
    "two writers, there and back, a reader": pair(
        PRIMARY,
        SECONDARY,
        writers=(json_writer(("a", 1), ("a", 2)), json_writer(("a", None))),
        reader=Reader(1),
        controllers=(Controller(("swap", "swap")),),
        crashes=1,
        heals=3,
        cuts=True,
    ),
    "two controllers, there and back": pair(
        PRIMARY,
        SECONDARY,
        writers=(json_writer(("a", 1)), json_writer(("a", None))),
        controllers=(Controller(("swap", "swap")), SWAP),
        crashes=1,
        heals=3,
        cuts=True,
    ),
    "detach and attach against a switch, with deaths": pair(
        PRIMARY,
        SECONDARY,
        writers=(json_writer(("a", 1)), json_writer(("a", None))),
        controllers=(Controller(("swap", "swap")), Controller(("detach", "attach"))),
        crashes=1,
        heals=2,
        relays=1,
    ),
    "a backfill of two keys under two writers": World(
        StoreState(
            RoleState(PRIMARY, 1), rows=(Row("a", 1, 10), Row("b", 2, 20)), sequence=2
        ),
        StoreState(RoleState(DETACHED, 1), whole=False, mark=2),
        writers=(json_writer(("a", None)), json_writer(("b", 3))),
        controllers=(Controller(("attach", "swap")),),
        backfill=("a", "b"),
        relays=1,
        heals=1,
        crashes=1,
        cuts=True,
    ),
}
FOUND_BY: Final = {
    Weakness.NO_FENCE: ("there and back", "I1"),
    Weakness.NO_CHECK: ("there and back", "I2"),
    Weakness.NO_EPOCH: ("there and back", "I1"),
    Weakness.NO_GUARD: ("a backfill, a change and a delete", "I3"),
    Weakness.NO_TOMBSTONE: ("a backfill, a delete and a switch", "I2"),
    Weakness.NO_HORIZON: ("a later commit ends first", "I3"),
    Weakness.NO_SECOND_LOOK: ("a read during a switch", "I6"),
    Weakness.SAME_EPOCH: ("detached and attached during a switch", "I1"),
    Weakness.NO_BUMP: ("there and back", "I1"),
    Weakness.NO_COVER: ("a backfill, a delete and a switch", "I3"),
    Weakness.LATE_MARK: ("two controllers at once", "I3"),
}


def search(world: World, *weak: Weakness) -> Found[World]:
    protocol = Protocol(*weak)
    return explore(world, protocol.steps, protocol.wrong, protocol.wrong_at_end)


@pytest.mark.parametrize("name", INSTANCES)
def test_no_interleaving_breaks_an_invariant(name: str) -> None:
    found = search(INSTANCES[name])

    assert found.violation is None, str(found)
    assert found.ends > 1


@pytest.mark.deep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", LARGER)
def test_no_interleaving_of_a_larger_instance_does(name: str) -> None:
    found = search(LARGER[name])

    assert found.violation is None, str(found)


@pytest.mark.parametrize("weakness", Weakness)
def test_a_rule_left_out_is_found_out(weakness: Weakness) -> None:
    name, invariant = FOUND_BY[weakness]

    found = search(INSTANCES[name], weakness)

    assert found.violation is not None, f"{weakness.value}: nothing wrong in {name}"
    assert found.violation.startswith(invariant), str(found)
