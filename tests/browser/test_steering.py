"""Buttons, dialogs, and pages that lose their server."""

from __future__ import annotations

import json
import re
from typing import Final

from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import Pages
from tests.browser.documents import ID, blockers, snapshot
from tests.browser.staged import Staged
from tests.browser.test_screens import CHANGE, SCREENS, show

MOST_KEYS: Final = 80
NOT_LIVE: Final = re.compile(r"not live, \d+ s old")
BACK: Final = "Go back to json-only"


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the button of this name has the focus."""
    for _ in range(MOST_KEYS):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == name:
            return
    raise AssertionError(f"{name} cannot be reached with the keyboard")


def dialog_of(page: Page, button: str) -> Locator:
    page.get_by_role("button", name=button, exact=True).click()
    return page.get_by_role("dialog")


def test_going_back_with_the_keyboard_alone(pages: Pages, staged: Staged) -> None:
    page = pages.open(staged.url)
    expect(page.get_by_role("button", name=BACK)).to_be_visible()
    tab_to(page, BACK)
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Write a reason first.")
    expect(page.get_by_label("Reason")).to_be_focused()
    page.keyboard.type("errors since the release")
    expect(dialog).to_contain_text("Type the environment's name first.")
    page.keyboard.press("Tab")
    page.keyboard.type("production")
    tab_to(page, BACK)
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("Done.")
    (_, dry), (name, body) = staged.requests
    assert dry["dry_run"] is True
    key = body.pop("idempotency_key")
    assert (name, body) == (
        "back",
        {
            "expected_phase": "parallel",
            "expected_epoch": 4,
            "reason": "errors since the release",
            "environment": "production",
            "dry_run": False,
        },
    )
    assert re.fullmatch("[0-9a-f]{32}", key)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("button", name=BACK)).to_be_focused()


def test_a_press_without_the_reason_or_the_name_sends_nothing(
    pages: Pages, staged: Staged
) -> None:
    page = pages.open(staged.url)
    dialog = dialog_of(page, BACK)
    expect(dialog).to_contain_text("Write a reason first.")
    page.get_by_label("Reason").fill("a reason")
    page.get_by_label("to confirm").fill("staging")
    dialog.get_by_role("button", name=BACK).click(force=True)
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("Type the environment's name first.")
    assert [body["dry_run"] for _, body in staged.requests] == [True]


def test_a_state_that_changed_meanwhile_is_shown(pages: Pages, staged: Staged) -> None:
    pages.may_fail_to_load = True  # the browser prints the 409
    page = pages.open(staged.url)
    dialog = dialog_of(page, BACK)
    page.get_by_label("Reason").fill("a reason")
    page.get_by_label("to confirm").fill("production")
    newer = snapshot()
    newer["status"]["result"]["phase"] = "postgres-primary"
    for side, role in (("json", "secondary"), ("postgres", "primary")):
        newer["status"]["result"][side] |= {"role": role, "epoch": 5}
    staged.snapshot = newer
    staged.answers["back"] = (409, {"error": "changed since", "snapshot": newer})
    expect(page.locator("[aria-current=step]")).to_contain_text("postgres-primary")
    dialog.get_by_role("button", name=BACK).click()
    expect(dialog).to_contain_text("Nothing was done.")
    expect(dialog).to_contain_text("It was parallel at epoch 4.")
    expect(dialog).to_contain_text("Now it is postgres-primary at epoch 5.")
    assert staged.requests[-1][1]["expected_epoch"] == 4, "what the dialog has shown"
    del staged.answers["back"]
    dialog.get_by_role("button", name="Look again").click()
    expect(page.get_by_label("Reason")).to_have_value("a reason")
    page.get_by_label("to confirm").fill("production")
    dialog.locator("[type=submit]").click()
    expect(dialog).to_contain_text("Done.")
    pressed = [body for _, body in staged.requests if not body["dry_run"]]
    keys = {body["idempotency_key"] for body in pressed}
    assert staged.requests[-1][1]["expected_epoch"] == 5
    assert len(keys) == 2, "a new attempt is a new request"


def test_a_blocker_is_accepted_by_name_and_tried_again(
    pages: Pages, staged: Staged
) -> None:
    found = {"blockers": blockers()[1:], "refused": blockers()[2:]}
    staged.answers["advance?"] = (200, {"result": found})
    page = pages.open(staged.url)
    dialog = dialog_of(page, "Accept validation")
    expect(dialog).to_contain_text("Something is in the way, and is not accepted.")
    staged.answers["advance?"] = (200, {"result": found | {"refused": []}})
    dialog.get_by_label("quarantine").check()
    expect(dialog).to_contain_text("Write a reason first.")
    assert staged.requests[-1][1]["accept"] == ["validation", "quarantine"]
    assert all(body["dry_run"] for _, body in staged.requests)


def test_a_button_that_is_off_says_why(pages: Pages, staged: Staged) -> None:
    page = pages.open(staged.url)
    button = page.get_by_role("button", name="Backfill")
    expect(button).to_have_attribute("aria-disabled", "true")
    expect(page.locator(".act", has=button)).to_contain_text("A backfill runs already.")
    button.click(force=True)
    page.wait_for_timeout(100)
    assert page.get_by_role("dialog").count() == 0


def test_long_work_is_followed_in_its_dialog(pages: Pages, staged: Staged) -> None:
    waiting = {"task": "t-1", "sentence": "validate goes on"}
    staged.answers["validate"] = staged.task = (202, waiting)
    job = staged.snapshot["jobs"][0] | {"id": "validate-1", "kind": "validate"}
    staged.snapshot["jobs"].append(job)
    page = pages.open(staged.url)
    dialog = dialog_of(page, "Validate")
    page.get_by_label("Reason").fill("before the switch")
    dialog.locator("[type=submit]").click()
    expect(dialog).to_contain_text("validate goes on")
    expect(dialog).to_contain_text("12,480 of 40,210")
    job["done"] = 40000
    expect(dialog).to_contain_text("40,000 of 40,210")
    found = {"ok": False, "sentence": "40,210 records compared, 2 differ"}
    staged.task = (200, {**waiting, **found, "result": {"found": 2}})
    expect(dialog).to_contain_text("40,210 records compared, 2 differ")
    assert "Done." not in dialog.inner_text()


def test_focus_and_text_survive_updates(pages: Pages, staged: Staged) -> None:
    page = pages.open(staged.url)
    page.get_by_role("button", name="copy pend-storage jobs list").focus()
    staged.snapshot["verdict"]["answers"][0]["sentence"] = "A new sentence."
    expect(page.locator(".answers")).to_contain_text("A new sentence.")
    name = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert name == "copy pend-storage jobs list"
    dialog_of(page, BACK)
    page.get_by_label("Reason").fill("half a sen")
    staged.snapshot["verdict"]["answers"][0]["sentence"] = "A newer sentence."
    expect(page.locator(".answers")).to_contain_text("A newer sentence.")
    expect(page.get_by_label("Reason")).to_have_value("half a sen")
    expect(page.get_by_label("Reason")).to_be_focused()


def test_a_page_whose_server_stands_still_is_grey_and_acts_no_more(
    pages: Pages, staged: Staged
) -> None:
    page = pages.open(staged.url)
    expect(page.locator(".live")).to_have_text("live")
    staged.is_frozen = True  # the connection stands, and nothing new comes
    expect(page.locator(".live")).to_have_text(re.compile(r"^\d s old"))
    expect(page.locator(".live")).to_have_text(NOT_LIVE)
    expect(page.locator("main")).to_have_class("stale")
    expect(page.locator(".old")).to_contain_text("This page is not live.")
    button = page.get_by_role("button", name=BACK)
    expect(button).to_have_attribute("aria-disabled", "true")
    expect(page.locator(".act", has=button)).to_contain_text("The page is not live.")
    assert "grayscale" in page.evaluate(
        "getComputedStyle(document.querySelector('main')).filter"
    )
    staged.is_frozen = False
    expect(page.locator(".live")).to_have_text("live")
    expect(page.locator("main")).not_to_have_class("stale")


def test_a_page_finds_its_server_again_and_fetches_what_it_shows(
    pages: Pages, staged: Staged
) -> None:
    pages.may_fail_to_load = True
    page = pages.open(f"{staged.url}#/divergences")
    expect(page.locator("main")).to_contain_text("kyc-2024-000183")
    staged.is_away = True
    expect(page.locator(".live")).to_have_text(NOT_LIVE)
    expect(page.locator("main")).to_contain_text("kyc-2024-000183")
    staged.screens["divergences"] = {"items": [], "total": 0, "next": None}
    staged.is_away = False
    expect(page.locator(".live")).to_have_text("live")
    expect(page.locator("main")).to_contain_text("The stores agree")


def test_both_stores_out_of_reach(pages: Pages, staged: Staged) -> None:
    for side in ("json", "postgres"):
        staged.status[side] = {
            "place": side,
            "role": None,
            "epoch": None,
            "problem": f"{side} does not answer: connection refused",
            "files": [],
        }
    staged.status.update(phase=None, details=None, problem="no store answers")
    staged.status["flag"].update(wanted=None, problem="the flag cannot be read")
    page = pages.open(staged.url)
    for text in (
        "json does not answer",
        "postgres does not answer",
        "no store answers",
    ):
        expect(page.locator("main")).to_contain_text(text)
    expect(page.locator("main")).to_contain_text("the flag cannot be read")
    assert page.locator("[aria-current=step]").count() == 0
    staged.screens.clear()
    pages.may_fail_to_load = True
    for screen in ("divergences", "quarantine", "history", "backups"):
        page.evaluate("screen => { location.hash = `#/${screen}` }", screen)
        expect(page.locator("main")).to_contain_text("There is no such page.")


def test_a_read_only_page_has_no_button_that_acts(pages: Pages, staged: Staged) -> None:
    staged.snapshot["read_only"] = True
    staged.changes.append(CHANGE)
    page = pages.open(staged.url)
    expect(page.locator(".badge")).to_have_text("read-only")
    for screen in SCREENS:
        show(page, screen)
        if screen == "divergences":
            page.get_by_role("button", name="kyc-2024-000183").click()
        page.wait_for_timeout(100)
        names = page.get_by_role("button").all_text_contents()
        acts = {"Reveal", "Edit", "Retry", "Accept", "Repair", "Advance", "Go back"}
        assert not [n for n in names if any(n.startswith(act) for act in acts)]
        assert page.locator(".act").count() == 0
    assert staged.requests == []


def test_a_quarantined_record_is_corrected_and_tried_first(
    pages: Pages, staged: Staged
) -> None:
    page = pages.open(f"{staged.url}#/quarantine/{ID}")
    expect(page.locator("mark")).to_contain_text('"gold-plus"')
    page.get_by_role("button", name="Edit a copy").click()
    box = page.get_by_label("Corrected text")
    staged.answers["retry-quarantine?"] = (
        200,
        {"result": {"results": [{"placed": False, "reason": "tier is no number"}]}},
    )
    page.get_by_role("button", name="Try", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("tier is no number")
    assert page.get_by_role("button", name="Place the corrected record").count() == 0
    box.fill('{"tier": 3}')
    staged.answers["retry-quarantine?"] = (
        200,
        {"result": {"results": [{"placed": True, "records": 1}]}},
    )
    page.get_by_role("button", name="Try", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("It would be placed")
    page.get_by_role("button", name="Place the corrected record").click()
    page.get_by_label("Reason").fill("the form wrote a word")
    page.get_by_role("dialog").locator("[type=submit]").click()
    expect(page.get_by_role("dialog")).to_contain_text("Done.")
    name, body = staged.requests[-1]
    assert (name, body["id"], body["text"]) == ("retry-quarantine", ID, '{"tier": 3}')
    assert body["dry_run"] is False
    page.keyboard.press("Escape")
    expect(page.locator("pre")).to_contain_text('"gold-plus"')  # the original


def test_the_feed_pauses_and_counts(pages: Pages, staged: Staged) -> None:
    page = pages.open(f"{staged.url}#/feed")
    expect(page.locator("main")).to_contain_text(
        "No commit since this screen was opened."
    )
    staged.changes.append(CHANGE)
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody")).to_contain_text("4503599627370497003")
    page.get_by_role("button", name="Pause").click()
    later = [CHANGE | {"sequence": str(4503599627370497100 + n)} for n in range(1100)]
    staged.changes.extend(later)
    expect(page.locator(".filters")).to_contain_text("1,000 wait")
    expect(page.locator(".filters")).to_contain_text("100 dropped")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("tbody tr")).to_have_count(200)
    expect(page.locator("tbody tr").first).to_contain_text(later[-1]["sequence"])


def test_a_chart_has_its_numbers_as_a_table(pages: Pages, staged: Staged) -> None:
    page = pages.open(staged.url)
    assert page.evaluate("window.uPlot === undefined")
    show(page, "charts")
    page.get_by_text("Pauses of writes at switches as table").click()
    table = page.get_by_role("table", name="Pauses of writes at switches")
    expect(table.locator("tbody tr")).to_have_count(2)
    expect(table).to_contain_text("0.034")


def test_a_page_that_needs_a_login_asks_for_it(pages: Pages, staged: Staged) -> None:
    pages.may_fail_to_load = True
    staged.needs_login = True
    page = pages.open(staged.url)
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("status")).to_contain_text(
        "This token is not the console's."
    )
    page.get_by_label("Token").fill("right")
    page.keyboard.press("Enter")
    expect(page.locator(".answers")).to_be_visible()


def test_a_lost_answer_is_asked_for_again_by_the_same_key(
    pages: Pages, staged: Staged
) -> None:
    pages.may_fail_to_load = True
    page = pages.open(staged.url)
    dialog = dialog_of(page, "Validate")
    page.get_by_label("Reason").fill("before the switch")
    lost = []

    def lose(route: Route) -> None:
        lost.append(json.loads(route.request.post_data or "{}")["idempotency_key"])
        route.abort()

    page.route("**/actions/validate", lose)
    dialog.locator("[type=submit]").click()
    expect(dialog).to_contain_text("The console does not answer.")
    page.unroute("**/actions/validate")
    dialog.get_by_role("button", name="Try again").click()
    expect(dialog).to_contain_text("Done.")
    (again,) = [body for _, body in staged.requests if not body["dry_run"]]
    assert lost == [again["idempotency_key"]]
    staged.answers["validate"] = (422, {"error": "validate: a store does not answer."})
    page.keyboard.press("Escape")
    dialog = dialog_of(page, "Validate")
    page.get_by_label("Reason").fill("once more")
    dialog.locator("[type=submit]").click()
    expect(dialog).to_contain_text("a store does not answer.")
    dialog.get_by_role("button", name="Back to the form").click()
    expect(page.get_by_label("Reason")).to_have_value("once more")
    del staged.answers["validate"]
    dialog.locator("[type=submit]").click()
    expect(dialog).to_contain_text("Done.")
    refused, done = [body for _, body in staged.requests if not body["dry_run"]][-2:]
    assert done["idempotency_key"] != refused["idempotency_key"]


def test_values_of_a_divergence_are_shown_once_a_reason_was_given(
    pages: Pages, staged: Staged
) -> None:
    values = [{"path": "phone_hash", "left": "a1b2", "right": "c3d4"}]
    staged.answers["reveal-divergence"] = (200, {"result": {"differences": values}})
    page = pages.open(f"{staged.url}#/divergences")
    page.get_by_role("button", name="5f9c").click()
    expect(page.locator(".diff")).to_contain_text("(redacted)")
    dialog_of(page, "Reveal the values")
    page.get_by_label("Reason").fill("asked for by the owner")
    page.locator("dialog [type=submit]").click()
    expect(page.locator(".diff")).to_contain_text("c3d4")
    expect(page.locator(".diff")).not_to_contain_text("(redacted)")
    name, body = staged.requests[-1]
    assert (name, body["id"]) == ("reveal-divergence", "d-1")
    assert body["reason"] == "asked for by the owner"
