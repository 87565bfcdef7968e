from __future__ import annotations

import pytest

from pend_storage.events import Event
from pend_storage.flags import Wanted

from .recorder import Recorder


@pytest.fixture
def events() -> Recorder[Event]:
    return Recorder()


@pytest.fixture
def changes() -> Recorder[Wanted]:
    return Recorder()
