from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pend_storage.events import Event
from pend_storage.flags import DesiredPhase, FlagSource, FlagWatcher

from .recorder import SELDOM, Recorder, Watch


@pytest.fixture
def events() -> Recorder[Event]:
    return Recorder()


@pytest.fixture
def changes() -> Recorder[DesiredPhase]:
    return Recorder()


@pytest.fixture
def watch(events: Recorder[Event], changes: Recorder[DesiredPhase]) -> Iterator[Watch]:
    """Watch a source until the end of the test."""
    with ExitStack() as stack:

        def begin(source: FlagSource, interval: float = SELDOM) -> FlagWatcher:
            watcher = FlagWatcher(source, changes, events, interval=interval)
            stack.callback(watcher.close)
            return watcher

        yield begin
