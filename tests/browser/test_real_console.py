"""The console itself in a browser: real stores, real processes, and their loss."""

from __future__ import annotations

import hashlib
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Page, expect

from pend_storage.config import Settings, load_settings
from pend_storage.console.sample import build
from pend_storage.factory import open_pair
from pend_storage.phases import Phase
from pend_storage.records import QuarantinedRecord
from tests.browser.conftest import Pages
from tests.browser.test_assets import first_picture, weight
from tests.browser.test_steering import BACK, NOT_LIVE, tab_to
from tests.integration.cli.conftest import clean_environment

DOT: Final = "\N{BULLET}"
"""Stands for each letter and digit of a masked text."""
LONG: Final = b'"' + b"0123456789" * 15_000 + b'"'


@pytest.fixture
def settings(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]
) -> Iterator[Settings]:
    """A production environment in ``parallel``, with a divergence and a quarantine."""
    folder = tmp_path_factory.mktemp("console")
    with build(folder, url=new_database(), users=12, backed_up=False) as settings:
        yield settings


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def console(settings: Settings, *options: str, port: int = 0) -> Iterator[str]:
    """The command, and the address that it prints."""
    command = [sys.executable, "-m", "pend_storage", "--config", str(settings.file)]
    command += ["--env", settings.environment, "console"]
    command += ["--listen", f"127.0.0.1:{port}", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=clean_environment()
    ) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        try:
            yield found[0]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def show(page: Page, screen: str, text: str | re.Pattern[str]) -> None:
    page.evaluate("screen => { location.hash = `#/${screen}` }", screen)
    expect(page.locator("main")).to_contain_text(text)


def sent(page: Page, files: Iterable[Path]) -> int:
    """Bytes of these files as they came over the network; all of them came."""
    sizes: dict[str, int] = page.evaluate(
        """() => Object.fromEntries([...performance.getEntriesByType("resource"),
            ...performance.getEntriesByType("navigation")]
            .map(e => [new URL(e.name).pathname.split("/").pop(), e.encodedBodySize]))"""
    )
    return sum(sizes["" if each.name == "index.html" else each.name] for each in files)


def confirm(page: Page, reason: str) -> None:
    page.get_by_label("Reason").fill(reason)
    page.get_by_label("to confirm").fill("production")


def content(directory: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_each_screen_shows_what_is_there_and_changes_nothing(
    pages: Pages, settings: Settings
) -> None:
    """A policy that is violated, or an error of a module, fails the test."""
    assert settings.json is not None
    before = content(settings.json.directory)
    with console(settings, "--read-only") as url:
        page = pages.open(url)
        expect(page.locator(".answers li")).to_have_count(7)
        assert sent(page, first_picture()) == weight(first_picture())
        expect(page.locator(".env")).to_have_text("production")
        expect(page.locator("header")).to_have_class("band production")
        expect(page.locator(".badge")).to_have_text("read-only")
        expect(page.locator("[aria-current=step]")).to_contain_text("parallel")
        show(page, "divergences", "different")
        page.locator("tbody button").first.click()
        expect(page.locator(".diff")).to_contain_text("tier")
        show(page, "quarantine", "waiting")
        page.locator("tbody a").first.click()
        expect(page.locator("pre")).to_be_visible()
        show(page, "history", "the sample")
        show(page, "feed", "No commit since this screen was opened.")
        show(page, "charts", "Latency of the stores")
        page.wait_for_selector(".uplot")
        show(page, "backups", re.compile("Repository|repository of backups"))
        assert page.locator(".act").count() == 0
        page.close()  # before its stream ends
    assert content(settings.json.directory) == before


def test_a_page_survives_the_end_of_its_console(
    pages: Pages, settings: Settings
) -> None:
    pages.may_fail_to_load = True
    port = free_port()
    with console(settings, "--read-only", port=port) as url:
        page = pages.open(url)
        expect(page.locator(".live")).to_have_text("live")
    expect(page.locator(".live")).to_have_text(NOT_LIVE)
    expect(page.locator("main")).to_have_class("stale")
    with console(settings, "--read-only", port=port):
        expect(page.locator(".live")).to_have_text("live", timeout=30_000)
        expect(page.locator("main")).not_to_have_class("stale")


def test_what_is_masked_is_revealed_with_a_reason_that_the_audit_keeps(
    pages: Pages, settings: Settings
) -> None:
    with console(settings) as url:
        page = pages.open(url)
        show(page, "quarantine", "waiting")
        page.locator("tbody a").first.click()
        expect(page.locator("pre")).to_contain_text(DOT)
        page.get_by_role("button", name="Reveal the text", exact=True).click()
        expect(page.get_by_role("dialog")).to_contain_text("Write a reason first.")
        confirm(page, "asked for by the owner")
        page.locator("dialog [type=submit]").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.locator("pre")).not_to_contain_text(DOT)
        page.get_by_role("button", name="Edit a copy").click()
        text = page.get_by_label("Corrected text").input_value()
        assert text == page.locator("pre").inner_text()
        show(page, "divergences", "different")
        page.locator("tbody button").first.click()
        page.get_by_role("button", name="Reveal the values", exact=True).click()
        confirm(page, "compared by hand")
        expect(page.locator("#why")).to_have_text("")
        page.locator("dialog [type=submit]").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.locator(".diff")).to_contain_text("tier")
        show(page, "history", "asked for by the owner")
        expect(page.locator("main")).to_contain_text("compared by hand")
        page.close()


