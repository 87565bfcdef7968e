"""Metrics of the console: one scrape of the pair's facts, from the poller's look."""

from __future__ import annotations

import sys

import pytest

from tests.console.conftest import Browser


@pytest.mark.parametrize("path", ["/metrics", "/health/metrics"])
def test_a_scrape_has_the_facts_of_the_pair(path: str, browser: Browser) -> None:
    answer = browser.get(path)

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.text.splitlines()
    assert 'pend_storage_phase{environment="production",phase="json-only"} 1.0' in lines
    assert any(
        line.startswith("pend_storage_store_up{") and line.endswith(" 0.0")
        for line in lines
        if 'store="postgres"' in line
    )


def test_scrapes_share_the_look_of_the_pages(browser: Browser) -> None:
    browser.snapshot()
    before = browser.app.site.poller.looks
    for _ in range(5):
        assert browser.get("/metrics").status_code == 200

    assert browser.app.site.poller.looks - before <= 2


def test_a_scrape_can_be_asked_for_in_another_format(browser: Browser) -> None:
    wanted = "application/openmetrics-text; version=1.0.0"

    answer = browser.get("/metrics", headers={"Accept": wanted})

    assert answer.text.rstrip().endswith("# EOF")


def test_without_the_extra_it_names_the_extra(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)

    answer = browser.get("/metrics")

    assert answer.status_code == 404
    assert "pend_storage[metrics]" in answer.json()["error"]
