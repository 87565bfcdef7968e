"""Debian's Chromium, and pages of it that fail a test for each error that they print."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.staged import Staged, serving

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
OPTIONS: Final = (
    "--no-sandbox",  # tests run as root in containers
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--force-color-profile=srgb",
)
PATIENCE: Final = 10_000
"""Milliseconds that a page may take for a change."""
expect.set_options(timeout=PATIENCE)


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser a module; without one the tests are skipped by name, and fail in CI."""
    program = find_chromium()
    if program is None:
        sentence = "Chromium is not installed (Debian: apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(sentence)
        pytest.skip(sentence)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        yield browser
        browser.close()


class Pages:
    """Opens pages, and keeps what they print as errors."""

    def __init__(self, browser: Browser, stack: ExitStack) -> None:
        self._browser, self._stack = browser, stack
        self.errors: list[str] = []
        self.may_fail_to_load = False
        """True where a test makes requests fail; the browser prints each."""

    def open(
        self,
        url: str,
        *,
        scheme: str = "light",
        width: int = 1280,
        height: int = 720,
    ) -> Page:
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
            locale="en-GB",
        )
        self._stack.callback(context.close)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on(
            "console",
            lambda line: (
                self.errors.append(line.text)
                if line.type == "error" and not self._is_expected(line.text)
                else None
            ),
        )
        page.goto(url)
        return page

    def _is_expected(self, text: str) -> bool:
        # 502 is the staged server that ends, before the page of the test is closed.
        may = self.may_fail_to_load or "502" in text
        return may and text.startswith("Failed to load resource")


@pytest.fixture
def pages(browser: Browser) -> Iterator[Pages]:
    """Pages of a test; an error that one of them prints fails the test."""
    with ExitStack() as stack:
        pages = Pages(browser, stack)
        yield pages
    assert pages.errors == []


@pytest.fixture
def staged() -> Iterator[Staged]:
    with serving(Staged()) as server:
        yield server
