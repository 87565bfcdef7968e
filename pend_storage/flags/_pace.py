"""Pace of automatic switches: at most one change in a while, over all processes of a pair."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Final

import msgspec

from pend_storage._model.records import JSON
from pend_storage.flags.source import PairValues
from pend_storage.phases import Phase

__all__ = ["PACE_META", "AutomaticSwitch", "SwitchPace", "held_switch"]

PACE_META: Final = "auto_switch"
"""Name of the meta entry of a pair: its latest automatic switch."""


class AutomaticSwitch(msgspec.Struct, frozen=True, omit_defaults=True):
    """Latest automatic switch of a pair, done or under way."""

    phase: str
    at: float
    """Seconds since 1970."""
    token: str
    """Of the process that began it."""
    is_done: bool = False
    held: str = ""
    """Phase that was wanted afterwards, too early; empty: none was."""


def held_switch(values: PairValues) -> AutomaticSwitch | None:
    """Return the latest automatic switch, if another one was held after it.

    Raises:
        StoreUnavailable: the primary of the pair cannot be reached.
    """
    found = _parsed(values.meta(PACE_META))
    return found if found is not None and found.held else None


class SwitchPace:
    """Pace of the automatic switches of a pair, kept in the pair's meta entries.

    A process claims a switch before it makes it. Several may make the same one.
    """

    def __init__(
        self,
        values: PairValues,
        least_pause: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Make a pace.

        Args:
            values: meta entries of the pair.
            least_pause: seconds between two switches at least; 0: no limit.
            clock: seconds since 1970.
        """
        self._values = values
        self._least_pause = least_pause
        self._clock = clock
        self._token = uuid.uuid4().hex

    def claim(self, phase: Phase) -> float | None:
        """Claim the switch to a phase.

        Returns:
            None where it may be made now; else the seconds until then.

        Raises:
            StoreUnavailable: the primary of the pair cannot be reached.
        """
        while self._least_pause:
            found = self._values.meta(PACE_META)
            latest = _parsed(found)
            remaining = self._remaining(latest)
            if latest is not None and remaining > 0:
                is_same = latest.phase == phase.value and not latest.is_done
                return None if is_same else remaining
            mine = AutomaticSwitch(phase.value, self._clock(), self._token)
            if self._replaced(found, mine):
                break
        return None

    def _remaining(self, latest: AutomaticSwitch | None) -> float:
        if latest is None:
            return 0.0
        age = self._clock() - latest.at
        # The clocks of two machines may differ. A time from the far future says nothing.
        if age < -self._least_pause:
            return 0.0
        return self._least_pause - max(age, 0.0)

    def complete(self, phase: Phase) -> None:
        """Record that a claimed switch was made: the next one waits from now on."""
        self._change(
            lambda latest: msgspec.structs.replace(
                latest, at=self._clock(), is_done=True
            ),
            lambda latest: latest.phase == phase.value and not latest.is_done,
        )

    def release(self) -> None:
        """Release a claim: its switch was not made, so another one need not wait."""
        while self._least_pause:
            found = self._values.meta(PACE_META)
            latest = _parsed(found)
            is_mine = latest is not None and latest.token == self._token
            if latest is None or latest.is_done or not is_mine:
                return
            if self._values.compare_and_set_meta(PACE_META, found, None):
                return

    def hold(self, phase: Phase) -> None:
        """Record that a switch was wanted too early, for the status."""
        self._change(
            lambda latest: msgspec.structs.replace(latest, held=phase.value),
            lambda latest: not latest.held,
        )

    def _change(
        self,
        change: Callable[[AutomaticSwitch], AutomaticSwitch],
        is_due: Callable[[AutomaticSwitch], bool],
    ) -> None:
        while self._least_pause:
            found = self._values.meta(PACE_META)
            latest = _parsed(found)
            if latest is None or not is_due(latest):
                return
            if self._replaced(found, change(latest)):
                return

    def _replaced(self, found: JSON, value: AutomaticSwitch) -> bool:
        after = msgspec.to_builtins(value)
        return self._values.compare_and_set_meta(PACE_META, found, after)


def _parsed(value: JSON) -> AutomaticSwitch | None:
    return None if value is None else msgspec.convert(value, AutomaticSwitch)
