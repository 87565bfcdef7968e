"""Instances of the model: small worlds of which every interleaving is explored."""

from __future__ import annotations

from typing import Final

from pend_storage.phases import Role, RoleState

from .world import Controller, Mark, Reader, Row, StoreState, World, Writer

__all__ = ["INSTANCES", "LARGER"]

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
    fresh = StoreState(RoleState(DETACHED, 1), whole=False, mark=Mark(1))
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
RULES: Final = {
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
FAILOVERS: Final = {
    "the follower fails over under the relay": pair(
        PRIMARY,
        SECONDARY,
        writers=(json_writer(("a", 1), ("b", 2)),),
        relays=3,
        brings=False,
        fails="postgres",
        is_promoted=False,
    ),
    "the follower fails over, commits are brought": pair(
        PRIMARY,
        SECONDARY,
        writers=(json_writer(("a", 1), ("a", 2)), json_writer(("a", None))),
        relays=2,
        cuts=True,
        fails="postgres",
    ),
    "the primary is put back": pair(
        SECONDARY,
        PRIMARY,
        writers=(postgres_writer(("a", 1), ("b", 2)), postgres_writer(("a", 3))),
        relays=3,
        brings=False,
        fails="postgres",
        is_promoted=False,
    ),
    "JSON is put back as primary": pair(
        PRIMARY,
        SECONDARY,
        writers=(json_writer(("a", 1), ("b", 2)), json_writer(("a", 3))),
        relays=3,
        brings=False,
        fails="json",
        is_promoted=False,
    ),
    "the primary fails over, commits are brought": pair(
        SECONDARY,
        PRIMARY,
        writers=(postgres_writer(("a", 1), ("a", 2)), postgres_writer(("b", 3))),
        relays=2,
        fails="postgres",
    ),
    "a switch to a store that fails over": pair(
        PRIMARY,
        SECONDARY,
        writers=(json_writer(("a", 1)),),
        controllers=(SWAP,),
        relays=1,
        heals=2,
        cuts=True,
        fails="postgres",
    ),
    "a switch to a store that is put back": pair(
        PRIMARY,
        SECONDARY,
        writers=(json_writer(("a", 1), ("a", 2)),),
        controllers=(SWAP,),
        relays=1,
        brings=False,
        fails="postgres",
        is_promoted=False,
    ),
    "a switch from a store that fails over": pair(
        SECONDARY,
        PRIMARY,
        writers=(postgres_writer(("a", 1), ("a", 2)),),
        controllers=(SWAP,),
        relays=1,
        heals=2,
        fails="postgres",
    ),
    "a switch from a store that is put back": pair(
        SECONDARY,
        PRIMARY,
        writers=(postgres_writer(("a", 1), ("a", 2)),),
        controllers=(SWAP,),
        relays=2,
        brings=False,
        fails="postgres",
        is_promoted=False,
    ),
    "the follower fails over under a backfill": World(
        StoreState(
            RoleState(PRIMARY, 1), rows=(Row("a", 1, 10), Row("b", 2, 20)), sequence=2
        ),
        StoreState(RoleState(SECONDARY, 1), whole=False, mark=Mark(2)),
        writers=(json_writer(("b", None)),),
        backfill=("a", "b"),
        relays=1,
        cuts=True,
        fails="postgres",
    ),
}
REPEATED: Final = {
    "an answer is lost during a switch": pair(
        PRIMARY,
        SECONDARY,
        writers=(json_writer(("a", 1)), json_writer(("a", None))),
        controllers=(SWAP,),
        heals=2,
        cuts=True,
        unheard=1,
    ),
    "answers are lost during a switch from PostgreSQL": pair(
        SECONDARY,
        PRIMARY,
        writers=(postgres_writer(("a", 1)), postgres_writer(("a", 2))),
        controllers=(SWAP,),
        heals=1,
        cuts=True,
        unheard=2,
    ),
    "an answer is lost in a failover": pair(
        SECONDARY,
        PRIMARY,
        writers=(postgres_writer(("a", 1)), postgres_writer(("a", 2))),
        relays=2,
        unheard=1,
        fails="postgres",
    ),
}
INSTANCES: Final = {**RULES, **FAILOVERS, **REPEATED}
LARGER_RULES: Final = {
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
        StoreState(RoleState(DETACHED, 1), whole=False, mark=Mark(2)),
        writers=(json_writer(("a", None)), json_writer(("b", 3))),
        controllers=(Controller(("attach", "swap")),),
        backfill=("a", "b"),
        relays=1,
        heals=1,
        crashes=1,
        cuts=True,
    ),
}
LARGER_FAILOVERS: Final = {
    "two writers and a switch from a store that fails over": pair(
        SECONDARY,
        PRIMARY,
        writers=(postgres_writer(("a", 1), ("a", 2)), postgres_writer(("a", None))),
        controllers=(SWAP,),
        relays=2,
        cuts=True,
        unheard=1,
        fails="postgres",
    ),
    "there and back to a store that fails over": pair(
        PRIMARY,
        SECONDARY,
        writers=(json_writer(("a", 1), ("a", 2)),),
        controllers=(Controller(("swap", "swap")),),
        relays=1,
        heals=1,
        cuts=True,
        unheard=1,
        crashes=1,
        fails="postgres",
    ),
    "a backfill and a switch to a store that fails over": World(
        StoreState(
            RoleState(PRIMARY, 1), rows=(Row("a", 1, 10), Row("b", 2, 20)), sequence=2
        ),
        StoreState(RoleState(DETACHED, 1), whole=False, mark=Mark(2)),
        writers=(json_writer(("a", None)),),
        controllers=(Controller(("attach", "swap")),),
        backfill=("a", "b"),
        relays=1,
        heals=1,
        cuts=True,
        fails="postgres",
    ),
    "JSON fails over during a switch to it": pair(
        SECONDARY,
        PRIMARY,
        writers=(postgres_writer(("a", 1), ("a", 2)), postgres_writer(("a", None))),
        controllers=(SWAP,),
        relays=1,
        heals=1,
        cuts=True,
        fails="json",
    ),
}
LARGER: Final = {**LARGER_RULES, **LARGER_FAILOVERS}
