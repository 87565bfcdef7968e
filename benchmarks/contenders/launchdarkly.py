"""LaunchDarkly's Migrator: the only dual writer for Python that has users.

It decides by the stage of a flag which callables to call. Here the flag comes from its
own test data source, in memory, and no events are sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from ldclient import Config, Context, LDClient, Result
from ldclient.integrations.test_data import TestData
from ldclient.migrations import (
    ExecutionOrder,
    Migrator,
    MigratorBuilder,
    OperationResult,
    Stage,
    WriteResult,
)

__all__ = ["Calls", "Stage", "migrator"]

Work: TypeAlias = Callable[[Any], Any]
_FLAG: Final = "migration"
_CONTEXT: Final = Context.create("a-user")


class Calls:
    """A migrator at one stage, with its callables."""

    def __init__(self, inner: Migrator) -> None:
        self._inner = inner

    def read(self, payload: Any) -> OperationResult:
        """Read as the stage demands."""
        return self._inner.read(_FLAG, _CONTEXT, Stage.OFF, payload)

    def write(self, payload: Any) -> WriteResult:
        """Write as the stage demands."""
        return self._inner.write(_FLAG, _CONTEXT, Stage.OFF, payload)


@contextmanager
def migrator(
    stage: Stage,
    *,
    read: tuple[Work, Work],
    write: tuple[Work, Work],
    serial: bool = False,
    compare: Callable[[Any, Any], bool] | None = None,
) -> Iterator[Calls]:
    """A migrator at a stage.

    Args:
        stage: of the flag.
        read: from the old store and from the new one.
        write: likewise.
        serial: read one after the other, which is not its default.
        compare: decides whether two reads agree.
    """
    logging.getLogger("ldclient.util").setLevel(logging.CRITICAL)
    data = TestData.data_source()
    stages = [each.value for each in Stage]
    flag = data.flag(_FLAG).variations(*stages).on(on=True)
    data.update(flag.fallthrough_variation(stages.index(stage.value)))
    client = LDClient(Config("none", update_processor_class=data, send_events=False))
    order = ExecutionOrder.SERIAL if serial else ExecutionOrder.PARALLEL
    builder = MigratorBuilder(client).read_execution_order(order)
    builder.read(_result(read[0]), _result(read[1]), compare)
    built = builder.write(_result(write[0]), _result(write[1])).build()
    assert isinstance(built, Migrator), built
    try:
        yield Calls(built)
    finally:
        client.close()  # type: ignore[no-untyped-call]


def _result(work: Work) -> Callable[[Any], Result]:
    return lambda payload: Result.success(work(payload))
