"""Trials of a migration: no difference, no loss, no false alarm, no wait."""

from __future__ import annotations

from typing import Final

from benchmarks.trial import Trial

__all__ = ["TRIALS"]

_LAUNCHDARKLY: Final = "launchdarkly-server-sdk"
_LABORATORY: Final = "laboratory"

TRIALS: Final = (
    Trial(
        name="dual-pairs",
        title="Two writers of one key at the same moment",
        text=(
            "Two threads wait for each other, then both write the same key, each a value "
            "of its own; again and again with new keys. Afterwards the two stores are "
            "compared, as they are when the last call has come back. Everybody writes to "
            "a JsonStore and a PostgresStore of its own; no call fails."
        ),
        run="pairs:run",
        packages=(_LAUNCHDARKLY,),
    ),
    Trial(
        name="dual-false-alarms",
        title="Reads compared under a live writer",
        text=(
            "One thread writes a few keys through a DualWriteStore without a pause, "
            "while another reads them and every read is compared. The stores never "
            "differ but for what is just on its way, so every difference that is "
            "reported is a false alarm."
        ),
        run="alarms:run",
        packages=(_LABORATORY, _LAUNCHDARKLY),
    ),
    Trial(
        name="dual-slow-secondary",
        title="A secondary that is 200 ms slow",
        text=(
            "What is added to a call when every call of the secondary takes 200 ms more: "
            "the difference of two medians of the same round, with and without. All reads "
            "are compared."
        ),
        run="slowness:run",
        packages=(_LAUNCHDARKLY, _LABORATORY),
    ),
    Trial(
        name="dual-lag",
        title="Asking for the lag",
        text=(
            "No relay is at work, and commits pile up in the primary's change log. What is "
            "asked for is how many there are and how old the oldest one is; beside it, what "
            "it takes to walk along them."
        ),
        run="lag:run",
    ),
    Trial(
        name="dual-switching",
        title="A hundred switches under 64 busy clients",
        text=(
            "Four processes of sixteen threads each write and read without a pause, each "
            "client a key of its own, while the primary changes from JSON to PostgreSQL "
            "and back. A client that reads something older than its last acknowledged "
            "write counts as lost, and so does a key that is older at the end."
        ),
        run="switching:run",
    ),
    Trial(
        name="dual-routing",
        title="What routing adds to a call",
        text=(
            "The two stores do nothing, so what is left is the way to them: the median "
            "time of a call, less that of calling the stores directly."
        ),
        run="routing:run",
        server=False,
        packages=(_LAUNCHDARKLY,),
    ),
)
