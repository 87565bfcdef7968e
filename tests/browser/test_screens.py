"""Each screen, in both colour schemes, on a desk and on a phone."""

from __future__ import annotations

from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import Pages
from tests.browser.documents import ID, Document, everything_well, text_of
from tests.browser.staged import Staged

SCREENS: Final = {
    "overview": "Is any data at risk?",
    "divergences": "kyc-2024-000183",
    "quarantine": "missing-reference",
    f"quarantine/{ID}": "gold-plus",
    "history": "planned, ticket 4711",
    "feed": "4503599627370497003",
    "charts": "Latency of the stores as table",
    "backups": "It restored the data in 94 s",
}
"""A text of each screen that only its document has."""
SIZES: Final = {"desk": (1280, 720), "phone": (390, 844)}
QUESTIONS: Final = (
    "Is anything failing?",
    "Is any data at risk?",
    "Which phase is it?",
    "Can I go back now?",
    "What is running?",
    "What is next?",
    "How fresh is this?",
)
CHANGE: Final[Document] = {
    "sequence": "4503599627370497003",
    "epoch": "300",
    "at": "2026-11-30T12:00:00+00:00",
    "by": "ann",
    "records": [
        {"collection": "users", "key": "u-1", "version": "9", "deleted": False}
    ],
}
IMAGE: Final = '<img src=x onerror="window.ran = 1">'


def show(page: Page, screen: str) -> None:
    """Go to a screen, and wait for its document."""
    page.evaluate("screen => { location.hash = `#/${screen}` }", screen)
    expect(page.locator("main")).to_contain_text(SCREENS[screen])
    if screen == "charts":
        page.wait_for_selector(".uplot")


def faults(page: Page) -> list[str]:
    """Accessibility faults of a page, by the rules of axe."""
    options = {
        "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
        "resultTypes": ["violations"],
    }
    found = Axe().run(page, options=options).response["violations"]
    return [f"{v['id']}: {n['html'][:200]}" for v in found for n in v["nodes"]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(
    pages: Pages, staged: Staged, scheme: str, size: str
) -> None:
    width, height = SIZES[size]
    staged.changes.append(CHANGE)
    page = pages.open(staged.url, scheme=scheme, width=width, height=height)
    found = {}
    for screen in SCREENS:
        show(page, screen)
        if screen == "divergences":
            page.get_by_role("button", name="kyc-2024-000183").click()
            page.get_by_role("button", name="5f9c").click()
        if screen == "charts":
            page.get_by_text("Latency of the stores as table").click()
        found[screen] = faults(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, screen
    show(page, "overview")
    page.get_by_role("button", name="Go back to json-only").click()
    expect(page.get_by_role("dialog")).to_contain_text("Write a reason first.")
    found["dialog"] = faults(page)
    page.keyboard.press("Escape")
    staged.is_frozen = True
    expect(page.locator("main")).to_have_class("stale")
    found["a page that is not live"] = faults(page)
    assert {name: list_ for name, list_ in found.items() if list_} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault_where_nothing_waits_and_at_the_login(
    pages: Pages, staged: Staged, scheme: str
) -> None:
    staged.snapshot = everything_well()
    for name, document in staged.screens.items():
        staged.screens[name] = {
            member: type(value)() if isinstance(value, list) else None
            for member, value in document.items()
        }
    pages.may_fail_to_load = True  # the login
    page = pages.open(staged.url, scheme=scheme)
    found = {}
    for screen, text in {
        "overview": "All is well.",
        "divergences": "The stores agree",
        "quarantine": "Nothing is in quarantine.",
        "history": "No switch was made yet.",
        "charts": "Nothing was measured yet.",
        "backups": "There is no backup.",
    }.items():
        page.evaluate("screen => { location.hash = `#/${screen}` }", screen)
        expect(page.locator("main")).to_contain_text(text)
        found[screen] = faults(page)
    staged.needs_login = True
    page.reload()
    expect(page.get_by_label("Token")).to_be_visible()
    found["login"] = faults(page)
    assert {name: list_ for name, list_ in found.items() if list_} == {}


@pytest.mark.parametrize("size", SIZES)
def test_the_first_screen_answers_the_seven_questions_without_scrolling(
    pages: Pages, staged: Staged, size: str
) -> None:
    width, height = SIZES[size]
    page = pages.open(staged.url, width=width, height=height)
    answers = page.locator(".answers li")
    expect(answers).to_have_count(len(QUESTIONS))
    assert tuple(answers.locator("b").all_text_contents()) == QUESTIONS
    box = answers.last.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= height


def test_only_the_verdict_is_announced_when_it_changes(
    pages: Pages, staged: Staged
) -> None:
    page = pages.open(staged.url)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    live = page.locator("[aria-live], [role=status], [role=alert]")
    assert live.evaluate_all("all => all.map(e => e.tagName)") == ["H1"]
    staged.snapshot["verdict"]["sentence"] = "PostgreSQL does not answer."
    expect(live).to_have_text("PostgreSQL does not answer.")


def test_a_chosen_theme_holds_after_a_reload(pages: Pages, staged: Staged) -> None:
    page = pages.open(staged.url)
    page.get_by_role("button", name="dark colours").click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.reload()
    expect(page.get_by_role("button", name="light colours")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    assert dark == "rgb(20, 23, 27)"


def test_no_text_of_the_server_becomes_markup(pages: Pages, staged: Staged) -> None:
    """Each text that is no word of the protocol has an image in it."""
    fixed = {"question", "level", "path", "looked_at", "phase", "band", "state", "at"}
    fixed |= {"method", "wanted", "role", "next", "runbook", "version"}

    def fuzzed(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {member: fuzzed(inner, member) for member, inner in value.items()}
        if isinstance(value, list):
            return [fuzzed(inner, name) for inner in value]
        return (
            f"{IMAGE}{value}" if isinstance(value, str) and name not in fixed else value
        )

    staged.snapshot = fuzzed(staged.snapshot)
    names = {a["path"].rpartition("/")[2] for a in staged.snapshot["actions"]}
    for action in staged.snapshot["actions"]:
        action["name"] = action["path"].rpartition("/")[2]  # a word of the protocol
    assert "advance" in names
    staged.screens = {path: fuzzed(found) for path, found in staged.screens.items()}
    staged.changes.append(fuzzed(CHANGE))
    staged.snapshot["runbook"] = "javascript:window.ran=1"
    staged.answers["back?"] = (200, {"result": {"blockers": [{"sentence": IMAGE}]}})
    assert sum(IMAGE in text for text in text_of(staged.snapshot)) > 40
    page = pages.open(staged.url)
    for screen in SCREENS:
        page.evaluate("screen => { location.hash = `#/${screen}` }", screen)
        if screen == "charts":  # it shows numbers
            page.wait_for_selector(".uplot")
            continue
        page.wait_for_function(
            "text => document.querySelector('main').textContent.includes(text)",
            arg=IMAGE,
        )
        page.wait_for_timeout(150)
        assert page.locator("img, a[href^=javascript]").count() == 0, screen
    show(page, "overview")
    page.get_by_role("button", name="Go back to json-only").click()
    expect(page.get_by_role("dialog")).to_contain_text(IMAGE)
    assert page.locator("img").count() == 0
    assert page.evaluate("window.ran") is None
