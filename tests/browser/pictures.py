"""Pictures of the console for the pages of the documentation.

    python -m tests.browser.pictures docs/console

They show invented data. Each is taken in light and in dark colours.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from playwright.sync_api import Page, sync_playwright

from tests.browser.conftest import OPTIONS, Pages, find_chromium
from tests.browser.documents import ID
from tests.browser.staged import Staged, serving
from tests.browser.test_screens import CHANGE, show

__all__ = ["LARGEST", "NAMES", "take"]

LARGEST: Final = 150_000
"""Bytes of one picture."""
_SCREENS: Final = {
    "overview": "overview",
    "divergences": "divergences",
    "quarantine": "quarantine",
    "quarantined-record": f"quarantine/{ID}",
    "history": "history",
    "feed": "feed",
    "charts": "charts",
    "backups": "backups",
    "dialog": "overview",
    "phone": "overview",
}
NAMES: Final = tuple(_SCREENS)


def take(folder: Path) -> None:
    """Write every picture into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    staged = Staged()
    staged.changes = [
        CHANGE
        | {
            "sequence": str(4503599627370497003 + n),
            "at": "2026-11-30T12:00:00+00:00",
            "by": ("ann", "api-1", "relay")[n % 3],
        }
        for n in range(9)
    ]
    with sync_playwright() as playwright, serving(staged), ExitStack() as stack:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=OPTIONS
        )
        stack.callback(browser.close)
        pages = Pages(browser, stack)
        for scheme in ("light", "dark"):
            desk = pages.open(staged.url, scheme=scheme)
            phone = pages.open(staged.url, scheme=scheme, width=390, height=844)
            for name, screen in _SCREENS.items():
                page = phone if name == "phone" else desk
                _prepare(page, name, screen)
                page.screenshot(path=folder / f"{name}-{scheme}.png")


def _prepare(page: Page, name: str, screen: str) -> None:
    show(page, screen)
    if name == "divergences":
        page.get_by_role("button", name="5f9c").click()
    if name == "dialog":
        page.get_by_role("button", name="Go back to json-only").click()
        page.get_by_label("Reason").fill("errors since the release of this morning")
        page.get_by_text("Type the environment's name first.").wait_for()
    page.wait_for_timeout(300)


if __name__ == "__main__":
    take(Path(sys.argv[1]))
