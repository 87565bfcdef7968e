"""pytest plugin: assertions of the shipped tests show their values when they fail.

The entry point ``pytest11`` loads it before any ``conftest.py``. Registered later, a
module may have been imported already, and is not rewritten any more.
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
"""Modules and packages that assert."""

pytest.register_assert_rewrite(*REWRITTEN)