def test_all_bytes_of_a_long_record_are_saved(pages: Pages, settings: Settings) -> None:
    """A document holds its beginning only; the download holds every byte."""
    with open_pair(settings) as pair:
        pair.collection(QuarantinedRecord).put(
            QuarantinedRecord(
                id="long",
                file="wallet-db.json",
                place="of-150-kilobytes",
                raw=LONG,
                code="bad-key",
                reason="too long",
                seen_at=datetime.now(UTC),
            )
        )
    with console(settings) as url:
        page = pages.open(f"{url}#/quarantine/long")
        expect(page.locator("main")).to_contain_text("This is the beginning of")
        page.get_by_role("button", name="Reveal the text", exact=True).click()
        confirm(page, "asked for by the owner")
        expect(page.locator("#why")).to_have_text("")
        page.locator("dialog [type=submit]").click()
        with page.expect_download() as saved:
            page.get_by_role("button", name="Download all bytes").click()
        assert saved.value.suggested_filename == "long.bin"
        assert saved.value.path().read_bytes() == LONG
        page.close()


def test_two_browsers_press_at_once_and_one_of_them_learns_of_the_other(
    pages: Pages, settings: Settings
) -> None:
    pages.may_fail_to_load = True  # the browser prints the 409
    with console(settings) as url:
        both = [pages.open(url) for _ in range(2)]
        for page in both:
            expect(page.get_by_role("button", name=BACK, exact=True)).to_be_visible()
        tab_to(both[0], BACK)
        both[0].keyboard.press("Enter")
        both[1].get_by_role("button", name=BACK, exact=True).click()
        for page in both:
            confirm(page, "errors since the release")
            expect(page.locator("#why")).to_have_text("", timeout=30_000)
        for page in both:
            page.locator("dialog [type=submit]").click()
        told = [page.get_by_role("dialog") for page in both]
        for dialog in told:
            expect(dialog).to_contain_text(
                re.compile(r"Done\.|Nothing was done\."), timeout=60_000
            )
        texts = sorted("Nothing was done." in dialog.inner_text() for dialog in told)
        assert texts == [False, True]
        for page in both:
            page.keyboard.press("Escape")
            expect(page.locator("[aria-current=step]")).to_contain_text("json-only")
    with open_pair(settings) as pair:
        assert pair.phase is Phase.JSON_ONLY
        last = pair.history()[-1]
    assert (last.before, last.after) == (Phase.PARALLEL, Phase.JSON_ONLY)
    assert last.reason == "errors since the release"


def test_both_stores_away(pages: Pages, tmp_path: Path) -> None:
    """The page says what is wrong where neither store can be reached."""
    file = tmp_path / "pend.toml"
    file.write_text(
        '[environments.staging]\nphase = "parallel"\n[environments.staging.json]\n'
        'directory = "gone"\n[environments.staging.postgres]\n'
        'url = "postgresql://app:sEcReT@127.0.0.1:1/none"\n'
    )
    away = load_settings(file, "staging", environ={})
    with console(away, "--read-only") as url:
        page = pages.open(url)
        expect(page.locator(".answers li")).to_have_count(7, timeout=30_000)
        expect(page.locator("header")).to_have_class("band staging")
        expect(page.locator("main")).to_contain_text("out of reach")
        expect(page.locator(".live")).to_have_text("live")
        assert "sEcReT" not in page.content()
        page.close()
