"""Every interleaving of small instances; and that leaving out a rule is found out."""

from __future__ import annotations

from typing import Final

import pytest

from .explore import Found, explore
from .instances import INSTANCES, LARGER
from .steps import Protocol
from .world import Weakness, World

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
    Weakness.ANY_MARK: ("the follower fails over under the relay", "I3"),
    Weakness.ANY_CURSOR: ("the follower fails over under a backfill", "I3"),
    Weakness.NO_VERIFYING: ("the primary is put back", "I3"),
    Weakness.VERIFIED_ONCE: ("the primary is put back", "I3"),
    Weakness.NO_INCARNATION: ("the primary fails over, commits are brought", "I3"),
    Weakness.BLIND_OPENING: ("a switch to a store that is put back", "I2"),
    Weakness.COMMITS_ANEW: ("an answer is lost during a switch", "a commit took"),
    Weakness.ONE_LOG_ASKED: ("an answer is lost during a switch", "a commit took"),
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
