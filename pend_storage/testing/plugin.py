"""pytest plugin: failed assertions of this package's tests show their values.

The entry point ``pytest11`` loads it before any ``conftest.py``. Registered later, a
module may have been imported already, and would not be rewritten any more.
"""

from __future__ import annotations

from typing import Final

import pytest

__all__ = ["REWRITTEN"]

REWRITTEN: Final = tuple(
    f"pend_storage.testing.{name}"
    for name in (
        *("agreement", "contract", "crash", "faults", "hostile"),
        *("log_rules", "machine", "proxy"),
    )
)
"""Modules and packages with assertions."""

pytest.register_assert_rewrite(*REWRITTEN)
