"""Input that a page must survive: large records, many findings, texts that mean something."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

import pend_storage as ps
from pend_storage._model.records import QuarantinedRecord
from pend_storage.config import Settings
from pend_storage.console import Console
from pend_storage.console._feed import _message, shown_key
from pend_storage.console._looking import Reading
from pend_storage.console._screens import masked, quarantine, quarantined
from pend_storage.errors import ConfigError, InvalidQuery
from pend_storage.pend import SCHEMA
from pend_storage.records import Change, ChangedRecord
from tests.console.conftest import Browser, configure

HTML: Final = "<img src=x onerror=alert(1)>'\"&\u202e\n\x1b[31m"
NOW: Final = datetime(2026, 11, 30, tzinfo=UTC)


def entry(
    number: int, raw: bytes = b"{}", reason: str = "at char 1"
) -> QuarantinedRecord:
    return QuarantinedRecord(
        id=f"{number:032x}",
        file="db.json",
        place=f"a/b {number}",
        position=number,
        raw=raw,
        code="invalid",
        reason=reason,
        seen_at=NOW,
    )


@pytest.fixture
def crowded(tmp_path: Path) -> Settings:
    """Settings of an environment with many quarantined records, one of them large."""
    settings = configure(tmp_path)
    with ps.open_store(settings.file, environment="production") as store:
        records = store.collection(QuarantinedRecord)
        records.put_many([entry(n) for n in range(120)])
        records.put(entry(999, raw=b'{"phone": "+36301234567"}' * 80_000))
        records.put(entry(998, reason=HTML))
    return settings


def test_a_large_record_is_cut_and_masked(crowded: Settings) -> None:
    reading = Reading(crowded)
    try:
        found = quarantined(reading, f"{999:032x}", whole=False)["record"]
    finally:
        reading.close()

    assert found["cut"]
    assert len(found["raw"]) == 100_000
    assert found["size"] == 80_000 * 25
    assert not any(c.isalnum() for c in found["raw"])


def test_quarantine_is_paged_and_counted(crowded: Settings) -> None:
    reading = Reading(crowded)
    try:
        pages, after = [], ""
        while True:
            found = quarantine(reading, {"after": after})
            pages.append(found["items"])
            if found["next"] is None:
                break
            after = found["next"]
        with pytest.raises(InvalidQuery):
            quarantine(reading, {"after": "nonsense"})
        with pytest.raises(ConfigError, match="no quarantined record"):
            quarantined(reading, "zz", whole=False)
    finally:
        reading.close()

    assert [len(page) for page in pages] == [50, 50, 22]
    assert len({item["id"] for page in pages for item in page}) == 122
    assert found["groups"] == [{"file": "db.json", "code": "invalid", "count": 122}]


def test_texts_of_records_are_texts_in_json(
    crowded: Settings, make: Callable[..., Console]
) -> None:
    browser = Browser(make(crowded))

    answer = browser.get(f"/api/v1/quarantine/{998:032x}")

    assert answer.headers["content-type"] == "application/json"
    reason = answer.json()["record"]["reason"]
    assert "<img src=x onerror=alert(1)>" in reason
    assert not {"\u202e", "\n", "\x1b"} & set(reason)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/quarantine/%2e%2e%2f%2e%2e",
        "/api/v1/quarantine/" + "a" * 5_000,
        "/api/v1/quarantine?after=%00",
        "/api/v1/quarantine?file=" + "x" * 5_000,
        "/api/v1/divergences?after=99999999999999999999",
        "/api/v1/divergences?state=%3Cimg%3E&kind=%00",
        "/api/v1/tasks/%2e%2e",
        "/api/v1/actions/%3Cimg%3E",
    ],
)
def test_a_path_that_makes_no_sense_is_a_document(
    path: str, crowded: Settings, make: Callable[..., Console]
) -> None:
    answer = Browser(make(crowded)).get(path)

    assert answer.status_code in {200, 404, 422}
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.content)["version"] == 1


def test_an_unknown_phase_of_the_flag_is_said_and_changes_nothing(
    tmp_path: Path, make: Callable[..., Console], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = configure(tmp_path)
    with ps.open_store(settings.file, environment="production"):
        pass
    monkeypatch.setenv("PEND_PHASE", HTML)
    from pend_storage.config import load_settings

    with pytest.raises(ConfigError):
        load_settings(settings.file, "production")
    assert Browser(make(settings)).snapshot()["expected"]["phase"] == "json-only"


def test_an_environment_with_an_odd_name_is_shown_as_it_is(
    tmp_path: Path, make: Callable[..., Console]
) -> None:
    settings = configure(tmp_path, environment="x")
    snapshot = Browser(make(settings)).snapshot()

    assert (snapshot["environment"], snapshot["band"]) == ("x", "other")
    assert snapshot["verdict"]["level"] in {"ok", "attention", "risk", "failing"}


# -- the feed -----------------------------------------------------------------------------


def change(*records: ChangedRecord) -> Change:
    return Change((300 << 45) | 2, 300, NOW, records, by=HTML)


def test_a_large_commit_is_counted_and_its_first_records_are_named() -> None:
    records = [ChangedRecord("assets", f"a/{n}", 2**60, None) for n in range(1_000)]

    found = _message(SCHEMA, change(*records)).document

    assert len(found["records"]) == 100
    assert found["more"] == 900
    assert found["sequence"] == str((300 << 45) | 2)
    assert found["records"][0]["version"] == str(2**60)


def test_system_collections_and_personal_keys_stay_inside() -> None:
    records = [
        ChangedRecord("quarantine", "secret", 1, None),
        ChangedRecord("users", "+36301234567", 1, None),
    ]

    found = _message(SCHEMA, change(*records)).document["records"]

    assert [record["collection"] for record in found] == ["users"]
    assert "301234567" not in str(found)


@pytest.mark.parametrize("key", ["a/b", "a\nb", "\u202ekey", "x" * 5_000, "<img>"])
def test_a_key_is_one_line_of_bounded_length(key: str) -> None:
    shown = shown_key(SCHEMA, "assets", key)

    assert len(shown) <= 300
    assert "\n" not in shown
    assert "\u202e" not in shown


def test_a_mask_has_the_length_of_its_text() -> None:
    text = '{"phone": "+36 30 123", "név": "Ágnes"}'

    assert len(masked(text)) == len(text)
    assert not any(c.isalnum() for c in masked(text))
    assert masked(text).count('"') == 8


# -- many findings ------------------------------------------------------------------------


def test_a_thousand_findings_are_paged(monkeypatch: pytest.MonkeyPatch) -> None:
    from pend_storage.console import _screens
    from pend_storage.operations.divergences import Divergence

    many = tuple(
        Divergence(
            id=f"{n:032x}", collection="assets", key=f"a/{n}\n", kind="missing",
            source="validation", state="open", versions=(2**60, 0), differences=(),
            quarantined=None, first_seen=NOW, last_seen=NOW + timedelta(seconds=n),
        )
        for n in range(1_000)
    )  # fmt: skip
    monkeypatch.setattr(_screens, "list_divergences", lambda *_, **__: many)
    reading: Any = _Reading()
    seen, after = [], None
    while True:
        found = _screens.divergences(reading, {"after": after} if after else {})
        seen += [item["id"] for item in found["items"]]
        assert found["total"] == 1_000
        if found["next"] is None:
            break
        after = found["next"]

    assert len(set(seen)) == 1_000
    assert found["items"][0]["primary_version"] == str(2**60)
    filtered = _screens.divergences(reading, {"kind": "extra"})
    assert (filtered["items"], filtered["total"]) == ([], 0)


class _Store:
    schema = SCHEMA


class _Passive:
    pair = object()

    def primary(self) -> _Store:
        return _Store()


class _Reading:
    def environment(self) -> Any:
        from contextlib import nullcontext

        return nullcontext(_Passive())
