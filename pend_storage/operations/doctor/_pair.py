"""Checks of the pair: roles, flag, lag; a dead switch is finished or undone."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Final

from pend_storage.config import Settings
from pend_storage.dualwrite import PassivePair
from pend_storage.dualwrite._roles import SIDES, RolePair
from pend_storage.errors import ConfigError, PendStorageError
from pend_storage.factory import (
    ConfiguredPair,
    PassiveEnvironment,
    open_pair,
    open_passive,
)
from pend_storage.flags import flag_source
from pend_storage.operations.doctor._findings import Finding, fail, ok, warn
from pend_storage.operations.facts import read_flag_of

__all__ = ["pair_findings"]

_PATIENCE: Final = 5.0
"""Seconds that a running switch has to end by itself, or to be found dead."""
_PAUSE: Final = 0.1
_LAG_LIMIT: Final = 1_000
"""Commits of lag that need attention."""


def pair_findings(settings: Settings) -> Iterator[Finding]:
    """Check the roles, the flag and the lag, if the stores are a pair.

    The stores are only read, unless a switch is found half done: then it is ended.
    """
    try:
        with open_passive(settings) as environment:
            if environment.pair_error is not None:
                raise environment.pair_error
            pair = environment.pair
            if pair is None:
                yield _no_pair(environment)
                return
            before = pair.roles()
            if before.is_whole and not before.is_settled:
                with open_pair(settings) as both:
                    yield _recovered(both, before)
                environment.refresh()
            yield from _examined(settings, environment.pair or pair)
    except ConfigError as error:
        yield fail("pair", str(error), "See docs/how-to/go-back.md", error=error)
    except PendStorageError as error:
        yield fail("pair", str(error), error=error)


def _no_pair(environment: PassiveEnvironment) -> Finding:
    """Return the finding about stores of which none has a role in a pair."""
    for side in SIDES:
        problem = environment.problem(side)
        if problem is not None and not environment.stores:
            return fail("pair", problem)
    return ok("pair", "the stores were not used as a pair yet")


def _examined(settings: Settings, pair: PassivePair) -> Iterator[Finding]:
    view = pair.roles()
    if not view.is_whole:
        yield warn(
            "pair",
            f"one of the stores is out of reach; {_roles(view)}",
            "What it misses is brought to it when it is back.",
        )
        return
    if not view.is_settled:
        return
    yield ok("pair", f"phase {pair.phase.value}; {_roles(view)}")
    yield _flag(settings, pair)
    yield from _flag_key(settings)
    yield _lag(pair)


def _recovered(pair: ConfiguredPair, before: RolePair) -> Finding:
    """Wait for a live switch to end; finish or undo one that is dead."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        # Reading the phase recovers a switch without a heartbeat, and leaves a live one.
        _ = pair.phase
        if pair.roles().is_settled:
            break
        time.sleep(_PAUSE)
    after = pair.roles()
    if not after.is_settled:
        return fail(
            "switch",
            f"a switch is under way, and does not come to an end; {_roles(after)}",
            "Another process is making it: find that process, or call doctor again.",
        )
    return warn(
        "switch",
        f"a switch was found half done ({_roles(before)}), and is settled now",
        "See pend-storage phase show, and repeat the switch if it was undone.",
    )


def _roles(view: RolePair) -> str:
    sides = {"JSON": view.json, "PostgreSQL": view.postgres}
    return ", ".join(
        f"{name} out of reach"
        if state is None
        else f"{name} {state.role.value} at epoch {state.epoch}"
        for name, state in sides.items()
    )


def _flag(settings: Settings, pair: PassivePair) -> Finding:
    phase, source = pair.phase, flag_source(settings)
    try:
        flag = read_flag_of(pair, source)
    finally:
        source.close()
    if flag.problem is not None:
        return warn("phase flag", flag.problem, "Correct it: nothing follows it now.")
    if flag.wanted is None:
        return ok("phase flag", f"set nowhere: {flag.place}")
    message = f"{flag.place} wants {flag.wanted.value}"
    if flag.wanted is phase:
        return ok("phase flag", message)
    return warn(
        "phase flag",
        f"{message}, and the phase is {phase.value}",
        f"Run: pend-storage phase set {flag.wanted.value}",
    )


def _flag_key(settings: Settings) -> Iterator[Finding]:
    """Check that a flag in Redis, which servers follow, is signed."""
    if settings.redis is None or not settings.auto_switch:
        return
    if settings.redis.signing_key is not None:
        yield ok("flag key", "values of the flag in Redis are signed")
    elif settings.redis.unsigned == "wake-up":
        yield ok(
            "flag key", "none: the servers follow what a command has recorded only"
        )
    else:
        yield warn(
            "flag key",
            "none, and redis.unsigned is follow: who may write the key in Redis moves the "
            "stores",
            "Set PEND_FLAG_KEY for every server and every operator.",
        )


def _lag(pair: PassivePair) -> Finding:
    lag = pair.lag()
    age = "" if math.isinf(lag.seconds) else f", {lag.seconds:.1f} s"
    message = f"{lag.commits:,} commits{age}"
    if lag.blocked is not None:
        return fail(
            "lag",
            f"{message}; the secondary does not get on: {lag.blocked}",
            "Remove what stands in the way; for a refused commit: pend-storage repair",
        )
    if lag.commits > _LAG_LIMIT:
        return warn("lag", message, "Start a server, or run: pend-storage relay")
    return ok("lag", message)
